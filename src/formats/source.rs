//! Inflates and delivers bytes in pieces, so that memory follows what the file really holds and not what it claims.

use std::{
    fs::{self, File},
    io::{self, BufReader, Cursor, Read, Seek},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use flate2::bufread::MultiGzDecoder;

use super::{START, endings, header::Header, memory};
use crate::{Error, Result};

/// Bytes per piece: large enough to amortise a call, small enough to stay in the second-level cache.
pub(super) const PIECE: usize = 1 << 17;

/// Deflate turns at most 258 bytes into 2 bits, so no honest file inflates by more than this.
const LARGEST_INFLATION: u64 = 1032;

/// How a gzip file begins.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// What may follow the voxels, as padding. More means that the header describes something smaller than the file.
const LARGEST_TAIL: usize = 1 << 20;

/// All that any source has inflated.
static INFLATED: AtomicU64 = AtomicU64::new(0);

/// Bytes that this process has inflated so far. Inflating is what reading costs, so this is where work that is done twice
/// shows.
pub fn inflated_bytes() -> u64 {
    INFLATED.load(Ordering::Relaxed)
}

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

impl<T: AsRef<[u8]>> Stream for Cursor<T> {
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        self.set_position(self.position().saturating_add(bytes));
        Ok(())
    }
}

/// Inflates, and counts.
struct Inflate<R>(MultiGzDecoder<R>);

impl<R: io::BufRead> Read for Inflate<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let length = self.0.read(bytes)?;
        INFLATED.fetch_add(length as u64, Ordering::Relaxed);
        Ok(length)
    }
}

/// What was deflated must be inflated to be passed over.
impl<R: io::BufRead> Stream for Inflate<R> {
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        io::copy(&mut self.by_ref().take(bytes), &mut io::sink()).map(|_| ())
    }
}

/// A file being read front to back, inflated if it is compressed.
pub struct Source<'a> {
    path: PathBuf,
    bytes: Box<dyn Stream + 'a>,
    is_gzip: bool,
    /// No more than this many bytes can come out.
    capacity: u64,
    consumed: u64,
    /// What was looked at before it was read, and what ended the look.
    start: Vec<u8>,
    failure: Option<io::Error>,
}

impl<'a> Source<'a> {
    /// Opens a file, or what is [held in memory](super::memory) under this path.
    ///
    /// # Errors
    /// What is not a file; the operating system's.
    pub fn open(path: &Path) -> Result<Self> {
        if let Some(bytes) = memory::find(path) {
            let length = bytes.len() as u64;
            return Ok(Self::new(path, Box::new(Cursor::new(bytes)), length));
        }
        let problem = |source| Error::io(path, source);
        // Asked before opening: opening a named pipe would wait for a writer.
        let metadata = fs::metadata(path).map_err(problem)?;
        if !metadata.is_file() {
            return Err(Error::input(path, "not a file", format!("give a {} file", endings())));
        }
        let mut file = File::open(path).map_err(problem)?;
        let mut magic = [0; 2];
        let is_gzip = file.read(&mut magic).map_err(problem)? == 2 && magic == GZIP;
        file.rewind().map_err(problem)?;
        let file = BufReader::with_capacity(PIECE, file);
        Ok(match is_gzip {
            true => Self::inflating(path, file, metadata.len()),
            false => Self::new(path, Box::new(file), metadata.len()),
        })
    }

    /// From bytes in memory; `path` names them in errors.
    pub fn from_bytes(path: &Path, bytes: &'a [u8]) -> Self {
        let length = bytes.len() as u64;
        match bytes.starts_with(&GZIP) {
            true => Self::inflating(path, bytes, length),
            false => Self::new(path, Box::new(Cursor::new(bytes)), length),
        }
    }

    fn new(path: &Path, bytes: Box<dyn Stream + 'a>, capacity: u64) -> Self {
        let path = path.to_owned();
        Self { path, bytes, is_gzip: false, capacity, consumed: 0, start: Vec::new(), failure: None }
    }

    fn inflating(path: &Path, deflated: impl io::BufRead + 'a, length: u64) -> Self {
        let bytes = Box::new(Inflate(MultiGzDecoder::new(deflated)));
        Self { is_gzip: true, ..Self::new(path, bytes, length.saturating_mul(LARGEST_INFLATION)) }
    }

    /// The file's name, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// No more than this many bytes can come out.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Bytes that have been read.
    pub fn consumed(&self) -> u64 {
        self.consumed
    }

