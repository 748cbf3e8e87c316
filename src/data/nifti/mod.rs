//! NIfTI files: a reader that trusts nothing it has not checked, and a writer.
//!
//! Read: NIfTI-1 and -2, `.nii` and `.nii.gz` (told apart by content, not by name), either byte order, every integer
//! and float type. Written: NIfTI-1, little-endian. The NIfTI-1 header's field layout and the type codes come from the
//! `nifti` crate; inflating, offsets, scaling and voxels are ours, because a stranger's file must end in an image or in
//! one line that says what is wrong with it.
//!
//! Voxels keep the file's memory order: x fastest, then y, z, channel. Read as a row-major array that is
//! `[channel, z, y, x]`, and the network's D, H, W are z, y, x.

mod affine;
mod header;
mod slices;
mod source;
mod voxels;
mod write;

use std::path::Path;

pub use affine::{Affine, orientation_code};
pub use header::{Geometry, Header, Scaling, Version};
pub use slices::SliceReader;
pub use voxels::VoxelType;
pub use write::{LabelSlice, SliceWriter, write_f32, write_labels, write_slices};

use self::source::Source;
use crate::Result;

/// An image with its scaling applied.
#[derive(Clone, Debug)]
pub struct Image {
    /// What the file said about itself.
    pub header: Header,
    /// Values, `[channel, z, y, x]` row-major.
    pub voxels: Vec<f32>,
}

/// A label map: whole numbers from 0 to 65535.
#[derive(Clone, Debug)]
pub struct Labels {
    /// What the file said about itself.
    pub header: Header,
    /// Labels, `[z, y, x]` row-major.
    pub voxels: Vec<u16>,
}

/// Reads and checks the header alone; of the voxels, only that the file is large enough to hold them.
///
/// # Errors
/// A file that is missing, is not NIfTI, or whose header cannot be true.
pub fn read_header(path: &Path) -> Result<Header> {
    Source::open(path)?.header()
}

/// Reads an image; integers are converted to the nearest f32, after scaling where the header asks for it.
///
/// # Errors
/// As [`read_header`]; a truncated or damaged file (gzip checksums are verified).
pub fn read_image(path: &Path) -> Result<Image> {
    image(Source::open(path)?, Vec::new())
}

/// [`read_image`] into a buffer whose allocation is reused; what it holds is discarded.
///
/// # Errors
/// As [`read_image`].
pub fn read_image_into(path: &Path, buffer: Vec<f32>) -> Result<Image> {
    image(Source::open(path)?, buffer)
}

/// Reads a label map of any voxel type, floats included, provided that every value is a whole number in 0..=65535.
///
/// # Errors
/// As [`read_image`]; more than one channel; a value that is no label, with its position.
pub fn read_labels(path: &Path) -> Result<Labels> {
    labels(Source::open(path)?, Vec::new())
}

/// [`read_labels`] into a buffer whose allocation is reused; what it holds is discarded.
///
/// # Errors
/// As [`read_labels`].
pub fn read_labels_into(path: &Path, buffer: Vec<u16>) -> Result<Labels> {
    labels(Source::open(path)?, buffer)
}

/// [`read_image`] from bytes in memory; `path` only names them in errors.
///
/// # Errors
/// As [`read_image`].
pub fn decode_image(path: &Path, bytes: &[u8]) -> Result<Image> {
    image(Source::from_bytes(path, bytes), Vec::new())
}

/// [`read_labels`] from bytes in memory; `path` only names them in errors.
///
/// # Errors
/// As [`read_labels`].
pub fn decode_labels(path: &Path, bytes: &[u8]) -> Result<Labels> {
    labels(Source::from_bytes(path, bytes), Vec::new())
}

fn image(mut source: Source, mut voxels: Vec<f32>) -> Result<Image> {
    let header = source.header()?;
    reserve(&mut voxels, header.voxels() * header.channels);
    source.voxels(&header, |bytes| voxels::decode(&header, bytes, &mut voxels))?;
    Ok(Image { header, voxels })
}

/// Empties a buffer and makes room for exactly this many values: growing piece by piece would take up to twice as much. The
/// number is only what a header says, so it is asked for and not insisted on; pages that no voxel reaches are never touched.
fn reserve<T>(buffer: &mut Vec<T>, count: usize) {
    buffer.clear();
    if buffer.capacity() < count {
        // Given back first: there is no room for both.
        *buffer = Vec::new();
    }
    // If it cannot be had, growing finds out whether the file really holds so much.
    let _ = buffer.try_reserve_exact(count);
}

fn labels(mut source: Source, mut voxels: Vec<u16>) -> Result<Labels> {
    let header = source.header()?;
    if header.channels != 1 {
        let cause = format!("a label map with {} channels", header.channels);
        return Err(source.bad(cause, "give one volume of whole numbers per case"));
    }
    reserve(&mut voxels, header.voxels());
    let mut stray = None;
    source.voxels(&header, |bytes| {
        if stray.is_none() {
            stray = voxels::decode_labels(&header, bytes, &mut voxels).err();
        }
    })?;
    if let Some(value) = stray {
        let [x, y, z] = header.position(voxels.len());
        let cause = format!("label {value} at voxel ({x}, {y}, {z})");
        return Err(source.bad(cause, "labels are whole numbers from 0 to 65535"));
    }
    Ok(Labels { header, voxels })
}

#[cfg(test)]
mod tests;
