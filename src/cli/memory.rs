//! What a run may use: `--memory-budget`, `--rematerialise`, `--offload`, `--host-memory-budget`.

use clap::Args;

use super::choice::choice;
use crate::{
    plan::budget::{Offload, Rematerialise},
    run::MemoryRecipe,
    size::parse,
};

/// What a step may use.
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
    #[arg(long, value_parser = choice::<Offload>(), default_value = "auto", value_name = "WHAT", help_heading = "Memory")]
    offload: Offload,
}

/// What the host may use for data.
#[derive(Debug, Args)]
pub struct HostMemoryOptions {
    /// Memory for data on its way: cases being checked and loaded, slices being labelled. The CPU device's arena has a
    /// budget of its own [default: what the machine has left]
    #[arg(long, value_parser = parse, value_name = "SIZE", help_heading = "Memory")]
    pub host_memory_budget: Option<usize>,
}

impl MemoryOptions {
    /// The settings, with those of the host where a command has them.
    pub fn recipe(&self, host: Option<&HostMemoryOptions>) -> MemoryRecipe {
        MemoryRecipe {
            memory_budget: self.memory_budget,
            rematerialise: self.rematerialise,
            offload: self.offload,
            host_memory_budget: host.and_then(|host| host.host_memory_budget),
        }
    }
}
