//! Inflates and delivers bytes in pieces, so that memory follows what the file really holds and not what it claims.

use std::{
    fs::{self, File},
    io::{self, BufReader, Cursor, Read, Seek},
    path::{Path, PathBuf},
};

use flate2::bufread::MultiGzDecoder;

use super::header::{Header, Version, not_nifti};
use crate::{Error, Result};

/// Bytes per piece: large enough to amortise a call, small enough to stay in the second-level cache.
const PIECE: usize = 1 << 17;

/// Deflate turns at most 258 bytes into 2 bits, so no honest file inflates by more than this.
const LARGEST_INFLATION: u64 = 1032;

/// How a gzip file begins.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// What may follow the voxels, as padding. More means that the header describes something smaller than the file.
const LARGEST_TAIL: usize = 1 << 20;

/// Bytes that can be passed over.
trait Stream: Read {
    /// Passes over this many bytes; if there are fewer, the next read says so.
    fn skip(&mut self, bytes: u64) -> io::Result<()>;
}

impl Stream for BufReader<File> {
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        self.seek_relative(i64::try_from(bytes).map_err(io::Error::other)?)
    }
}

impl Stream for Cursor<&[u8]> {
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        self.set_position(self.position().saturating_add(bytes));
        Ok(())
    }
}

/// What was deflated must be inflated to be passed over.
impl<R: io::BufRead> Stream for MultiGzDecoder<R> {
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        io::copy(&mut self.by_ref().take(bytes), &mut io::sink()).map(|_| ())
    }
}

/// A file being read front to back.
pub(super) struct Source<'a> {
    path: PathBuf,
    bytes: Box<dyn Stream + 'a>,
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
        let mut file = File::open(path).map_err(problem)?;
        let mut magic = [0; 2];
        let is_gzip = file.read(&mut magic).map_err(problem)? == 2 && magic == GZIP;
        file.rewind().map_err(problem)?;
        let file = BufReader::with_capacity(PIECE, file);
        Ok(match is_gzip {
            true => Self::new(path, MultiGzDecoder::new(file), metadata.len().saturating_mul(LARGEST_INFLATION)),
            false => Self::new(path, file, metadata.len()),
        })
    }

    pub(super) fn from_bytes(path: &Path, bytes: &'a [u8]) -> Self {
        let length = bytes.len() as u64;
        match bytes.starts_with(&GZIP) {
            true => Self::new(path, MultiGzDecoder::new(bytes), length.saturating_mul(LARGEST_INFLATION)),
            false => Self::new(path, Cursor::new(bytes), length),
        }
    }

    fn new(path: &Path, bytes: impl Stream + 'a, capacity: u64) -> Self {
        Self { path: path.to_owned(), bytes: Box::new(bytes), capacity, consumed: 0 }
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
        self.skip_to_voxel(header, 0)?;
        let mut piece = Self::piece(header.voxel_bytes());
        self.deliver(header, header.voxel_bytes(), &mut piece, &mut take)?;
        self.finish(header, &mut piece)
    }

    /// A buffer for deliveries of this many bytes.
    pub(super) fn piece(bytes: u64) -> Vec<u8> {
        vec![0; usize::try_from(bytes).map_or(PIECE, |bytes| bytes.min(PIECE))]
    }

    /// Passes over extensions, which lie between the header and the voxels, and over this many bytes of voxels.
    pub(super) fn skip_to_voxel(&mut self, header: &Header, bytes: u64) -> Result<()> {
        let gap = header.voxel_offset + bytes - self.consumed;
        self.bytes.skip(gap).map_err(|error| self.read_failure(error, header))?;
        self.consumed += gap;
        Ok(())
    }

    /// Hands the next bytes, a whole number of voxels, to `take`, through `piece`.
    pub(super) fn deliver(
        &mut self,
        header: &Header,
        bytes: u64,
        piece: &mut [u8],
        take: &mut dyn FnMut(&[u8]),
    ) -> Result<()> {
        let mut left = bytes;
        while left > 0 {
            let length = usize::try_from(left).unwrap_or(PIECE).min(piece.len());
            self.fill(&mut piece[..length]).map_err(|error| self.read_failure(error, header))?;
            take(&piece[..length]);
            left -= length as u64;
        }
        Ok(())
    }

    /// Reads on behind the voxels: gzip keeps its checksum at the end, so only a file read to its end is a verified one.
    pub(super) fn finish(&mut self, header: &Header, piece: &mut [u8]) -> Result<()> {
        let mut tail = 0;
        loop {
            match self.bytes.read(piece) {
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
