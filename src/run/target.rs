//! Where a run computes and what it may use there.

use super::recipe::{DeviceRecipe, MemoryRecipe};
use crate::{
    Error, Result,
    cpu::memory::available,
    plan::budget::{Budget, Offload},
    session::{Device, Target},
    train::budget::Limit,
};

/// A device, ready to be used.
#[derive(Debug)]
pub struct Opened {
    /// Where programs run.
    pub target: Target,
    /// Which of the devices it is; never [`Device::Auto`].
    pub device: Device,
    /// What it is, in one line.
    pub description: String,
}

impl DeviceRecipe {
    /// The device that was asked for.
    ///
    /// # Errors
    /// If it is not there.
    pub fn open(&self) -> Result<Opened> {
        self.check()?;
        let (device, instead) = self.device.resolve();
        let target = Target::open(device, self.threads)?;
        let mut description = describe(device, &target);
        match instead {
            Some(Error::Usage { cause, .. }) => description += &format!(" ({cause})"),
            Some(other) => description += &format!(" ({other})"),
            None => {}
        }
        Ok(Opened { target, device, description })
    }

    /// Checks what can be checked without a device.
    ///
    /// # Errors
    /// Naming the setting that does not work.
    pub fn check(&self) -> Result<()> {
        check_threads("threads", self.threads)
    }
}

impl Opened {
    /// Whether its arena is a part of the host's memory.
    pub fn is_on_host(&self) -> bool {
        !matches!(self.device, Device::Cuda(_))
    }
}

/// What a device is, in one line.
fn describe(device: Device, target: &Target) -> String {
    let about = match target {
        Target::Cpu(threads) => {
            let (count, isa) = (threads.count(), threads.isa());
            return format!("the processor, {count} thread{}, {isa}", if count == 1 { "" } else { "s" });
        }
        Target::Machine(machine) => machine.capabilities(),
    };
    let capability = about.compute_capability();
    if matches!(device, Device::Emulated(_)) {
        return format!("an emulated GPU of compute capability {capability}, every access checked");
    }
    let gib = about.memory as f64 / (1u64 << 30) as f64;
    format!("{device}, {}, compute capability {capability}, {gib:.1} GiB", about.name)
}

/// Checks a number of threads.
///
/// # Errors
/// Naming the setting.
pub(crate) fn check_threads(setting: &str, threads: usize) -> Result<()> {
    const MOST: usize = 256;
    if threads > MOST {
        return Err(Error::usage(setting, format!("{threads} threads"), format!("give at most {MOST}")));
    }
    Ok(())
}

impl MemoryRecipe {
    /// Checks the settings for this device.
    ///
    /// # Errors
    /// If something is to be on the host, and the device is the CPU, whose values are there as they are.
    pub fn check(&self, target: &Target) -> Result<()> {
        if self.offload == Offload::Optimizer && matches!(target, Target::Cpu(_)) {
            let cause = "the CPU device keeps everything on the host as it is";
            return Err(Error::usage("offload", cause, "leave it out, or choose a GPU"));
        }
        Ok(())
    }

    /// The limit of a run here. On the CPU a sixteenth of what is left stays free for loading; on a GPU there must be room
    /// for the kernels' code and for what the driver needs while they run.
    ///
    /// # Errors
    /// If the device does not answer.
    pub fn of_device(&self, target: &mut Target) -> Result<Limit> {
        const FOR_THE_DRIVER: usize = 256 << 20;
        if self.memory_budget.is_some() {
            return Ok(self.chosen(0));
        }
        let free = target.free_memory()?;
        let (kept, name) = match target {
            Target::Cpu(_) => (free.map_or(0, |free| free / 16), "the machine has left"),
            Target::Machine(_) => (FOR_THE_DRIVER + free.map_or(0, |free| free / 256), "the GPU has left"),
        };
        Ok(Limit { budget: self.budget(free.map(|free| free.saturating_sub(kept))), name })
    }

    /// The limit of a run on no particular machine.
    pub fn chosen(&self, default: usize) -> Limit {
        self.named(default, "the budget is")
    }

    /// The limit of a run on a card with this much memory, unless the recipe sets another.
    pub fn of_card(&self, free: usize) -> Limit {
        self.named(free, if self.memory_budget.is_some() { "the budget is" } else { "the card has" })
    }

    /// Bytes of host memory for data, where `taken` bytes of what the machine has left will be used for something else.
    pub fn host_bytes(&self, taken: usize) -> usize {
        let left = || available().map_or(usize::MAX, |left| left.saturating_sub(taken));
        self.host_memory_budget.unwrap_or_else(left)
    }

    fn named(&self, default: usize, name: &'static str) -> Limit {
        Limit { budget: self.budget(Some(self.memory_budget.unwrap_or(default))), name }
    }

    fn budget(&self, bytes: Option<usize>) -> Budget {
        Budget { bytes, rematerialise: self.rematerialise, offload: self.offload }
    }
}
