//! A machine that checks what it is told and runs nothing: for planning a run on a GPU that is not there.

use std::collections::BTreeSet;

use super::{Capabilities, Launch, Machine, Recording};
use crate::{Error, Result};

/// Accepts what a GPU would accept; its memory reads as zeros.
#[derive(Debug)]
pub struct Null {
    capabilities: Capabilities,
    loaded: BTreeSet<&'static str>,
    allocations: Vec<(u64, u64)>,
    next: u64,
    launched: usize,
    recordings: Vec<usize>,
}

impl Default for Null {
    fn default() -> Self {
        Self::new()
    }
}

impl Null {
    /// A machine of compute capability 8.0 that never runs out of memory.
    pub fn new() -> Self {
        let capabilities =
            Capabilities { name: "null".to_owned(), compute: 80, memory: u64::MAX, multiprocessors: 108 };
        let (loaded, allocations, recordings) = (BTreeSet::new(), Vec::new(), Vec::new());
        Self { capabilities, loaded, allocations, next: 1 << 32, launched: 0, recordings }
    }

    /// Launches that it was told to run.
    pub fn launched(&self) -> usize {
        self.launched
    }

    fn check(&self, launch: &Launch) -> Result<()> {
        if !self.loaded.contains(launch.family) {
            return Err(refusal(format!("{}: its family {} is not loaded", launch.kernel, launch.family)));
        }
        for access in launch.access.iter() {
            self.check_range(access.address, access.bytes).map_err(|_| {
                refusal(format!("{}: operand at {:#x} is no allocation", launch.kernel, access.address))
            })?;
        }
        Ok(())
    }

    fn check_range(&self, address: u64, bytes: u64) -> Result<()> {
        let is_inside = |&(start, length): &(u64, u64)| address >= start && address + bytes <= start + length;
        let cause = || refusal(format!("{bytes} bytes at {address:#x} lie outside every allocation"));
        self.allocations.iter().any(is_inside).then_some(()).ok_or_else(cause)
    }
}

fn refusal(cause: String) -> Error {
    Error::Device { device: "null".to_owned(), cause, advice: "this is a bug in Gyrus".to_owned() }
}

impl Machine for Null {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn load(&mut self, family: &'static str, _ptx: &str) -> Result<()> {
        self.loaded.insert(family);
        Ok(())
    }

    fn is_loaded(&self, family: &str) -> bool {
        self.loaded.contains(family)
    }

    fn allocate(&mut self, bytes: usize) -> Result<u64> {
        let address = self.next;
        self.allocations.push((address, bytes as u64));
        self.next += (bytes as u64).next_multiple_of(1 << 20) + (1 << 20);
        Ok(address)
    }

    fn free(&mut self, address: u64) -> Result<()> {
        self.allocations.retain(|(start, _)| *start != address);
        Ok(())
    }

    fn free_memory(&mut self) -> Result<u64> {
        Ok(self.capabilities.memory)
    }

    fn upload(&mut self, address: u64, bytes: &[u8]) -> Result<()> {
        self.check_range(address, bytes.len() as u64)
    }

    fn download(&mut self, address: u64, bytes: &mut [u8]) -> Result<()> {
        bytes.fill(0);
        self.check_range(address, bytes.len() as u64)
    }

    fn launch(&mut self, launch: &Launch) -> Result<()> {
        self.check(launch)?;
        self.launched += 1;
        Ok(())
    }

    fn capture(&mut self, launches: &[Launch]) -> Result<Recording> {
        launches.iter().try_for_each(|launch| self.check(launch))?;
        self.recordings.push(launches.len());
        Ok(Recording(self.recordings.len() - 1))
    }

    fn replay(&mut self, recording: Recording) -> Result<()> {
        self.launched += self.recordings[recording.0];
        Ok(())
    }

    fn synchronise(&mut self) -> Result<()> {
        Ok(())
    }
}
