//! What a NIfTI file says about itself, checked before anything is believed.

use nifti::{Endianness, NiftiHeader};

use super::{affine, codes};
use crate::{
    formats::{Encoding, Refusal, Scaling, VoxelType},
    volume::{Affine, Grid},
};

/// The two versions of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    Nifti1,
    Nifti2,
}

/// The header's fields about space, as stored, so that a file on the same grid can carry them unchanged. Single
/// precision (NIfTI-1) is widened, which loses nothing on the way back.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Geometry {
    /// Units of space (bits 0..3) and time (bits 3..6).
    pub xyzt_units: u8,
    /// Frequency, phase and slice directions.
    pub dim_info: u8,
    /// Handedness of the qform, then grid spacings.
    pub pixdim: [f64; 8],
    /// Meaning of the qform; 0: unset.
    pub qform_code: i16,
    /// Meaning of the sform; 0: unset.
    pub sform_code: i16,
    /// The quaternion's b, c, d.
    pub quaternion: [f64; 3],
    /// The qform's offset.
    pub offset: [f64; 3],
    /// The sform's rows.
    pub srow: Affine,
}

/// A header that has been checked: extents are positive and their product fits, spacing is positive, the affine can be
/// inverted.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Header {
    pub version: Version,
    /// Where voxels lie, in mm, as the fields about space say.
    pub grid: Grid,
    /// Volumes in the file; 1 unless an axis after the third is longer than 1.
    pub channels: usize,
    /// Without a scaling when the slope is 0 or not finite, or when it would change nothing.
    pub encoding: Encoding,
    /// The fields about space, as stored.
    pub geometry: Geometry,
    /// Where the voxels start, in bytes of the (inflated) file.
    pub voxel_offset: u64,
}

impl Geometry {
    /// What a file says that never was one: mm, and the affine alone.
    pub fn of(grid: &Grid) -> Self {
        let [x, y, z] = grid.spacing;
        Self {
            xyzt_units: 2,
            dim_info: 0,
            pixdim: [1.0, x, y, z, 1.0, 1.0, 1.0, 1.0],
            qform_code: 0,
            sform_code: 1,
            quaternion: [0.0; 3],
            offset: [0.0; 3],
            srow: grid.affine,
        }
    }

    /// Where voxels lie.
    fn grid(&self, extents: [usize; 3]) -> Result<Grid, Refusal> {
        let unit = match self.xyzt_units & 7 {
            1 => 1000.0,
            3 => 0.001,
            _ => 1.0, // 2: mm; 0: unknown, by custom mm
        };
        let spacing = affine::spacing(self).ok_or_else(|| {
            let [_, x, y, z, ..] = self.pixdim;
            (format!("voxel spacing {x} x {y} x {z}"), "set positive pixdim values")
        })?;
        let affine = affine::affine(self, spacing).map(|row| row.map(|value| value * unit));
        Ok(Grid { extents, spacing: spacing.map(|length| length * unit), affine })
    }
}

impl Header {
    /// Bytes of a NIfTI-1 header, and of the part of any header that tells the versions apart.
    pub const BYTES_1: usize = 348;
    /// Bytes of a NIfTI-2 header.
    pub const BYTES_2: usize = 540;

    /// The version that the first four bytes announce, with the byte order.
    pub fn announced(start: [u8; 4]) -> Option<(Version, bool)> {
        match (i32::from_le_bytes(start), i32::from_be_bytes(start)) {
            (348, _) => Some((Version::Nifti1, false)),
            (_, 348) => Some((Version::Nifti1, true)),
            (540, _) => Some((Version::Nifti2, false)),
            (_, 540) => Some((Version::Nifti2, true)),
            _ => None,
        }
    }

    /// Reads a header of [`Self::BYTES_1`] or [`Self::BYTES_2`] bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        let start = bytes.first_chunk().copied().unwrap_or_default();
        match Self::announced(start) {
            Some((Version::Nifti1, big_endian)) => check(fields_1(bytes, big_endian)?, Version::Nifti1, big_endian),
            Some((Version::Nifti2, big_endian)) => check(fields_2(bytes, big_endian)?, Version::Nifti2, big_endian),
            None => Err(not_nifti()),
        }
    }
}

