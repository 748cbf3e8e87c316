//! Options for what a run may use: `--memory-budget`, `--rematerialise`.

use clap::Args;

use crate::{
    Error, Result,
    cpu::memory::available,
    plan::budget::{Budget, Offload, Rematerialise},
    session::Target,
    size::parse,
    train::budget::Limit,
};

/// What a run may use.
#[derive(Debug, Args)]
pub struct MemoryOptions {
    /// Memory for all values of a step, such as 6GiB, 800MiB or 1.5GB
    /// [default: what the device has left; plan on the CPU or the emulated GPU: 24GiB]
    #[arg(long, value_parser = parse, value_name = "SIZE", help_heading = "Memory", verbatim_doc_comment)]
    memory_budget: Option<usize>,

    /// Which activations are forgotten and computed again: auto (as few as the budget allows), none, full, or the share
    /// (0 to 1) of what full saves. Results do not depend on it
    #[arg(long, default_value_t = Rematerialise::Auto, value_name = "HOW_MUCH", help_heading = "Memory")]
    rematerialise: Rematerialise,

    /// What lives on the host and is copied to a GPU only while it is used: auto (optimizer state, if that is faster than
    /// computing activations again), none, optimizer. Results do not depend on it
    #[arg(long, value_enum, default_value_t = Offload::Auto, value_name = "WHAT", help_heading = "Memory")]
    offload: Offload,
}

/// What the host may use for data.
#[derive(Debug, Args)]
pub struct HostMemoryOptions {
    /// Memory for data on its way: cases being checked and loaded, slices being labelled. The CPU device's arena has a
    /// budget of its own [default: what the machine has left]
    #[arg(long, value_parser = parse, value_name = "SIZE", help_heading = "Memory")]
    host_memory_budget: Option<usize>,
}

impl HostMemoryOptions {
    /// The budget, where `taken` bytes of what the machine has left will be used for something else.
    pub fn bytes(&self, taken: usize) -> usize {
        let left = || available().map_or(usize::MAX, |left| left.saturating_sub(taken));
        self.host_memory_budget.unwrap_or_else(left)
    }
}

impl MemoryOptions {
    /// What may live on the host.
    pub fn offload(&self) -> Offload {
        self.offload
    }

    /// Checks the options for this device.
    ///
    /// # Errors
    /// If something is to be on the host, and the device is the CPU, whose values are there as they are.
    pub fn check(&self, target: &Target) -> Result<()> {
        if self.offload == Offload::Optimizer && matches!(target, Target::Cpu(_)) {
            let cause = "the CPU device keeps everything on the host as it is";
            return Err(Error::usage("--offload", cause, "leave it out, or choose a GPU"));
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
        let bytes = free.map(|free| free.saturating_sub(kept));
        Ok(Limit { budget: Budget { bytes, rematerialise: self.rematerialise, offload: self.offload }, name })
    }

    /// The limit of a run on no particular machine.
    pub fn chosen(&self, default: usize) -> Limit {
        self.named(default, "the budget is")
    }

    /// The limit of a run on a card with this much memory, unless the user sets another.
    pub fn of_card(&self, free: usize) -> Limit {
        self.named(free, if self.memory_budget.is_some() { "the budget is" } else { "the card has" })
    }

    fn named(&self, default: usize, name: &'static str) -> Limit {
        let bytes = Some(self.memory_budget.unwrap_or(default));
        Limit { budget: Budget { bytes, rematerialise: self.rematerialise, offload: self.offload }, name }
    }
}
