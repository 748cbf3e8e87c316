//! Executes a planned program: binds it to one arena, then only runs.

mod cpu;
mod machine;
mod memory;
mod offload;
mod slot;
mod target;

use std::{collections::HashMap, fmt::Debug};

use self::{cpu::CpuProgram, machine::MachineProgram};
pub use self::{
    slot::{Directory, Scalar, Slot},
    target::{Device, Target},
};
use crate::{
    Result,
    graph::Graph,
    plan::{self, MemoryPlan},
    tensor::{Place, Spec},
};

/// A program bound to an arena, on the CPU or on a machine. Nothing is allocated after [`bind`].
///
/// Values are reached through a [`Slot`]: looked up by name once, when the program has been bound. Graphs are named by their
/// position in the program, their *entry*.
///
/// A machine may still be busy when a run returns; reading a value waits for it.
pub trait Program: Debug + Send {
    /// The layout in force.
    fn plan(&self) -> &MemoryPlan;

    /// The persistent values by name.
    fn directory(&self) -> &Directory;

    /// Runs a graph, operation by operation. If optimizer state is on the host, the first graph is followed by the optimizer,
    /// and this waits for its end.
    ///
    /// # Errors
    /// If the machine fails.
    fn run(&mut self, entry: usize) -> Result<()>;

    /// Like [`Self::run`], with the same bits, by the shortest way: a machine makes a recording at the first call and starts
    /// all kernels at once from then on.
    ///
    /// # Errors
    /// If the machine fails.
    fn run_captured(&mut self, entry: usize) -> Result<()> {
        self.run(entry)
    }

