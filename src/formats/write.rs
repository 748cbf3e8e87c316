//! Whole files that appear complete or not at all, in the format that their name asks for.

use std::{
    io::{self, Write},
    path::Path,
};

use flate2::{Compression, GzBuilder};

use super::{Writer, by_name, endings, header::Header, voxels::VoxelType};
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

/// Writes labels on the grid of `like`. If it came from a file of the same format, what that file says about space is copied
/// bit for bit (as far as the version that is written can say it). Compressed when the name ends in `.gz`. An existing file
/// is replaced: ask first.
///
/// # Errors
/// A name that belongs to no format; a grid that the format cannot say; the operating system's.
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
    assert_eq!(count, like.voxels() * channels, "voxels for {:?} x {channels}", like.grid.extents);
    write_slices(path, like, channels, voxel_type, |file| file.write(voxels))
}

/// Takes the voxels of a file being written, in order.
pub struct SliceWriter<'a> {
    path: &'a Path,
    writer: &'a mut dyn Writer,
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
        self.writer.voxels(self.file, voxels).map_err(|error| Error::io(self.path, error))
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
    let Some(format) = by_name(path) else {
        let advice = format!("give a name that ends in {}", endings());
        return Err(Error::input(path, "not the name of a volume", advice));
    };
    let made = format.writer(like, channels, voxel_type);
    let mut writer = made.map_err(|(cause, advice)| Error::input(path, cause, advice))?;
    let left = (like.voxels() * channels) as u64 * voxel_type.bytes() as u64;
    // What `fill` says is told as it is, not as a failure to write.
    let mut failure = None;
    let fill = |file: &mut dyn Write| {
        writer.begin(file)?;
        let mut slices = SliceWriter { path, writer: &mut *writer, file, left };
        if let Err(error) = fill(&mut slices) {
            failure = Some(error);
            return Err(io::Error::other("no voxels"));
        }
        assert_eq!(slices.left, 0, "voxels for {:?} x {channels}", like.grid.extents);
        writer.end(file)
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
