//! Asynchronous copies and the barriers that complete them.

/// How a bulk store joins its bytes with those in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reduction {}
