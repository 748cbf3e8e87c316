//! Executes NVIDIA PTX on the CPU and checks it while it runs.

#![deny(unsafe_code)]
// Lane loops index several rows at once; iterators over one of them would hide that they run in step.
#![allow(clippy::needless_range_loop)]

mod copy;
mod counters;
mod coverage;
mod decode;
mod device;
mod execute;
mod fault;
mod launch;
mod memory;
mod module;
mod numeric;
#[allow(unsafe_code)]
mod simd;
pub mod syntax;
mod tensor;

pub use copy::{Element, Swizzle, TensorMap, TensorMapError};
pub use counters::{Class, Counters};
pub use coverage::{Missing, coverage, forms};
pub use decode::Parameter;
pub use device::{Device, DevicePointer, MemoryError};
pub use fault::{Fault, FaultKind, Site};
pub use launch::{Access, Checks, Config, LaunchConfig};
pub use module::{Function, LoadError, Module};
