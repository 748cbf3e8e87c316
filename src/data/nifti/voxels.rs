//! Bytes to numbers: every integer and float type, either byte order.

use nifti::NiftiType;
use serde::{Deserialize, Serialize};

use super::header::{Header, Scaling};

/// The voxel types that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the names say it")]
pub enum VoxelType {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    F32,
    F64,
}

impl VoxelType {
    /// The type of a NIfTI code, or the sentence that says why there is none.
    pub(super) fn from_nifti(code: i16, known: Option<NiftiType>) -> Result<Self, String> {
        Ok(match known {
            Some(NiftiType::Uint8) => Self::U8,
            Some(NiftiType::Int8) => Self::I8,
            Some(NiftiType::Uint16) => Self::U16,
            Some(NiftiType::Int16) => Self::I16,
            Some(NiftiType::Uint32) => Self::U32,
            Some(NiftiType::Int32) => Self::I32,
            Some(NiftiType::Uint64) => Self::U64,
            Some(NiftiType::Int64) => Self::I64,
            Some(NiftiType::Float32) => Self::F32,
            Some(NiftiType::Float64) => Self::F64,
            Some(other) => {
                let name = match other {
                    NiftiType::Complex64 => "complex64",
                    NiftiType::Complex128 => "complex128",
                    NiftiType::Complex256 => "complex256",
                    NiftiType::Rgb24 => "rgb24",
                    NiftiType::Rgba32 => "rgba32",
                    _ => "float128",
                };
                return Err(format!("voxels of type {name} (code {code})"));
            }
            None => return Err(format!("unknown voxel type code {code}")),
        })
    }

    /// The NIfTI code.
    pub(super) fn code(self) -> i16 {
        (match self {
            Self::U8 => NiftiType::Uint8,
            Self::I8 => NiftiType::Int8,
            Self::U16 => NiftiType::Uint16,
            Self::I16 => NiftiType::Int16,
            Self::U32 => NiftiType::Uint32,
            Self::I32 => NiftiType::Int32,
            Self::U64 => NiftiType::Uint64,
            Self::I64 => NiftiType::Int64,
            Self::F32 => NiftiType::Float32,
            Self::F64 => NiftiType::Float64,
        }) as i16
    }

    /// Bytes of one voxel of one channel.
    pub const fn bytes(self) -> usize {
        match self {
            Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }
}

impl std::fmt::Display for VoxelType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::U8 => "u8",
            Self::I8 => "i8",
            Self::U16 => "u16",
            Self::I16 => "i16",
            Self::U32 => "u32",
            Self::I32 => "i32",
            Self::U64 => "u64",
            Self::I64 => "i64",
            Self::F32 => "f32",
            Self::F64 => "f64",
        })
    }
}

/// Appends the numbers in `bytes`, a whole number of voxels in the header's type and byte order.
pub(super) fn decode(header: &Header, bytes: &[u8], out: &mut Vec<f32>) {
    struct Append<'a>(&'a mut Vec<f32>, Option<Scaling>);
    impl Visit for Append<'_> {
        type Outcome = ();
        fn visit<T: Number>(self, values: impl Iterator<Item = T>) {
            match self.1 {
                None => self.0.extend(values.map(T::nearest_f32)),
                Some(scaling) => self.0.extend(values.map(|value| scaling.apply(value.nearest_f64()) as f32)),
            }
        }
    }
    visit(header, bytes, Append(out, header.scaling));
}

/// Appends labels up to the first value that is none; that value, as text, is the error.
pub(super) fn decode_labels(header: &Header, bytes: &[u8], out: &mut Vec<u16>) -> Result<(), String> {
    struct Append<'a>(&'a mut Vec<u16>, Option<Scaling>);
    impl Visit for Append<'_> {
        type Outcome = Result<(), String>;
        fn visit<T: Number>(self, values: impl Iterator<Item = T>) -> Self::Outcome {
            for value in values {
                // 64-bit integers beyond 2^53 round, but never down into the range of labels.
                let number = self.1.map_or(value.nearest_f64(), |scaling| scaling.apply(value.nearest_f64()));
                let label = number as u16;
                if f64::from(label) != number {
                    return Err(number.to_string());
                }
                self.0.push(label);
            }
            Ok(())
        }
    }
    visit(header, bytes, Append(out, header.scaling))
}

/// What to do with the numbers, whatever their type.
trait Visit {
    type Outcome;
    fn visit<T: Number>(self, values: impl Iterator<Item = T>) -> Self::Outcome;
}

/// The conversions that voxels need.
trait Number: Copy {
    fn nearest_f32(self) -> f32;
    fn nearest_f64(self) -> f64;
}

fn visit<V: Visit>(header: &Header, bytes: &[u8], visitor: V) -> V::Outcome {
    macro_rules! numbers {
        ($type:ty) => {{
            let (chunks, _) = bytes.as_chunks::<{ size_of::<$type>() }>();
            match header.big_endian {
                false => visitor.visit(chunks.iter().map(|chunk| <$type>::from_le_bytes(*chunk))),
                true => visitor.visit(chunks.iter().map(|chunk| <$type>::from_be_bytes(*chunk))),
            }
        }};
    }
    match header.voxel_type {
        VoxelType::U8 => numbers!(u8),
        VoxelType::I8 => numbers!(i8),
        VoxelType::U16 => numbers!(u16),
        VoxelType::I16 => numbers!(i16),
        VoxelType::U32 => numbers!(u32),
        VoxelType::I32 => numbers!(i32),
        VoxelType::U64 => numbers!(u64),
        VoxelType::I64 => numbers!(i64),
        VoxelType::F32 => numbers!(f32),
        VoxelType::F64 => numbers!(f64),
    }
}

macro_rules! number {
    ($($type:ty)*) => {$(
        impl Number for $type {
            fn nearest_f32(self) -> f32 {
                self as f32
            }
            fn nearest_f64(self) -> f64 {
                self as f64
            }
        }
    )*};
}
number!(u8 i8 u16 i16 u32 i32 u64 i64 f32 f64);
