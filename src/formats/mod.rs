//! Files that hold volumes, of whatever format. Nothing outside this folder knows one by its name.
//!
//! A format is a folder here and a line in `BUILT_IN` (or a call of [`register`], for one that lives elsewhere): a
//! [`Format`] makes a [`Reader`] of bytes and a [`Writer`] for a grid. Everything else is done once for all of them: gzip,
//! numbers of any type and byte order, label maps, slices, damage that is found, files that appear whole or not at all.
//!
//! Files are read by what they hold and written by what they are called. Voxels come and go as `[channel, z, y, x]`
//! row-major; the network's D, H, W are z, y, x.

mod header;
pub mod memory;
mod nifti;
mod raw;
mod read;
mod slices;
mod source;
mod store;
mod voxels;
mod write;

use std::{
    path::Path,
    sync::{PoisonError, RwLock},
};

pub use header::{Encoding, Header, Native, Scaling};
pub use raw::RawReader;
pub use read::{
    Image, Labels, decode_image, decode_labels, read_header, read_image, read_image_into, read_labels, read_labels_into,
};
pub use slices::{SliceReader, Slices};
pub use source::{Source, inflated_bytes};
pub use store::Store;
pub use voxels::VoxelType;
pub use write::{LabelSlice, SliceWriter, write_f32, write_labels, write_slices};

use crate::{Error, Result};

/// A file format.
pub trait Format: Sync {
    /// What people call it.
    fn name(&self) -> &'static str;

    /// How its files' names end, such as `.nii`. A further `.gz` means a file that is compressed as a whole.
    fn ending(&self) -> &'static str;

    /// Whether a file that begins with these bytes (inflated; [`START`] of them, or all that there are) is of this format.
    fn recognises(&self, start: &[u8]) -> bool;

    /// Reads a file's header, and stands before its voxels.
    ///
    /// # Errors
    /// What is wrong with the file, and what can be done about it.
    fn reader<'a>(&self, source: Source<'a>) -> Result<Box<dyn Reader + 'a>>;

    /// Prepares a file on the grid of `like`: with its header's own bytes, if it came from a file of this format and still
    /// has that file's grid.
    ///
    /// # Errors
    /// What the format cannot say.
    fn writer(&self, like: &Header, channels: usize, voxel_type: VoxelType) -> Result<Box<dyn Writer>, Refusal>;
}

/// A file being read from its first voxel to its last.
pub trait Reader {
    /// What the file says about itself.
    fn header(&self) -> &Header;

    /// Fills in the next voxels as they are stored: whole voxels, `[channel, z, y, x]`.
    ///
    /// # Errors
    /// A truncated or damaged file.
    fn read(&mut self, voxels: &mut [u8]) -> Result<()>;

    /// Passes over so many bytes of voxels.
    ///
    /// # Errors
    /// As [`Self::read`].
    fn skip(&mut self, bytes: u64) -> Result<()>;

    /// Whether [`Self::skip`] costs next to nothing.
    fn skips_freely(&self) -> bool;

    /// Verifies what lies behind the voxels: a checksum, or that there is not more than the header describes.
    ///
    /// # Errors
    /// As [`Self::read`].
    fn finish(&mut self) -> Result<()>;
}

/// A file being written. All that can be refused was refused when this was made.
pub trait Writer {
    /// Writes what lies before the voxels.
    ///
    /// # Errors
    /// The operating system's.
    fn begin(&mut self, file: &mut dyn std::io::Write) -> std::io::Result<()>;

    /// Writes the next voxels, little-endian numbers of the type asked for, `[channel, z, y, x]`.
    ///
    /// # Errors
    /// The operating system's.
    fn voxels(&mut self, file: &mut dyn std::io::Write, voxels: &[u8]) -> std::io::Result<()> {
        file.write_all(voxels)
    }

    /// Writes what lies behind the voxels.
    ///
    /// # Errors
    /// The operating system's.
    fn end(&mut self, _file: &mut dyn std::io::Write) -> std::io::Result<()> {
        Ok(())
    }
}

/// Cause and advice of what cannot be read or written.
pub type Refusal = (String, &'static str);

/// Bytes by which formats are recognised.
pub const START: usize = 512;

/// The formats that come with Gyrus.
const BUILT_IN: &[&dyn Format] = &[&nifti::Nifti];

/// The others.
static REGISTERED: RwLock<Vec<&'static dyn Format>> = RwLock::new(Vec::new());

/// Adds a format for the rest of the process; registering one twice is the same as once.
pub fn register(format: &'static dyn Format) {
    let mut registered = REGISTERED.write().unwrap_or_else(PoisonError::into_inner);
    if registered.iter().all(|known| known.name() != format.name()) {
        registered.push(format);
    }
}

/// All formats.
fn formats() -> Vec<&'static dyn Format> {
    let registered = REGISTERED.read().unwrap_or_else(PoisonError::into_inner);
    BUILT_IN.iter().chain(registered.iter()).copied().collect()
}

/// What precedes the ending of a volume's file name: `a` of `a.nii` and `a.nii.gz`. None for names that end otherwise.
pub fn stem(file_name: &str) -> Option<&str> {
    let name = file_name.strip_suffix(".gz").unwrap_or(file_name);
    formats().iter().find_map(|format| name.strip_suffix(format.ending()))
}

/// All endings, as a list for people: `.nii or .nii.gz`.
pub fn endings() -> String {
    let all: Vec<String> =
        formats().iter().flat_map(|format| [format.ending().to_owned(), format!("{}.gz", format.ending())]).collect();
    let (last, others) = all.split_last().expect("there is a format");
    format!("{} or {last}", others.join(", "))
}

/// The format by a file's name.
fn by_name(path: &Path) -> Option<&'static dyn Format> {
    let name = path.file_name()?.to_str()?;
    let name = name.strip_suffix(".gz").unwrap_or(name);
    formats().into_iter().find(|format| name.ends_with(format.ending()))
}

/// A reader for a file, by what it holds; where that is nothing known, by its name, so that who was meant says what is
/// wrong.
fn open<'a>(path: &Path, mut source: Source<'a>) -> Result<Box<dyn Reader + 'a>> {
    let start = source.start()?;
    let by_content = formats().into_iter().find(|format| format.recognises(start));
    let Some(format) = by_content.or_else(|| by_name(path)) else {
        return Err(Error::input(path, "not a volume of a known format", format!("give a {} file", endings())));
    };
    let reader = format.reader(source)?;
    reader.header().check().map_err(|(cause, advice)| Error::input(path, cause, advice))?;
    Ok(reader)
}
