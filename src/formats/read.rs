//! Whole files: images, label maps, headers.

use std::path::Path;

use super::{
    Header, Reader, open,
    source::{PIECE, Source},
    voxels,
};
use crate::{Error, Result};

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
/// A file that is missing, is of no known format, or whose header cannot be true.
pub fn read_header(path: &Path) -> Result<Header> {
    Ok(open(path, Source::open(path)?)?.header().clone())
}

/// Reads an image; integers are converted to the nearest f32, after scaling where the header asks for it.
///
/// # Errors
/// As [`read_header`]; a truncated or damaged file (gzip checksums are verified).
pub fn read_image(path: &Path) -> Result<Image> {
    read_image_into(path, Vec::new())
}

/// [`read_image`] into a buffer whose allocation is reused; what it holds is discarded.
///
/// # Errors
/// As [`read_image`].
pub fn read_image_into(path: &Path, buffer: Vec<f32>) -> Result<Image> {
    image(path, Source::open(path)?, buffer)
}

/// Reads a label map of any voxel type, floats included, provided that every value is a whole number in 0..=65535.
///
/// # Errors
/// As [`read_image`]; more than one channel; a value that is no label, with its position.
pub fn read_labels(path: &Path) -> Result<Labels> {
    read_labels_into(path, Vec::new())
}

/// [`read_labels`] into a buffer whose allocation is reused; what it holds is discarded.
///
/// # Errors
/// As [`read_labels`].
pub fn read_labels_into(path: &Path, buffer: Vec<u16>) -> Result<Labels> {
    labels(path, Source::open(path)?, buffer)
}

/// [`read_image`] from bytes in memory; `path` only names them in errors.
///
/// # Errors
/// As [`read_image`].
pub fn decode_image(path: &Path, bytes: &[u8]) -> Result<Image> {
    image(path, Source::from_bytes(path, bytes), Vec::new())
}

/// [`read_labels`] from bytes in memory; `path` only names them in errors.
///
/// # Errors
/// As [`read_labels`].
pub fn decode_labels(path: &Path, bytes: &[u8]) -> Result<Labels> {
    labels(path, Source::from_bytes(path, bytes), Vec::new())
}

fn image(path: &Path, source: Source<'_>, mut voxels: Vec<f32>) -> Result<Image> {
    let mut reader = open(path, source)?;
    let header = reader.header().clone();
    reserve(&mut voxels, header.voxels() * header.channels);
    deliver(&mut *reader, |bytes| voxels::decode(header.encoding, bytes, &mut voxels))?;
    Ok(Image { header, voxels })
}

fn labels(path: &Path, source: Source<'_>, mut voxels: Vec<u16>) -> Result<Labels> {
    let mut reader = open(path, source)?;
    let header = reader.header().clone();
    if header.channels != 1 {
        let cause = format!("a label map with {} channels", header.channels);
        return Err(Error::input(path, cause, "give one volume of whole numbers per case"));
    }
    reserve(&mut voxels, header.voxels());
    let mut stray = None;
    deliver(&mut *reader, |bytes| {
        if stray.is_none() {
            stray = voxels::decode_labels(header.encoding, bytes, &mut voxels).err();
        }
    })?;
    if let Some(value) = stray {
        let [x, y, z] = header.grid.position(voxels.len());
        let cause = format!("label {value} at voxel ({x}, {y}, {z})");
        return Err(Error::input(path, cause, "labels are whole numbers from 0 to 65535"));
    }
    Ok(Labels { header, voxels })
}

/// Hands all voxels' bytes to `take`, in pieces of whole voxels, then verifies the rest of the file: gzip keeps its checksum
/// at the end, so only a file read to its end is a verified one.
pub(super) fn deliver(reader: &mut dyn Reader, mut take: impl FnMut(&[u8])) -> Result<()> {
    let mut left = reader.header().voxel_bytes();
    let mut piece = piece(left);
    while left > 0 {
        let length = usize::try_from(left).unwrap_or(PIECE).min(piece.len());
        reader.read(&mut piece[..length])?;
        take(&piece[..length]);
        left -= length as u64;
    }
    reader.finish()
}

/// A buffer for deliveries of so many bytes.
pub(super) fn piece(bytes: u64) -> Vec<u8> {
    vec![0; usize::try_from(bytes).map_or(PIECE, |bytes| bytes.min(PIECE))]
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
