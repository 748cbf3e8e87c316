//! Optimizer state on the host: copied into the arena before the optimizer runs, and back behind it.
//!
//! When the optimizer begins, the step's activations are dead, and the state takes their place in the arena: a step then
//! needs room for the larger of the two, not for both.

use crate::{
    Result,
    machine::Machine,
    plan::{MemoryPlan, Staged},
    tensor::Place,
};

/// What a plan stages, on the host.
#[derive(Debug)]
pub(super) struct Offloaded {
    staged: Staged,
    bytes: Vec<u8>,
}

impl Offloaded {
    /// Zeros for what the plan stages, if it does.
    pub(super) fn of(plan: &MemoryPlan) -> Option<Self> {
        plan.staged.map(|staged| Self { staged, bytes: vec![0; staged.place.bytes] })
    }

    /// The graph that reads it.
    pub(super) fn entry(&self) -> usize {
        self.staged.entry
    }

    /// Copies everything into the arena, which begins at this address.
    pub(super) fn bring(&self, machine: &mut dyn Machine, base: u64) -> Result<()> {
        machine.upload(base + self.staged.place.offset as u64, &self.bytes)
    }

    /// Copies everything back.
    pub(super) fn take_back(&mut self, machine: &mut dyn Machine, base: u64) -> Result<()> {
        machine.download(base + self.staged.place.offset as u64, &mut self.bytes)
    }

    /// The bytes of a value, if it is one of those on the host.
    pub(super) fn of_place(&mut self, place: Place) -> Option<&mut [u8]> {
        let start = place.offset.checked_sub(self.staged.place.offset)?;
        self.bytes.get_mut(start..start + place.bytes)
    }
}