    /// Runs a graph part by part and calls `observe` for each: position of its node, what ran (the kernel, or the kind of
    /// operation), seconds by the clock of whoever ran it. Says whether there is a clock; without, nothing is observed.
    ///
    /// # Errors
    /// If the machine fails.
    fn run_timed(&mut self, entry: usize, observe: &mut dyn FnMut(usize, &'static str, f64)) -> Result<bool>;

    /// Seconds that so many captured runs take, one after the other; none if there is no clock.
    ///
    /// # Errors
    /// If the machine fails.
    fn time_captured(&mut self, entry: usize, runs: usize) -> Result<Option<Vec<f64>>>;

    /// Waits until everything has finished.
    ///
    /// # Errors
    /// If a launch failed.
    fn synchronise(&mut self) -> Result<()> {
        Ok(())
    }

    /// Writes bytes of the arena. Values are written through their slots; this is for tests that look at guard bytes.
    ///
    /// # Errors
    /// If the machine fails.
    fn upload(&mut self, place: Place, bytes: &[u8]) -> Result<()>;

    /// Writes the first bytes of the persistent value at this position of the plan, beside a run that is under way where that
    /// can be done. See [`write_ahead`](trait@Program#method.write_ahead).
    ///
    /// # Errors
    /// If the machine fails.
    fn upload_ahead(&mut self, value: usize, bytes: &[u8]) -> Result<()> {
        let place = Place { bytes: bytes.len(), ..self.plan().persistent[value].place };
        self.upload(place, bytes)
    }

    /// Reads bytes of the arena, after everything before has finished. Like [`Self::upload`].
    ///
    /// # Errors
    /// If the machine fails.
    fn download(&mut self, place: Place, bytes: &mut [u8]) -> Result<()>;

    /// Bytes that were allocated.
    fn arena_bytes(&self) -> usize;

    /// Frees the arena and gives back what the program ran on; a machine's kernels are still loaded.
    ///
    /// # Errors
    /// If the machine fails.
    fn release(self: Box<Self>) -> Result<Target>;
}

/// Plans a program for where it will run, and binds it. Persistent values start as zero.
///
/// # Errors
/// If an operation has no kernel, a kernel is not in this build, or there is too little memory; if the machine fails.
pub fn bind(graphs: &[Graph], target: impl Into<Target>) -> Result<Box<dyn Program>> {
    let target = target.into();
    bind_planned(graphs, plan::plan(graphs, target.options()), target)
}

/// Binds a program to a plan that was made for it and for where it will run ([`Target::options`]).
///
/// # Errors
/// As [`bind`].
///
/// # Panics
/// If the plan does not pass [`plan::verify`]: that is a bug in the planner, and running would corrupt results.
pub fn bind_planned(graphs: &[Graph], plan: MemoryPlan, target: impl Into<Target>) -> Result<Box<dyn Program>> {
    if let Err(violation) = plan::verify(graphs, &plan) {
        panic!("the memory plan is wrong: {violation}");
    }
    Ok(match target.into() {
        Target::Cpu(threads) => Box::new(CpuProgram::bind(graphs, plan, threads)?),
        Target::Machine(machine) => Box::new(MachineProgram::bind(graphs, plan, machine)?),
    })
}

impl<'p> dyn Program + 'p {
    /// The value of this name, to read and write from now on.
    ///
    /// # Errors
    /// If the program has no such value, or it has another element type.
    pub fn slot<T: Scalar>(&self, name: &str) -> Result<Slot<T>> {
        self.directory().slot(name)
    }

    /// The value of this name, whatever its element type, as its bytes.
    ///
    /// # Errors
    /// If the program has no such value.
    pub fn bytes(&self, name: &str) -> Result<Slot<u8>> {
        self.directory().bytes(name)
    }

    /// Whether the program has a persistent value of this name.
    pub fn has(&self, name: &str) -> bool {
        self.directory().has(name)
    }

    /// The persistent values by name, with their specs.
    pub fn persistent(&self) -> impl Iterator<Item = (&str, Spec)> {
        self.plan().persistent.iter().map(|value| (value.name.as_str(), value.spec))
    }

    /// Writes a value.
    ///
    /// # Errors
    /// If the elements do not fill the value exactly, or the slot is another program's; if the machine fails.
    pub fn write<T: Scalar>(&mut self, slot: Slot<T>, elements: &[T]) -> Result<()> {
        self.directory().check(slot, elements.len(), true)?;
        self.upload(slot.place, bytemuck::cast_slice(elements))
    }

    /// Writes the first elements of an input for the next run, beside a run that is under way: the upload begins when that
    /// run no longer reads the input. Best called right after [`Program::run_captured`], and for the first time before it: a
    /// run that was captured before is captured anew.
    ///
    /// # Errors
    /// If the value has fewer elements, or the slot is another program's; if the machine fails.
    pub fn write_ahead<T: Scalar>(&mut self, slot: Slot<T>, elements: &[T]) -> Result<()> {
        self.directory().check(slot, elements.len(), false)?;
        self.upload_ahead(slot.index, bytemuck::cast_slice(elements))
    }

    /// Reads a value, after everything before has finished.
    ///
    /// # Errors
    /// If the slot is another program's; if the machine fails.
    pub fn read<T: Scalar>(&mut self, slot: Slot<T>) -> Result<Vec<T>> {
        let mut elements = vec![T::zeroed(); slot.len()];
        self.read_into(slot, &mut elements)?;
        Ok(elements)
    }

    /// Reads a value into a buffer of its size, after everything before has finished.
    ///
    /// # Errors
    /// If the buffer has another size, or the slot is another program's; if the machine fails.
    pub fn read_into<T: Scalar>(&mut self, slot: Slot<T>, elements: &mut [T]) -> Result<()> {
        self.directory().check(slot, elements.len(), true)?;
        self.download(slot.place, bytemuck::cast_slice_mut(elements))
    }

    /// Writes a value by name: for what is written once.
    ///
    /// # Errors
    /// As [`slot`](trait@Program#method.slot) and [`write`](trait@Program#method.write).
    pub fn set<T: Scalar>(&mut self, name: &str, elements: &[T]) -> Result<()> {
        let slot = self.slot(name)?;
        self.write(slot, elements)
    }

    /// Reads a value by name: for what is read once.
    ///
    /// # Errors
    /// As [`slot`](trait@Program#method.slot) and [`read`](trait@Program#method.read).
    pub fn get<T: Scalar>(&mut self, name: &str) -> Result<Vec<T>> {
        let slot = self.slot(name)?;
        self.read(slot)
    }

    /// Writes values by name, such as initial weights.
    ///
    /// # Errors
    /// As [`set`](trait@Program#method.set).
    pub fn set_all(&mut self, values: &HashMap<String, Vec<f32>>) -> Result<()> {
        values.iter().try_for_each(|(name, elements)| self.set(name, elements))
    }
}

#[cfg(test)]
mod tests;
