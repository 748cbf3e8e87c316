//! Executes NVIDIA PTX on the CPU and checks it while it runs.
//!
//! A [`Device`] has the shape of a driver: load a module, allocate, copy, launch. A launch returns [`Counters`], or the
//! [`Fault`] with kernel, block, thread, PTX line and source line. [`coverage`] lists what a module uses that the
//! emulator lacks, without running it.
//!
//! ```
//! use std::process::Command;
//!
//! use ptx_emulator::{Class, Config, Device, LaunchConfig};
//!
//! // y[i] = a * x[i] + y[i] with a bounds check, compiled now; without nvcc, what it made of this file before.
//! let (source, compiled) = ("tests/programs/saxpy.cu", std::env::temp_dir().join("saxpy.ptx"));
//! let nvcc = std::env::var("NVCC").unwrap_or_else(|_| "nvcc".to_owned());
//! let run = Command::new(nvcc).args(["-ptx", "-lineinfo", "-arch=compute_80", source, "-o"]).arg(&compiled).status();
//! let ptx = match run {
//!     Ok(status) if status.success() => std::fs::read_to_string(&compiled)?,
//!     _ => include_str!("../tests/programs/saxpy.ptx").to_owned(),
//! };
//! assert_eq!(ptx_emulator::coverage(&ptx)?, []);
//!
//! let mut device = Device::new(Config::default());
//! let module = device.load_module(&ptx)?;
//! let saxpy = module.function("saxpy").expect("the module has this kernel");
//!
//! let bytes: Vec<u8> = (0..100).flat_map(|i| (i as f32).to_le_bytes()).collect();
//! let (x, y) = (device.allocate(400)?, device.allocate(400)?);
//! device.copy_to_device(x, &bytes)?;
//! device.copy_to_device(y, &bytes)?;
//!
//! let launch = LaunchConfig::new([1, 1, 1], [128, 1, 1]);
//! let arguments: [&[u8]; 4] =
//!     [&2.0f32.to_le_bytes(), &x.0.to_le_bytes(), &y.0.to_le_bytes(), &100i32.to_le_bytes()];
//! let counters = device.launch(&saxpy, &launch, &arguments)?;
//! assert_eq!(counters.global_load_bytes, 800);
//! assert_eq!(counters.of(Class::StoreGlobal), 4);
//!
//! let mut out = [0; 4];
//! device.copy_to_host(&mut out, y.offset(4 * 99))?;
//! assert_eq!(f32::from_le_bytes(out), 297.0);
//!
//! // One element too many is a fault, not a crash.
//! let arguments: [&[u8]; 4] =
//!     [&2.0f32.to_le_bytes(), &x.0.to_le_bytes(), &y.0.to_le_bytes(), &101i32.to_le_bytes()];
//! let fault = device.launch(&saxpy, &launch, &arguments).unwrap_err();
//! assert!(fault.to_string().contains("saxpy.cu:4"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! PTX can stand in the test itself, for kernels of a few instructions:
//!
//! ```
//! use ptx_emulator::{Class, Config, Device, FaultKind, LaunchConfig};
//!
//! let ptx = "
//!     .version 8.0
//!     .target sm_80
//!     .address_size 64
//!     .visible .entry thread_numbers(.param .u64 out) {
//!         .reg .b32 %thread, %block;
//!         .reg .b64 %out, %offset;
//!         ld.param.u64 %out, [out];
//!         mov.u32 %thread, %tid.x;
//!         mul.wide.u32 %offset, %thread, 4;
//!         add.s64 %out, %out, %offset;
//!         mov.u32 %block, %ctaid.x;
//!         add.u32 %thread, %thread, %block;
//!         st.global.u32 [%out], %thread;
//!         ret;
//!     }";
//! let mut device = Device::new(Config::default());
//! let kernel = device.load_module(ptx)?.function("thread_numbers").expect("the module has this kernel");
//! let out = device.allocate(64 * 4)?;
//!
//! let counters = device.launch(&kernel, &LaunchConfig::new([1, 1, 1], [64, 1, 1]), &[&out.0.to_le_bytes()])?;
//! assert_eq!((counters.of(Class::StoreGlobal), counters.global_sectors), (2, 8));
//! let mut bytes = [0; 64 * 4];
//! device.copy_to_host(&mut bytes, out)?;
//! assert!(bytes.as_chunks().0.iter().enumerate().all(|(i, &word)| u32::from_le_bytes(word) == i as u32));
//!
//! // A second block writes other values to the same words: a race.
//! let launch = LaunchConfig::new([2, 1, 1], [64, 1, 1]);
//! let fault = device.launch(&kernel, &launch, &[&out.0.to_le_bytes()]).unwrap_err();
//! assert_eq!(fault.kind, FaultKind::GlobalRace);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

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
pub use tensor::{Input, TensorCores};
