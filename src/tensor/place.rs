//! Where values lie in an arena.

/// A range of bytes in the arena.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// First byte.
    pub offset: usize,
    /// Number of bytes, without padding.
    pub bytes: usize,
}

impl Place {
    /// One past the last byte.
    pub fn end(&self) -> usize {
        self.offset + self.bytes
    }

    /// Whether two ranges share a byte.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.bytes > 0 && other.bytes > 0 && self.offset < other.end() && other.offset < self.end()
    }
}

/// Every value starts at a multiple of this: a cache line, and more than any vector load asks for.
pub const ALIGNMENT: usize = 64;

/// Rounds up to [`ALIGNMENT`].
pub fn align(bytes: usize) -> usize {
    bytes.next_multiple_of(ALIGNMENT)
}