/// The fields of either version that are used, not yet believed.
struct Fields {
    datatype: i16,
    dim: [i64; 8],
    voxel_offset: Option<u64>,
    slope: f64,
    intercept: f64,
    geometry: Geometry,
}

fn fields_1(bytes: &[u8], big_endian: bool) -> Result<Fields, Refusal> {
    // A header without the magic (ANALYZE 7.5, or the header of a pair) gets its own advice before the crate's refusal.
    check_magic(bytes.get(344..347).unwrap_or_default(), b"n+1", b"ni1")?;
    let header = NiftiHeader::from_reader(bytes).map_err(|_| not_nifti())?;
    let order = if big_endian { Endianness::Big } else { Endianness::Little };
    if header.endianness != order {
        // The crate guesses the byte order from dim[0], we from the header's size: they differ when dim[0] is nonsense.
        return Err(damaged("the number of axes is not in 1..=7"));
    }
    let offset = f64::from(header.vox_offset);
    let is_offset = offset >= 0.0 && offset.fract() == 0.0 && offset < 1e18;
    let rows = [header.srow_x, header.srow_y, header.srow_z];
    Ok(Fields {
        datatype: header.datatype,
        // The format's extents are signed; the crate reads them as unsigned.
        dim: header.dim.map(|extent| i64::from(extent as i16)),
        voxel_offset: is_offset.then_some(offset as u64),
        slope: header.scl_slope.into(),
        intercept: header.scl_inter.into(),
        geometry: Geometry {
            xyzt_units: header.xyzt_units,
            dim_info: header.dim_info,
            pixdim: header.pixdim.map(f64::from),
            qform_code: header.qform_code,
            sform_code: header.sform_code,
            quaternion: [header.quatern_b, header.quatern_c, header.quatern_d].map(f64::from),
            offset: [header.quatern_x, header.quatern_y, header.quatern_z].map(f64::from),
            srow: rows.map(|row| row.map(f64::from)),
        },
    })
}

/// NIfTI-2, which the crate does not read. Offsets from the format's definition (nifti2.h).
fn fields_2(bytes: &[u8], big_endian: bool) -> Result<Fields, Refusal> {
    let bytes: &[u8; Header::BYTES_2] = bytes.try_into().map_err(|_| not_nifti())?;
    check_magic(&bytes[4..7], b"n+2", b"ni2")?;
    if bytes[7..12] != [0, b'\r', b'\n', 0x1a, b'\n'] {
        return Err(damaged("the bytes after the magic were changed, as by a transfer in text mode"));
    }
    let word = |at: usize| {
        let word: [u8; 8] = std::array::from_fn(|i| bytes[at + i]);
        if big_endian { u64::from_be_bytes(word) } else { u64::from_le_bytes(word) }
    };
    let half = |at: usize| {
        let word: [u8; 4] = std::array::from_fn(|i| bytes[at + i]);
        if big_endian { i32::from_be_bytes(word) } else { i32::from_le_bytes(word) }
    };
    let real = |at: usize| f64::from_bits(word(at));
    let code = |at: usize| i16::try_from(half(at)).map_err(|_| damaged("a code is out of range"));
    let datatype = if big_endian { [bytes[12], bytes[13]] } else { [bytes[13], bytes[12]] };
    Ok(Fields {
        datatype: i16::from_be_bytes(datatype),
        dim: std::array::from_fn(|i| word(16 + 8 * i) as i64),
        voxel_offset: i64::try_from(word(168)).ok().map(|offset| offset as u64),
        slope: real(176),
        intercept: real(184),
        geometry: Geometry {
            xyzt_units: u8::try_from(half(500)).map_err(|_| damaged("the unit code is out of range"))?,
            dim_info: bytes[524],
            pixdim: std::array::from_fn(|i| real(104 + 8 * i)),
            qform_code: code(344)?,
            sform_code: code(348)?,
            quaternion: std::array::from_fn(|i| real(352 + 8 * i)),
            offset: std::array::from_fn(|i| real(376 + 8 * i)),
            srow: std::array::from_fn(|row| std::array::from_fn(|i| real(400 + 32 * row + 8 * i))),
        },
    })
}

