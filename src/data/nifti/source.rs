//! Inflates and delivers bytes in pieces, so that memory follows what the file really holds and not what it claims.

use std::{
    fs::{self, File},
    io::{self, BufReader, Cursor, Read},
    path::{Path, PathBuf},
};

use flate2::bufread::MultiGzDecoder;

use super::header::{Header, Version, not_nifti};
use crate::{Error, Result};

/// Bytes per piece: large enough to amortise a call, small enough to stay in the second-level cache.
const PIECE: usize = 1 << 17;

/// Deflate turns at most 258 bytes into 2 bits, so no honest file inflates by more than this.
const LARGEST_INFLATION: u64 = 1032;

/// What may follow the voxels, as padding. More means that the header describes something smaller than the file.
const LARGEST_TAIL: usize = 1 << 20;

/// A file being read front to back.
pub(super) struct Source<'a> {
    path: PathBuf,
    bytes: Box<dyn Read + 'a>,
    /// No more than this many bytes can come out.
    capacity: u64,
    consumed: u64,
}

impl<'a> Source<'a> {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let problem = |source| Error::io(path, source);
        // Asked before opening: opening a named pipe would wait for a writer.
        let metadata = fs::metadata(path).map_err(problem)?;
        if !metadata.is_file() {
            return Err(Error::input(path, "not a file", "give a .nii or .nii.gz file"));
        }
        let file = File::open(path).map_err(problem)?;
        Self::new(path, file, metadata.len())
    }

    pub(super) fn from_bytes(path: &Path, bytes: &'a [u8]) -> Result<Self> {
        Self::new(path, bytes, bytes.len() as u64)
    }

    fn new(path: &Path, mut stored: impl Read + 'a, length: u64) -> Result<Self> {
        let mut magic = Vec::with_capacity(2);
        stored.by_ref().take(2).read_to_end(&mut magic).map_err(|source| Error::io(path, source))?;
        let is_gzip = magic == [0x1f, 0x8b];
        let stored = BufReader::with_capacity(PIECE, Cursor::new(magic).chain(stored));
        let path = path.to_owned();
        Ok(match is_gzip {
            true => {
                let capacity = length.saturating_mul(LARGEST_INFLATION);
                Self { path, bytes: Box::new(MultiGzDecoder::new(stored)), capacity, consumed: 0 }
            }
            false => Self { path, bytes: Box::new(stored), capacity: length, consumed: 0 },
        })
    }

    /// Reads the header, and checks that the file can hold the voxels it describes.
    pub(super) fn header(&mut self) -> Result<Header> {
        let mut bytes = [0; Header::BYTES_2];
        let (start, rest) = bytes.split_at_mut(Header::BYTES_1);
        let mut length = Header::BYTES_1;
        self.fill_header(start)?;
        let announced = Header::announced([start[0], start[1], start[2], start[3]]);
        if matches!(announced, Some((Version::Nifti2, _))) {
            self.fill_header(rest)?;
            length = Header::BYTES_2;
        }
        let header = Header::parse(&bytes[..length]).map_err(|(cause, advice)| self.bad(cause, advice))?;
        let needed = header.voxel_offset.saturating_add(header.voxel_bytes());
        if needed > self.capacity {
            return Err(self.truncated(&header));
        }
        Ok(header)
    }

    /// Hands the voxels' bytes to `take`, in pieces of whole voxels, then verifies the rest of the file.
    pub(super) fn voxels(&mut self, header: &Header, mut take: impl FnMut(&[u8])) -> Result<()> {
        let mut piece = vec![0; PIECE.min(usize::try_from(header.voxel_bytes()).unwrap_or(PIECE))];
        // Extensions lie between the header and the voxels; they are skipped.
        let mut gap = header.voxel_offset - self.consumed;
        while gap > 0 {
            let length = usize::try_from(gap).unwrap_or(PIECE).min(piece.len());
            self.fill(&mut piece[..length]).map_err(|error| self.read_failure(error, header))?;
            gap -= length as u64;
        }
        let mut left = header.voxel_bytes();
        while left > 0 {
            let length = usize::try_from(left).unwrap_or(PIECE).min(piece.len());
            self.fill(&mut piece[..length]).map_err(|error| self.read_failure(error, header))?;
            take(&piece[..length]);
            left -= length as u64;
        }
        // gzip keeps its checksum at the end, so only a file read to its end is a verified one.
        let mut tail = 0;
        loop {
            match self.bytes.read(&mut piece) {
                Ok(0) => return Ok(()),
                Ok(length) if tail + length <= LARGEST_TAIL => tail += length,
                Ok(_) => return Err(self.bad("more data than the header describes", "export the file again")),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.read_failure(error, header)),
            }
        }
    }

    /// An error about this file.
    pub(super) fn bad(&self, cause: impl std::fmt::Display, advice: &str) -> Error {
        Error::input(&self.path, cause, advice)
    }

    fn fill_header(&mut self, bytes: &mut [u8]) -> Result<()> {
        self.fill(bytes).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
                let (cause, advice) = not_nifti();
                self.bad(cause, advice)
            }
            _ => Error::io(&self.path, error),
        })
    }

    fn fill(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.bytes.read_exact(bytes)?;
        self.consumed += bytes.len() as u64;
        Ok(())
    }

    fn read_failure(&self, error: io::Error, header: &Header) -> Error {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => self.truncated(header),
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
                self.bad(format!("damaged gzip data: {error}"), "copy or download the file again")
            }
            _ => Error::io(&self.path, error),
        }
    }

    fn truncated(&self, header: &Header) -> Error {
        let [x, y, z] = header.extents;
        let channels = header.channels;
        let cause =
            format!("truncated: the header describes {x} x {y} x {z} x {channels} voxels of {}", header.voxel_type);
        self.bad(cause, "copy or download the file again")
    }
}
