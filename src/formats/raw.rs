//! Formats whose voxels lie behind a header as they are, which is most of them.

use super::{Header, Reader, Source};
use crate::Result;

/// Reads voxels that lie one behind the other from some byte of the (inflated) file on.
pub struct RawReader<'a> {
    source: Source<'a>,
    header: Header,
    /// Bytes between what the header took and the next voxel to be read.
    gap: u64,
}

impl<'a> RawReader<'a> {
    /// For a source from which the header has been read.
    ///
    /// # Errors
    /// A file that cannot hold what its header describes, or voxels that begin within the header.
    pub fn new(source: Source<'a>, header: Header, offset: u64) -> Result<Self> {
        if offset.saturating_add(header.voxel_bytes()) > source.capacity() {
            return Err(source.truncated(&header));
        }
        let Some(gap) = offset.checked_sub(source.consumed()) else {
            return Err(source.bad("damaged header: the voxels begin inside it", "export the file again"));
        };
        Ok(Self { source, header, gap })
    }

    /// Passes over what is not wanted, when something is.
    fn close_gap(&mut self) -> Result<()> {
        let gap = std::mem::take(&mut self.gap);
        if gap > 0 { self.source.skip(gap, &self.header) } else { Ok(()) }
    }
}

impl Reader for RawReader<'_> {
    fn header(&self) -> &Header {
        &self.header
    }

    fn read(&mut self, voxels: &mut [u8]) -> Result<()> {
        self.close_gap()?;
        self.source.read(voxels, &self.header)
    }

    fn skip(&mut self, bytes: u64) -> Result<()> {
        self.gap += bytes;
        Ok(())
    }

    fn skips_freely(&self) -> bool {
        self.source.skips_freely()
    }

    fn finish(&mut self) -> Result<()> {
        self.close_gap()?;
        self.source.finish(&self.header)
    }
}