    /// Whether passing over bytes costs next to nothing.
    pub fn skips_freely(&self) -> bool {
        !self.is_gzip
    }

    /// The first bytes, [`START`] of them or all that there are, which are still to be read. Damage among them is found when
    /// they are.
    ///
    /// # Errors
    /// The operating system's.
    pub(super) fn start(&mut self) -> Result<&[u8]> {
        let mut start = vec![0; START];
        let mut have = 0;
        while have < START {
            match self.bytes.read(&mut start[have..]) {
                Ok(0) => break,
                Ok(length) => have += length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_damage(&error) || error.kind() == io::ErrorKind::UnexpectedEof => {
                    self.failure = Some(error);
                    break;
                }
                Err(error) => return Err(Error::io(&self.path, error)),
            }
        }
        start.truncate(have);
        self.start = start;
        Ok(&self.start)
    }

    /// Fills in the next bytes of a header; false if the file ends before, or cannot be inflated so far.
    ///
    /// # Errors
    /// The operating system's.
    pub fn read_header(&mut self, bytes: &mut [u8]) -> Result<bool> {
        match self.fill(bytes) {
            Ok(()) => Ok(true),
            Err(error) if is_damage(&error) || error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(Error::io(&self.path, error)),
        }
    }

    /// Fills in the next bytes of the voxels that a header describes.
    ///
    /// # Errors
    /// A truncated or damaged file; the operating system's.
    pub fn read(&mut self, bytes: &mut [u8], header: &Header) -> Result<()> {
        self.fill(bytes).map_err(|error| self.explain(error, header))
    }

    /// Passes over bytes.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn skip(&mut self, bytes: u64, header: &Header) -> Result<()> {
        let known = usize::try_from(bytes).unwrap_or(usize::MAX).min(self.start.len());
        self.start.drain(..known);
        let rest = bytes - known as u64;
        let passed = match self.failure.take() {
            Some(error) if rest > 0 => Err(error),
            kept => {
                self.failure = kept;
                if rest > 0 { self.bytes.skip(rest) } else { Ok(()) }
            }
        };
        passed.map_err(|error| self.explain(error, header))?;
        self.consumed += bytes;
        Ok(())
    }

    /// Reads on to the end: gzip keeps its checksum there.
    ///
    /// # Errors
    /// As [`Self::read`]; far more bytes than the header describes.
    pub fn finish(&mut self, header: &Header) -> Result<()> {
        let mut piece = vec![0; 1 << 14];
        let mut tail = std::mem::take(&mut self.start).len();
        if let Some(error) = self.failure.take() {
            return Err(self.explain(error, header));
        }
        loop {
            match self.bytes.read(&mut piece) {
                Ok(0) => return Ok(()),
                Ok(length) if tail + length <= LARGEST_TAIL => tail += length,
                Ok(_) => return Err(self.bad("more data than the header describes", "export the file again")),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.explain(error, header)),
            }
        }
    }

    /// An error about this file.
    pub fn bad(&self, cause: impl std::fmt::Display, advice: &str) -> Error {
        Error::input(&self.path, cause, advice)
    }

    /// The error for a file that ends before its voxels do.
    pub fn truncated(&self, header: &Header) -> Error {
        let ([x, y, z], channels) = (header.grid.extents, header.channels);
        let voxel_type = header.encoding.voxel_type;
        let cause = format!("truncated: the header describes {x} x {y} x {z} x {channels} voxels of {voxel_type}");
        self.bad(cause, "copy or download the file again")
    }

    fn fill(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        let known = bytes.len().min(self.start.len());
        let (from_start, rest) = bytes.split_at_mut(known);
        from_start.iter_mut().zip(self.start.drain(..known)).for_each(|(to, from)| *to = from);
        if !rest.is_empty() {
            if let Some(error) = self.failure.take() {
                return Err(error);
            }
            self.bytes.read_exact(rest)?;
        }
        self.consumed += bytes.len() as u64;
        Ok(())
    }

    fn explain(&self, error: io::Error, header: &Header) -> Error {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => self.truncated(header),
            _ if is_damage(&error) => {
                self.bad(format!("damaged gzip data: {error}"), "copy or download the file again")
            }
            _ => Error::io(&self.path, error),
        }
    }
}

/// Whether an error is the data's and not the machine's.
fn is_damage(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput)
}
