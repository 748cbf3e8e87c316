//! An image read slice by slice across z, as often as needed: memory holds one slice, however large the file is.
//!
//! Channels lie one behind the other in a file, and a slice needs a piece of each. Where a file can be entered anywhere,
//! each channel has a reader that began at its place. A compressed file cannot: it is inflated once, as the numbers that it
//! stores, into a file without a name ([`Store`]), and read from there.

use std::path::{Path, PathBuf};

use super::{
    Reader,
    header::Header,
    open,
    read::{deliver, piece},
    source::Source,
    store::{Shelf, Store},
    voxels,
};
use crate::{Error, Result};

/// An image whose slices can be read.
#[derive(Clone, Debug)]
pub struct Slices {
    path: PathBuf,
    header: Header,
    /// Where its inflated voxels are; none: in its own file.
    shelf: Option<Shelf>,
}

impl Slices {
    /// Opens an image. A compressed one is inflated and verified to its end.
    ///
    /// # Errors
    /// As [`super::read_header`], and for a compressed one as [`super::read_image`]; a store that cannot be written.
    pub fn open(path: &Path, store: &Store) -> Result<Self> {
        let mut reader = open(path, Source::open(path)?)?;
        let header = reader.header().clone();
        let mut shelf = None;
        if !reader.skips_freely() {
            let taken = store.take(header.voxel_bytes())?;
            let (mut place, mut outcome) = (0, Ok(()));
            deliver(&mut *reader, |bytes| {
                if outcome.is_ok() {
                    outcome = taken.put(place, bytes);
                }
                place += bytes.len() as u64;
            })?;
            outcome?;
            shelf = Some(taken);
        }
        Ok(Self { path: path.to_owned(), header, shelf })
    }

    /// What the file says about itself.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Whether this takes no room that others could have: for whoever keeps many.
    pub fn is_kept(&self) -> bool {
        self.shelf.as_ref().is_none_or(Shelf::is_shared)
    }

    /// From the first slice on.
    ///
    /// # Errors
    /// As [`super::read_header`]; a file that has changed since it was opened.
    pub fn read(&self) -> Result<SliceReader> {
        let header = self.header.clone();
        let planes = match &self.shelf {
            Some(shelf) => Planes::Inflated(shelf.clone()),
            None => Planes::Stored(self.readers()?),
        };
        let piece = piece(header.channel_bytes());
        let [x, y, _] = header.grid.extents;
        Ok(SliceReader { header, planes, piece, values: Vec::with_capacity(x * y), next: 0 })
    }

    /// A reader at the beginning of each channel.
    fn readers(&self) -> Result<Vec<Box<dyn Reader>>> {
        (0..self.header.channels as u64)
            .map(|channel| {
                let mut reader = open(&self.path, Source::open(&self.path)?)?;
                if *reader.header() != self.header {
                    return Err(Error::input(&self.path, "has changed", "try again when it is complete"));
                }
                reader.skip(channel * self.header.channel_bytes())?;
                Ok(reader)
            })
            .collect()
    }
}

/// Where a slice's pieces come from.
enum Planes {
    /// One reader per channel.
    Stored(Vec<Box<dyn Reader>>),
    Inflated(Shelf),
}

/// Reads the slices of an image in order of z.
pub struct SliceReader {
    header: Header,
    planes: Planes,
    piece: Vec<u8>,
    values: Vec<f32>,
    next: usize,
}

impl SliceReader {
    /// What the file says about itself.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Bytes that opening and reading an image take beside what it is read into.
    pub fn bytes(header: &Header) -> usize {
        // Per channel: a piece before and a piece behind the decompressor, and its window and tables.
        const DECOMPRESSOR: usize = 256 << 10;
        let [x, y, _] = header.grid.extents;
        x * y * size_of::<f32>() + (header.channels + 1) * DECOMPRESSOR
    }

    /// Reads the next slice of all channels into `out`, `[channel, y, x]`, scaling applied. With the last slice the file's
    /// end is verified.
    ///
    /// # Errors
    /// As [`super::read_image`].
    ///
    /// # Panics
    /// Behind the last slice, or if `out` does not hold a slice.
    pub fn read(&mut self, out: &mut [f32]) -> Result<()> {
        let [x, y, z] = self.header.grid.extents;
        let plane = x * y;
        assert!(self.next < z && out.len() == plane * self.header.channels, "one of {z} slices of {x} x {y}");
        let bytes = plane * self.header.encoding.voxel_type.bytes();
        for (channel, out) in out.chunks_exact_mut(plane).enumerate() {
            self.values.clear();
            let mut done = 0;
            while done < bytes {
                let length = self.piece.len().min(bytes - done);
                let piece = &mut self.piece[..length];
                match &mut self.planes {
                    Planes::Stored(readers) => readers[channel].read(piece)?,
                    Planes::Inflated(shelf) => {
                        let start = channel as u64 * self.header.channel_bytes();
                        shelf.get(start + (self.next * bytes + done) as u64, piece)?;
                    }
                }
                voxels::decode(self.header.encoding, piece, &mut self.values);
                done += length;
            }
            out.copy_from_slice(&self.values);
        }
        self.next += 1;
        if self.next == z
            && let Planes::Stored(readers) = &mut self.planes
        {
            let last = readers.last_mut().expect("an image has a channel");
            last.finish()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::{read_image, write_f32};

    #[test]
    fn slices_are_those_of_the_whole_image_compressed_or_not_as_often_as_they_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let header = Header::new([5, 3, 4], [1.0; 3]);
        let values: Vec<f32> = (0..180).map(|i| (i * i) as f32).collect();
        for name in ["image.nii", "image.nii.gz"] {
            let path = folder.path().join(name);
            write_f32(&path, &header, 3, &values).unwrap();
            let whole = read_image(&path).unwrap();
            let store = Store::beside(folder.path());
            let slices = Slices::open(&path, &store).unwrap();
            for _ in 0..2 {
                let mut reader = slices.read().unwrap();
                let mut slice = vec![0.0; 45];
                for z in 0..4 {
                    reader.read(&mut slice).unwrap();
                    for (channel, plane) in slice.chunks_exact(15).enumerate() {
                        assert_eq!(plane, &whole.voxels[channel * 60 + z * 15..][..15], "{name}, {channel}, {z}");
                    }
                }
            }
            assert_eq!(
                std::fs::read_dir(folder.path()).unwrap().filter(|f| f.as_ref().unwrap().path() != path).count(),
                0
            );
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn a_damaged_end_is_found_before_the_first_slice() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image.nii.gz");
        write_f32(&path, &Header::new([16, 16, 16], [1.0; 3]), 1, &vec![0.5; 4096]).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        let checksum = bytes.len() - 8;
        bytes[checksum] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let outcome = Slices::open(&path, &Store::beside(folder.path()));
        assert!(outcome.unwrap_err().to_string().contains("damaged gzip data"));
    }

    #[test]
    fn an_image_that_changes_between_two_readings_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image.nii");
        write_f32(&path, &Header::new([4, 4, 4], [1.0; 3]), 1, &[0.5; 64]).unwrap();
        let slices = Slices::open(&path, &Store::beside(folder.path())).unwrap();
        write_f32(&path, &Header::new([4, 4, 5], [1.0; 3]), 1, &[0.5; 80]).unwrap();
        assert!(slices.read().err().unwrap().to_string().contains("has changed"));
    }
}
