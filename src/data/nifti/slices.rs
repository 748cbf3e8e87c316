//! An image read slice by slice across z: memory holds one slice, however large the file is.
//!
//! Channels lie one behind the other in the file, so each has a reader of its own that began at its place. In a
//! compressed file what lies before must be inflated once for each channel behind it.

use std::path::Path;

use super::{header::Header, source::Source, voxels};
use crate::{Error, Result};

/// Reads the slices of an image in order of z.
pub struct SliceReader {
    header: Header,
    /// One per channel.
    sources: Vec<Source<'static>>,
    piece: Vec<u8>,
    values: Vec<f32>,
    next: usize,
}

impl SliceReader {
    /// Opens an image and checks its header.
    ///
    /// # Errors
    /// As [`super::read_header`].
    pub fn open(path: &Path) -> Result<Self> {
        let mut first = Source::open(path)?;
        let header = first.header()?;
        let channel_bytes = header.voxel_bytes() / header.channels as u64;
        let mut sources = vec![first];
        for _ in 1..header.channels {
            let mut source = Source::open(path)?;
            if source.header()? != header {
                return Err(Error::input(path, "changes while it is read", "try again when it is complete"));
            }
            sources.push(source);
        }
        for (channel, source) in sources.iter_mut().enumerate() {
            source.skip_to_voxel(&header, channel as u64 * channel_bytes)?;
        }
        let piece = Source::piece(channel_bytes);
        let values = Vec::with_capacity(header.extents[0] * header.extents[1]);
        Ok(Self { header, sources, piece, values, next: 0 })
    }

    /// What the file says about itself.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Bytes that reading an image takes beside what it is read into.
    pub fn bytes(header: &Header) -> usize {
        // Per channel: a piece before and a piece behind the decompressor, and its window and tables.
        const DECOMPRESSOR: usize = 256 << 10;
        header.extents[0] * header.extents[1] * size_of::<f32>() + (header.channels + 1) * DECOMPRESSOR
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
        let [x, y, z] = self.header.extents;
        let plane = x * y;
        assert!(self.next < z && out.len() == plane * self.sources.len(), "one of {z} slices of {x} x {y}");
        let bytes = plane as u64 * self.header.voxel_type.bytes() as u64;
        for (source, out) in self.sources.iter_mut().zip(out.chunks_exact_mut(plane)) {
            let (header, values) = (&self.header, &mut self.values);
            values.clear();
            source.deliver(header, bytes, &mut self.piece, &mut |bytes| voxels::decode(header, bytes, values))?;
            out.copy_from_slice(values);
        }
        self.next += 1;
        if self.next == z {
            let last = self.sources.last_mut().expect("an image has a channel");
            last.finish(&self.header, &mut self.piece)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::nifti::{read_image, write_f32};

    #[test]
    fn slices_are_those_of_the_whole_image_compressed_or_not() {
        let folder = tempfile::tempdir().unwrap();
        let header = Header::new([5, 3, 4], [1.0; 3]);
        let values: Vec<f32> = (0..180).map(|i| (i * i) as f32).collect();
        for name in ["image.nii", "image.nii.gz"] {
            let path = folder.path().join(name);
            write_f32(&path, &header, 3, &values).unwrap();
            let whole = read_image(&path).unwrap();
            let mut reader = SliceReader::open(&path).unwrap();
            let mut slice = vec![0.0; 45];
            for z in 0..4 {
                reader.read(&mut slice).unwrap();
                for (channel, plane) in slice.chunks_exact(15).enumerate() {
                    assert_eq!(plane, &whole.voxels[channel * 60 + z * 15..][..15], "{name}, {channel}, {z}");
                }
            }
        }
    }

    #[test]
    fn a_damaged_end_is_found_with_the_last_slice() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image.nii.gz");
        write_f32(&path, &Header::new([16, 16, 16], [1.0; 3]), 1, &vec![0.5; 4096]).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        let checksum = bytes.len() - 8;
        bytes[checksum] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let mut reader = SliceReader::open(&path).unwrap();
        let mut slice = vec![0.0; 256];
        let outcome: Result<()> = (0..16).try_for_each(|_| reader.read(&mut slice));
        assert!(outcome.unwrap_err().to_string().contains("damaged gzip data"));
    }
}
