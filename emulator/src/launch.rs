//! What a launch may be told: limits, checks, geometry, declared ranges.

use std::time::Duration;

use crate::tensor::TensorCores;

/// Which checks run. Bounds, use after free, alignment, barriers and member masks are always checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checks {
    /// Reads of bytes that nothing wrote, in global and shared memory.
    pub uninitialised: bool,
    /// Races between the threads of a CTA on shared memory.
    pub shared_races: bool,
    /// Races between the CTAs of a launch on global memory.
    pub global_races: bool,
    /// Accesses to bytes of unfinished asynchronous copies.
    pub in_flight: bool,
    /// Shared memory that plain stores write and `wgmma` or bulk copies read without a `fence.proxy.async`.
    pub proxy_fences: bool,
}

impl Checks {
    /// Everything on.
    pub const ALL: Checks = Checks::all(true);
    /// Only what is always checked.
    pub const NONE: Checks = Checks::all(false);

    const fn all(on: bool) -> Checks {
        Checks { uninitialised: on, shared_races: on, global_races: on, in_flight: on, proxy_fences: on }
    }
}

impl Default for Checks {
    fn default() -> Self {
        Checks::ALL
    }
}

/// A device to emulate.
#[derive(Debug, Clone)]
pub struct Config {
    /// Host threads over which the CTAs of a launch are spread; 0 means all that the host has.
    pub threads: usize,
    /// Which checks run.
    pub checks: Checks,
    /// Order of CTAs and warps: `None` runs them in index order, `Some(seed)` in an order drawn from the seed.
    pub seed: Option<u64>,
    /// Warp instructions that one CTA may execute before the launch is stopped.
    pub step_limit: u64,
    /// Time after which a launch is stopped, wherever it is: results never depend on it otherwise.
    pub time_limit: Option<Duration>,
    /// Bytes of global memory.
    pub global_memory: u64,
    /// Bytes of shared memory per CTA, static and dynamic together.
    pub shared_memory: u32,
    /// Number reported by `%nsmid`.
    pub multiprocessors: u32,
    /// The newest target that is accepted, for example 90 for `sm_90a`.
    pub compute_capability: u32,
    /// How tensor cores add up; [`TensorCores::of`] has the way of a compute capability.
    pub tensor_cores: TensorCores,
}

impl Default for Config {
    /// A device of compute capability 9.0 with 227 KiB of shared memory per CTA and 16 GiB of global memory, whose tensor
    /// cores add in the fastest way rather than in that of a GPU.
    fn default() -> Self {
        Config {
            threads: 0,
            checks: Checks::ALL,
            seed: None,
            step_limit: 1 << 36,
            time_limit: None,
            global_memory: 16 << 30,
            shared_memory: 227 << 10,
            multiprocessors: 132,
            compute_capability: 90,
            tensor_cores: TensorCores::default(),
        }
    }
}

/// A range of global memory that a launch may touch, or must write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// First address.
    pub start: u64,
    /// One past the last address.
    pub end: u64,
    /// Whether reading is allowed.
    pub read: bool,
    /// Whether writing is allowed.
    pub write: bool,
    /// What to call it in diagnostics.
    pub name: String,
}

impl Access {
    /// A range to read only.
    pub fn read(start: u64, bytes: u64, name: impl Into<String>) -> Access {
        Access { start, end: start + bytes, read: true, write: false, name: name.into() }
    }

    /// A range to write only.
    pub fn write(start: u64, bytes: u64, name: impl Into<String>) -> Access {
        Access { start, end: start + bytes, read: false, write: true, name: name.into() }
    }

    /// A range to read and write.
    pub fn read_write(start: u64, bytes: u64, name: impl Into<String>) -> Access {
        Access { start, end: start + bytes, read: true, write: true, name: name.into() }
    }

    pub(crate) fn mode(&self) -> &'static str {
        match (self.read, self.write) {
            (true, true) => "read and write",
            (true, false) => "read only",
            (false, true) => "write only",
            (false, false) => "no access",
        }
    }
}

/// Geometry and conditions of one launch.
#[derive(Debug, Clone, Default)]
pub struct LaunchConfig {
    /// Blocks in x, y, z.
    pub grid: [u32; 3],
    /// Threads per block in x, y, z.
    pub block: [u32; 3],
    /// Bytes of dynamic shared memory.
    pub dynamic_shared: u32,
    /// If given, the launch may touch these ranges and nothing else of the caller's memory.
    pub access: Option<Vec<Access>>,
    /// Ranges in which the launch must write every byte (their `read`/`write` flags do not matter). They count as
    /// uninitialised when the launch begins.
    pub must_write: Vec<Access>,
}

impl LaunchConfig {
    /// A launch with this geometry and nothing else.
    pub fn new(grid: [u32; 3], block: [u32; 3]) -> LaunchConfig {
        LaunchConfig { grid, block, ..LaunchConfig::default() }
    }
}
