//! Machines run launches of compiled kernels over one arena: a GPU through its driver, an emulated GPU, or none.
//!
//! Operations *lower* themselves to launches ([`lower`]): which kernel, which geometry, which argument bytes. A [`Machine`]
//! knows nothing of operations, and everything above it nothing of drivers.

mod cuda;
mod emulated;
pub mod images;
mod launch;
pub mod lower;
mod null;

use std::{
    fmt::Debug,
    sync::{Arc, Mutex},
};

pub use cuda::{Cuda, devices, driver_version};
pub use emulated::{Emulated, Tally};
pub(crate) use launch::arguments;
pub use launch::{Access, Arguments, Field, Kernel, KernelAbi, Launch};
pub use null::Null;
pub use ptx_emulator::TensorCores;

use crate::{Error, Result};

/// Oldest compute capability (times ten) that there are kernels for.
pub const OLDEST: u32 = 75;

/// What a machine is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// As the user may know it.
    pub name: String,
    /// Compute capability times ten: 75, 80, 90.
    pub compute: u32,
    /// Bytes of memory.
    pub memory: u64,
    /// Multiprocessors.
    pub multiprocessors: u32,
}

impl Capabilities {
    /// The compute capability as it is written: 7.5, 8.0, 9.0.
    pub fn compute_capability(&self) -> String {
        format!("{}.{}", self.compute / 10, self.compute % 10)
    }
}

/// Names launches that a machine has captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recording(pub(crate) usize);

/// Runs kernels. One stream: everything happens in the order of the calls, but for [`Machine::upload_ahead`].
///
/// The methods with a body are those of a machine that does everything at once, when it is told to.
pub trait Machine: Debug + Send {
    /// What it is.
    fn capabilities(&self) -> &Capabilities;

    /// How its tensor cores add: as those of its compute capability, unless it says otherwise.
    fn tensor_cores(&self) -> TensorCores {
        TensorCores::of(self.capabilities().compute)
    }

    /// Makes the kernels of a family known, from PTX text. A family is loaded once.
    ///
    /// # Errors
    /// If the machine refuses the text.
    fn load(&mut self, family: &'static str, ptx: &str) -> Result<()>;

    /// Whether the family was loaded.
    fn is_loaded(&self, family: &str) -> bool;

    /// Memory with undefined content; its address, a multiple of 256.
    ///
    /// # Errors
    /// If there is not enough.
    fn allocate(&mut self, bytes: usize) -> Result<u64>;

    /// Gives an allocation back.
    ///
    /// # Errors
    /// If the driver fails.
    fn free(&mut self, address: u64) -> Result<()>;

    /// Bytes that can be allocated right now.
    ///
    /// # Errors
    /// If the driver fails.
    fn free_memory(&mut self) -> Result<u64>;

    /// Copies from the host. The bytes may be reused when it returns.
    ///
    /// # Errors
    /// If the driver fails.
    fn upload(&mut self, address: u64, bytes: &[u8]) -> Result<()>;

    /// Copies to the host, after everything before has finished.
    ///
    /// # Errors
    /// If the driver fails, or a launch before did.
    fn download(&mut self, address: u64, bytes: &mut [u8]) -> Result<()>;

    /// Starts a kernel.
    ///
    /// # Errors
    /// If the machine refuses it.
    fn launch(&mut self, launch: &Launch) -> Result<()>;

    /// Turns launches into one recording, without running them.
    ///
    /// # Errors
    /// If the machine refuses one of them.
    fn capture(&mut self, launches: &[Launch]) -> Result<Recording>;

    /// Runs a recording: the same as launching its launches in order.
    ///
    /// # Errors
    /// If the machine refuses it.
    fn replay(&mut self, recording: Recording) -> Result<()>;

    /// Waits until everything has finished.
    ///
    /// # Errors
    /// If a launch failed.
    fn synchronise(&mut self) -> Result<()>;

    /// Remembers this point of the stream for [`Machine::upload_ahead`].
    ///
    /// # Errors
    /// If the driver fails.
    fn mark(&mut self) -> Result<()> {
        Ok(())
    }

    /// Copies from the host beside what is running: no sooner than everything before the last [`Machine::mark`] has
    /// finished, and before anything that is started or read from now on. The bytes may be reused when it returns.
    ///
    /// # Errors
    /// If the driver fails.
    fn upload_ahead(&mut self, address: u64, bytes: &[u8]) -> Result<()> {
        self.upload(address, bytes)
    }

    /// What its kernels have done, if it counts. The counters outlive the machine.
    fn tally(&self) -> Option<Arc<Mutex<Tally>>> {
        None
    }

    /// Puts a time stamp into the stream.
    ///
    /// # Errors
    /// If the driver fails.
    fn stamp(&mut self) -> Result<()> {
        Ok(())
    }

    /// Takes all time stamps: seconds since the first, by the machine's own clock. None if it has no clock.
    ///
    /// # Errors
    /// If a launch failed.
    fn stamps(&mut self) -> Result<Option<Vec<f64>>> {
        Ok(None)
    }
}

/// What a user can name as a device: the name, and what it is or why it cannot be used.
pub fn list() -> Vec<(String, Result<Capabilities>)> {
    let mut list = Vec::new();
    match devices() {
        Ok(found) => list.extend(found.into_iter().enumerate().map(|(n, gpu)| (format!("cuda:{n}"), Ok(gpu)))),
        Err(error) => list.push(("cuda".to_owned(), Err(error))),
    }
    list.push(("emulated".to_owned(), Ok(Emulated::default().capabilities().clone())));
    list
}

/// Whether there are kernels for a GPU.
///
/// # Errors
/// Why there are none.
pub fn check_usable(gpu: &Capabilities) -> Result<()> {
    if gpu.compute >= OLDEST {
        return images::check(gpu.compute);
    }
    let cause = format!("{} has compute capability {}", gpu.name, gpu.compute_capability());
    Err(Error::usage("device = cuda", cause, "kernels are made for 7.5 and newer: use `device = cpu`"))
}

/// The number of the first GPU that there are kernels for.
///
/// # Errors
/// Why there is none.
pub fn first_usable() -> Result<usize> {
    let found = devices()?;
    let mut refusal = Error::usage("device = cuda", "the NVIDIA driver knows no GPU", "use `device = cpu`");
    for (ordinal, gpu) in found.iter().enumerate() {
        match check_usable(gpu) {
            Ok(()) => return Ok(ordinal),
            Err(error) => refusal = error,
        }
    }
    Err(refusal)
}
