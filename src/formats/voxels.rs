//! Bytes to numbers: every integer and float type, either byte order.

use serde::{Deserialize, Serialize};

use super::header::{Encoding, Scaling};

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

/// Appends the numbers in `bytes`, a whole number of voxels.
pub(super) fn decode(encoding: Encoding, bytes: &[u8], out: &mut Vec<f32>) {
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
    visit(encoding, bytes, Append(out, encoding.scaling));
}

/// Appends labels up to the first value that is none; that value, as text, is the error.
pub(super) fn decode_labels(encoding: Encoding, bytes: &[u8], out: &mut Vec<u16>) -> Result<(), String> {
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
    visit(encoding, bytes, Append(out, encoding.scaling))
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

fn visit<V: Visit>(encoding: Encoding, bytes: &[u8], visitor: V) -> V::Outcome {
    macro_rules! numbers {
        ($type:ty) => {{
            let (chunks, _) = bytes.as_chunks::<{ size_of::<$type>() }>();
            match encoding.is_big_endian {
                false => visitor.visit(chunks.iter().map(|chunk| <$type>::from_le_bytes(*chunk))),
                true => visitor.visit(chunks.iter().map(|chunk| <$type>::from_be_bytes(*chunk))),
            }
        }};
    }
    match encoding.voxel_type {
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
