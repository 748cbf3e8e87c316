//! Asynchronous copies and the barriers that complete them.

mod bulk;
mod lanes;
mod mbarrier;
mod tensor_map;

pub(crate) use bulk::{BulkCommit, BulkLoad, BulkStore, BulkWait, Extent};
pub(crate) use lanes::{CopyAsync, CopyCommit, CopyNotify, CopyWait};
pub(crate) use mbarrier::{Action, Mbarrier, TestWait};
pub use tensor_map::{Element, Swizzle, TensorMap, TensorMapError};
