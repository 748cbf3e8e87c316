//! Writes NIfTI-1, little-endian, with the geometry fields of the file that the voxels belong to.

use std::{
    io::{self, Write},
    path::Path,
};

use flate2::{Compression, GzBuilder};

use super::{
    header::{Geometry, Header},
    voxels::VoxelType,
};
use crate::{
    Error, Result,
    files::{self, Existing},
};

/// A label map in memory, `[z, y, x]` row-major.
#[derive(Clone, Copy, Debug)]
pub enum LabelSlice<'a> {
    /// Up to 256 labels.
    U8(&'a [u8]),
    /// Up to 65536 labels.
    U16(&'a [u16]),
}

impl<'a> From<&'a [u8]> for LabelSlice<'a> {
    fn from(labels: &'a [u8]) -> Self {
        Self::U8(labels)
    }
}

impl<'a> From<&'a [u16]> for LabelSlice<'a> {
    fn from(labels: &'a [u16]) -> Self {
        Self::U16(labels)
    }
}

/// Writes labels on the grid of `like`, whose geometry fields are copied bit for bit (rounded to single precision when
/// `like` is NIfTI-2). Compressed when the name ends in `.gz`. An existing file is replaced: ask first.
///
/// # Errors
/// An extent beyond what NIfTI-1 can say (32767); the operating system's.
///
/// # Panics
/// When the number of labels is not that of the grid.
pub fn write_labels<'a>(path: &Path, like: &Header, labels: impl Into<LabelSlice<'a>>) -> Result<()> {
    match labels.into() {
        LabelSlice::U8(labels) => write(path, like, 1, VoxelType::U8, labels.len(), labels),
        LabelSlice::U16(labels) => {
            let bytes: Vec<u8> = labels.iter().flat_map(|label| label.to_le_bytes()).collect();
            write(path, like, 1, VoxelType::U16, labels.len(), &bytes)
        }
    }
}

/// Writes f32 values `[channel, z, y, x]` on the grid of `like`, as [`write_labels`] does; with several channels the
/// file has four axes.
///
/// # Errors
/// As [`write_labels`].
///
/// # Panics
/// When the number of values is not that of the grid times the channels.
pub fn write_f32(path: &Path, like: &Header, channels: usize, values: &[f32]) -> Result<()> {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    write(path, like, channels, VoxelType::F32, values.len(), &bytes)
}

fn write(
    path: &Path,
    like: &Header,
    channels: usize,
    voxel_type: VoxelType,
    count: usize,
    voxels: &[u8],
) -> Result<()> {
    assert_eq!(count, like.voxels() * channels, "voxels for {:?} x {channels}", like.extents);
    write_slices(path, like, channels, voxel_type, |file| file.write(voxels))
}

/// Takes the voxels of a file being written, in order.
pub struct SliceWriter<'a> {
    path: &'a Path,
    file: &'a mut dyn Write,
    left: u64,
}

impl SliceWriter<'_> {
    /// Writes the next voxels, as little-endian bytes.
    ///
    /// # Errors
    /// The operating system's.
    ///
    /// # Panics
    /// For more voxels than the grid has.
    pub fn write(&mut self, voxels: &[u8]) -> Result<()> {
        self.left = self.left.checked_sub(voxels.len() as u64).expect("no more voxels than the grid has");
        self.file.write_all(voxels).map_err(|error| Error::io(self.path, error))
    }
}

/// Writes a file as [`write_labels`] does, with the voxels that `fill` hands over piece by piece: memory need not hold them.
///
/// # Errors
/// As [`write_labels`], and whatever `fill` returns; then no file is left, and an older one stays.
///
/// # Panics
/// When `fill` hands over fewer or more voxels than the grid has.
pub fn write_slices(
    path: &Path,
    like: &Header,
    channels: usize,
    voxel_type: VoxelType,
    fill: impl FnOnce(&mut SliceWriter<'_>) -> Result<()>,
) -> Result<()> {
    let header = header_bytes(&like.geometry, like.extents, channels, voxel_type).ok_or_else(|| {
        let [x, y, z] = like.extents;
        Error::input(
            path,
            format!("{x} x {y} x {z} x {channels} voxels exceed NIfTI-1's 32767 per axis"),
            "crop the image",
        )
    })?;
    let left = (like.voxels() * channels) as u64 * voxel_type.bytes() as u64;
    // What `fill` says is told as it is, not as a failure to write.
    let mut failure = None;
    let fill = |file: &mut dyn Write| {
        file.write_all(&header)?;
        let mut writer = SliceWriter { path, file, left };
        if let Err(error) = fill(&mut writer) {
            failure = Some(error);
            return Err(io::Error::other("no voxels"));
        }
        assert_eq!(writer.left, 0, "voxels for {:?} x {channels}", like.extents);
        Ok(())
    };
    let is_gzip = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gz"));
    let outcome = files::write(path, Existing::Replace, |file| {
        if !is_gzip {
            return fill(file);
        }
        // No name and no time in the gzip header: the same labels give the same file.
        let mut gzip = GzBuilder::new().write(file, Compression::default());
        fill(&mut gzip)?;
        gzip.finish().map(|_| ())
    });
    match failure {
        Some(error) => Err(error),
        None => outcome,
    }
}

/// The 348 bytes of the header and the four that say "no extensions"; none when an extent is too large. Offsets from
/// the format's definition (nifti1.h).
fn header_bytes(geometry: &Geometry, extents: [usize; 3], channels: usize, voxel_type: VoxelType) -> Option<[u8; 352]> {
    let mut bytes = [0; 352];
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    let [x, y, z] = extents;
    let rank = if channels == 1 { 3 } else { 4 };
    put(0, &348i32.to_le_bytes());
    put(38, b"r"); // `regular`, which ANALYZE readers expect
    put(39, &[geometry.dim_info]);
    for (axis, extent) in [rank, x, y, z, channels, 1, 1, 1].into_iter().enumerate() {
        put(40 + 2 * axis, &i16::try_from(extent).ok()?.to_le_bytes());
    }
    put(70, &voxel_type.code().to_le_bytes());
    put(72, &(8 * voxel_type.bytes() as i16).to_le_bytes());
    for (axis, value) in geometry.pixdim.into_iter().enumerate() {
        put(76 + 4 * axis, &(value as f32).to_le_bytes());
    }
    put(108, &352f32.to_le_bytes());
    put(112, &1f32.to_le_bytes()); // slope
    put(123, &[geometry.xyzt_units]);
    put(252, &geometry.qform_code.to_le_bytes());
    put(254, &geometry.sform_code.to_le_bytes());
    for (i, value) in geometry.quaternion.into_iter().chain(geometry.offset).enumerate() {
        put(256 + 4 * i, &(value as f32).to_le_bytes());
    }
    for (i, value) in geometry.srow.as_flattened().iter().enumerate() {
        put(280 + 4 * i, &(*value as f32).to_le_bytes());
    }
    put(344, b"n+1\0");
    Some(bytes)
}