fn check(fields: Fields, version: Version, is_big_endian: bool) -> Result<Header, Refusal> {
    let voxel_type = codes::voxel_type(fields.datatype)?;
    let (extents, channels) = extents(&fields.dim, voxel_type)?;
    let smallest = match version {
        Version::Nifti1 => 352,
        Version::Nifti2 => 544,
    };
    let voxel_offset = match fields.voxel_offset {
        Some(0) => smallest, // unset; the standard's smallest
        Some(offset) if offset >= smallest => offset,
        _ => return Err(damaged("the voxels' offset lies inside the header or is no whole number")),
    };
    let mut scaling = None;
    if fields.slope != 0.0 && fields.slope.is_finite() && (fields.slope, fields.intercept) != (1.0, 0.0) {
        if !fields.intercept.is_finite() {
            return Err(damaged(format!("scaling has slope {} but intercept {}", fields.slope, fields.intercept)));
        }
        scaling = Some(Scaling { slope: fields.slope, intercept: fields.intercept });
    }
    let geometry = fields.geometry;
    let grid = geometry.grid(extents)?;
    let encoding = Encoding { voxel_type, is_big_endian, scaling };
    Ok(Header { version, grid, channels, encoding, geometry, voxel_offset })
}

/// Extents x, y, z and channels. After the third axis one axis may be longer than 1: time of length 1 is skipped, and
/// whatever the file calls the other, it is read as channels.
fn extents(dim: &[i64; 8], voxel_type: VoxelType) -> Result<([usize; 3], usize), Refusal> {
    let shape = match dim[0] {
        rank @ 1..=7 => &dim[1..=rank as usize],
        _ => return Err(damaged("the number of axes is not in 1..=7")),
    };
    let text = || shape.iter().map(i64::to_string).collect::<Vec<_>>().join(" x ");
    if shape.iter().any(|extent| *extent < 1) {
        return Err((format!("extents {}", text()), "every axis needs at least one voxel"));
    }
    let &[x, y, z, ref rest @ ..] = shape else {
        return Err((
            format!("{} axes ({})", shape.len(), text()),
            "give volumes with three axes, or four with channels",
        ));
    };
    if rest.iter().filter(|extent| **extent > 1).count() > 1 {
        return Err((format!("extents {}", text()), "only one axis after the third may be longer than 1"));
    }
    let channels = rest.iter().copied().max().unwrap_or(1);
    let bytes = [x, y, z, channels, voxel_type.bytes().max(4) as i64]
        .iter()
        .try_fold(1i64, |product, factor| product.checked_mul(*factor));
    if bytes.is_none_or(|bytes| isize::try_from(bytes).is_err()) {
        return Err(damaged(format!("extents {} do not fit into memory addresses", text())));
    }
    Ok(([x as usize, y as usize, z as usize], channels as usize))
}

fn check_magic(magic: &[u8], single: &[u8; 3], pair: &[u8; 3]) -> Result<(), Refusal> {
    if magic == single {
        return Ok(());
    }
    if magic == pair {
        return Err(("the header of a .hdr/.img pair".into(), "convert the pair to one .nii or .nii.gz file"));
    }
    if magic.first() == Some(&0) {
        return Err(("an ANALYZE 7.5 header".into(), "convert it to .nii or .nii.gz"));
    }
    Err(not_nifti())
}

pub(super) fn not_nifti() -> Refusal {
    ("not a NIfTI file".into(), "give a .nii or .nii.gz file")
}

fn damaged(cause: impl Into<String>) -> Refusal {
    (format!("damaged NIfTI header: {}", cause.into()), "export the file again")
}
