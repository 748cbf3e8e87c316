//! Runs decoded kernels: lanes within warps, warps within CTAs, CTAs over host threads.

mod barrier;
mod collective;
mod copies;
mod counting;
mod cta;
mod grid;
mod meet;
mod order;
mod registers;
mod transfer;
mod warp;

pub(crate) use copies::{Arrival, Batch, Bulk, Copies, Piece};
pub(crate) use cta::Cta;
pub(crate) use grid::run;
pub(crate) use registers::Registers;
pub(crate) use transfer::{LOCAL_WINDOW, PARAM_WINDOW, SHARED_WINDOW, WINDOW_MASK};
pub(crate) use warp::Warp;

use std::time::{Duration, Instant};

use crate::decode::Kernel;
use crate::memory::{GlobalView, Worker};
use crate::tensor::TensorCores;

/// What does not change during a launch.
pub(crate) struct Launch<'a> {
    pub kernel: &'a Kernel,
    pub view: GlobalView<'a>,
    /// The argument block.
    pub arguments: &'a [u8],
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub dynamic_shared: u32,
    pub shared_bytes: u32,
    pub seed: Option<u64>,
    pub step_limit: u64,
    pub time_limit: Option<Duration>,
    pub begun: Instant,
    pub multiprocessors: u32,
    pub tensor_cores: TensorCores,
    pub threads: usize,
}

/// Everything that one instruction of one warp can reach.
pub(crate) struct Context<'a, 'b> {
    pub launch: &'a Launch<'b>,
    pub worker: &'a mut Worker,
    pub cta: &'a mut Cta,
    pub warp: &'a mut Warp,
}
