//! Threads, SIMD and blocking for the CPU device. Ignorant of operations and graphs.
//!
//! - [`Arena`], [`CpuCall`]: the one allocation, and what an operation sees of it while it runs.
//! - [`Threads`]: a pool that runs indexed tasks; it also says which instruction set the kernels use.
//! - [`Convolution`], [`TransposedConvolution`]: fprop, dgrad and wgrad without an im2col copy.
//!
//! Tensors are plain slices, N D H W C with the channel innermost. Scratch memory is the caller's, sized by the
//! `*_workspace` functions: nothing here allocates while it computes. Every result has the same bits for any number of threads: the
//! work, and every reduction, is cut by the problem alone.

#![allow(clippy::needless_range_loop, reason = "register tiles are indexed alike on both sides of an assignment")]

mod arena;
pub mod batch_norm;
mod call;
pub mod channelwise;
mod conv;
mod element;
pub mod elementwise;
pub mod memory;
pub mod peak;
pub mod pool;
pub mod reduce;
mod simd;
mod statistics;
mod threads;

pub use arena::Arena;
pub use call::{CpuCall, Frame, Placed};
pub use conv::{Convolution, Epilogue, Gradient, Input, TransposedConvolution};
pub use element::Element;
pub(crate) use element::with_element;
pub use simd::Isa;
pub use statistics::Statistics;
pub use threads::Threads;
