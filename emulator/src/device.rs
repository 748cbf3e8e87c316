//! The device: memory, modules, launches, in the shape of a driver.

use std::fmt;
use std::sync::Arc;

use crate::counters::Counters;
use crate::execute::{self, Launch};
use crate::fault::{Fault, FaultKind};
use crate::launch::{Access, Config, LaunchConfig};
use crate::memory::{GlobalMemory, GlobalView, Races};
use crate::module::{Function, LoadError, Module, Prepared};

/// An address in the device's global memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DevicePointer(pub u64);

impl DevicePointer {
    /// The address so many bytes further.
    pub fn offset(self, bytes: u64) -> DevicePointer {
        DevicePointer(self.0 + bytes)
    }
}

/// Why a memory operation of the host failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemoryError {
    /// Bytes asked for, bytes left.
    OutOfMemory(u64, u64),
    /// The range (address, bytes) is not inside one allocation.
    OutOfBounds(u64, u64),
    /// The address is not the start of an allocation.
    NotAnAllocation(u64),
}

impl fmt::Display for MemoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MemoryError::OutOfMemory(wanted, left) => write!(f, "allocation of {wanted} bytes, {left} are left"),
            MemoryError::OutOfBounds(at, size) => write!(f, "{size} bytes at 0x{at:x} are not in one allocation"),
            MemoryError::NotAnAllocation(at) => write!(f, "0x{at:x} is not the start of an allocation"),
        }
    }
}

impl std::error::Error for MemoryError {}

/// An emulated GPU.
#[derive(Debug)]
pub struct Device {
    config: Config,
    memory: GlobalMemory,
    /// Tells the race records of one launch from those of the last.
    epoch: u8,
    /// What kernels have printed.
    printed: String,
}

impl Device {
    /// A device with nothing in its memory.
    pub fn new(mut config: Config) -> Device {
        if config.threads == 0 {
            config.threads = std::thread::available_parallelism().map_or(1, |n| n.get());
        }
        let memory = GlobalMemory::new(config.global_memory);
        Device { config, memory, epoch: 0, printed: String::new() }
    }

    /// Its configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Loads PTX text.
    ///
    /// # Errors
    ///
    /// Text that is not PTX, a target newer than the device, or instructions that the emulator lacks, all named.
    pub fn load_module(&mut self, ptx: &str) -> Result<Module, LoadError> {
        Prepared::new(ptx)?.load(&mut self.memory, self.config.compute_capability)
    }

    /// Allocates uninitialised global memory, aligned to 512 bytes.
    ///
    /// # Errors
    ///
    /// Not enough memory.
    pub fn allocate(&mut self, bytes: u64) -> Result<DevicePointer, MemoryError> {
        let base = self.memory.allocate(bytes, false);
        base.map(DevicePointer).map_err(|left| MemoryError::OutOfMemory(bytes, left))
    }

    /// Frees an allocation. Its addresses are never given out again.
    ///
    /// # Errors
    ///
    /// The address does not start a live allocation.
    pub fn free(&mut self, pointer: DevicePointer) -> Result<(), MemoryError> {
        if self.memory.free(pointer.0) { Ok(()) } else { Err(MemoryError::NotAnAllocation(pointer.0)) }
    }

    /// Bytes of global memory in use.
    pub fn memory_in_use(&self) -> u64 {
        self.memory.in_use()
    }

    fn range(&self, at: DevicePointer, bytes: u64) -> Result<(&crate::memory::Allocation, u64), MemoryError> {
        self.memory.locate(at.0, bytes).ok_or(MemoryError::OutOfBounds(at.0, bytes))
    }

    /// Copies from the host.
    ///
    /// # Errors
    ///
    /// The target is not inside one allocation.
    pub fn copy_to_device(&self, to: DevicePointer, from: &[u8]) -> Result<(), MemoryError> {
        let (allocation, offset) = self.range(to, from.len() as u64)?;
        allocation.write(offset, from);
        Ok(())
    }

    /// Copies to the host. Bytes that nothing has written arrive as zero.
    ///
    /// # Errors
    ///
    /// The source is not inside one allocation.
    pub fn copy_to_host(&self, to: &mut [u8], from: DevicePointer) -> Result<(), MemoryError> {
        let (allocation, offset) = self.range(from, to.len() as u64)?;
        allocation.read(offset, to);
        Ok(())
    }

    /// Copies within the device; the ranges may overlap.
    ///
    /// # Errors
    ///
    /// Either range is not inside one allocation.
    pub fn copy_device(&self, to: DevicePointer, from: DevicePointer, bytes: u64) -> Result<(), MemoryError> {
        self.range(to, bytes)?;
        let mut between = vec![0; bytes as usize];
        self.copy_to_host(&mut between, from)?;
        self.copy_to_device(to, &between)
    }

    /// Sets every byte of a range.
    ///
    /// # Errors
    ///
    /// The range is not inside one allocation.
    pub fn memset(&self, to: DevicePointer, value: u8, bytes: u64) -> Result<(), MemoryError> {
        let (allocation, offset) = self.range(to, bytes)?;
        let block = vec![value; bytes.min(1 << 16) as usize];
        let mut done = 0;
        while done < bytes {
            let step = (bytes - done).min(block.len() as u64);
            allocation.write(offset + done, &block[..step as usize]);
            done += step;
        }
        Ok(())
    }

    /// Marks a range as uninitialised again: reading it before writing it is a fault.
    ///
    /// # Errors
    ///
    /// The range is not inside one allocation.
    pub fn poison(&self, at: DevicePointer, bytes: u64) -> Result<(), MemoryError> {
        let (allocation, offset) = self.range(at, bytes)?;
        allocation.poison(offset, bytes);
        Ok(())
    }

    /// The first byte of a range that nothing has written, if any.
    ///
    /// # Errors
    ///
    /// The range is not inside one allocation.
    pub fn first_unwritten(&self, at: DevicePointer, bytes: u64) -> Result<Option<u64>, MemoryError> {
        let (allocation, offset) = self.range(at, bytes)?;
        Ok((0..bytes).find(|&i| !allocation.is_written(offset + i)))
    }

    /// The number of bytes of a range that nothing has written: what NVIDIA's `initcheck` would report if the range were
    /// copied to the host.
    ///
    /// # Errors
    ///
    /// The range is not inside one allocation.
    pub fn count_unwritten(&self, at: DevicePointer, bytes: u64) -> Result<u64, MemoryError> {
        let (allocation, offset) = self.range(at, bytes)?;
        Ok(allocation.count_unwritten(offset, bytes))
    }

    /// What kernels have printed since the last call, launch by launch, and within a launch CTA by CTA.
    pub fn take_printed(&mut self) -> String {
        std::mem::take(&mut self.printed)
    }

    /// Runs a kernel to its end. `arguments` holds the bytes of each parameter in order.
    ///
    /// # Errors
    ///
    /// The first rule that the launch breaks. The device stays usable; what the kernel wrote until then stays.
    pub fn launch(
        &mut self,
        function: &Function,
        launch: &LaunchConfig,
        arguments: &[&[u8]],
    ) -> Result<Counters, Box<Fault>> {
        let kernel = &*function.kernel;
        let mut block = vec![0u8; kernel.parameter_bytes as usize];
        if arguments.len() != kernel.parameters.len() {
            let message = format!("{} arguments for {} parameters", arguments.len(), kernel.parameters.len());
            return Err(self.fault(function, FaultKind::BadArguments, message));
        }
        for (parameter, bytes) in kernel.parameters.iter().zip(arguments) {
            if bytes.len() != parameter.size as usize {
                let message = format!("{}: {} bytes for {}", parameter.name, bytes.len(), parameter.size);
                return Err(self.fault(function, FaultKind::BadArguments, message));
            }
            block[parameter.offset as usize..][..bytes.len()].copy_from_slice(bytes);
        }
        self.launch_block(function, launch, &block)
    }

    /// Like [`launch`](Device::launch), with the argument block already laid out.
    ///
    /// # Errors
    ///
    /// As for [`launch`](Device::launch).
    pub fn launch_block(
        &mut self,
        function: &Function,
        launch: &LaunchConfig,
        arguments: &[u8],
    ) -> Result<Counters, Box<Fault>> {
        let kernel = &*function.kernel;
        if arguments.len() != kernel.parameter_bytes as usize {
            let message = format!("{} bytes of arguments for {}", arguments.len(), kernel.parameter_bytes);
            return Err(self.fault(function, FaultKind::BadArguments, message));
        }
        if let Err(message) = self.check_size(function, launch) {
            return Err(self.fault(function, FaultKind::LaunchTooLarge, message));
        }
        for range in &launch.must_write {
            self.must_write(function, range, |allocation, offset| allocation.poison(offset, range.end - range.start))?;
        }
        if launch.grid.contains(&0) {
            return Ok(Counters::default());
        }
        self.epoch = self.epoch.checked_add(1).unwrap_or_else(|| {
            self.memory.forget_owners();
            1
        });
        let ctas = launch.grid.iter().map(|&n| n as u64).product();
        let mut access = launch.access.clone();
        if let Some(list) = &mut access {
            list.sort_by_key(|range| range.start);
        }
        let run = Launch {
            kernel,
            view: GlobalView {
                allocations: self.memory.live.values().map(Arc::as_ref).collect(),
                freed: &self.memory.freed,
                settled: GlobalView::settled(access.as_deref()),
                access,
                checks: self.config.checks,
                races: Races::new(self.epoch, ctas, kernel.has_fences),
            },
            arguments,
            grid: launch.grid,
            block: launch.block,
            dynamic_shared: launch.dynamic_shared,
            shared_bytes: kernel.static_shared + launch.dynamic_shared,
            seed: self.config.seed,
            step_limit: self.config.step_limit,
            time_limit: self.config.time_limit,
            begun: std::time::Instant::now(),
            multiprocessors: self.config.multiprocessors,
            tensor_cores: self.config.tensor_cores,
            threads: self.config.threads,
        };
        let (result, printed) = execute::run(&run);
        self.printed += &printed;
        let counters = result?;
        for range in &launch.must_write {
            self.must_write(function, range, |_, _| ())?;
            let size = range.end - range.start;
            if let Ok(Some(first)) = self.first_unwritten(DevicePointer(range.start), size) {
                let (allocation, offset) = self.range(DevicePointer(range.start), size).expect("checked before");
                let count = allocation.count_unwritten(offset, size);
                let message = format!("`{}`: {count} of {size} bytes, the first at offset {first}", range.name);
                return Err(self.fault(function, FaultKind::NotWritten, message));
            }
        }
        Ok(counters)
    }

    fn must_write(
        &self,
        function: &Function,
        range: &Access,
        f: impl FnOnce(&crate::memory::Allocation, u64),
    ) -> Result<(), Box<Fault>> {
        match self.memory.locate(range.start, range.end.saturating_sub(range.start)) {
            Some((allocation, offset)) => {
                f(allocation, offset);
                Ok(())
            }
            None => {
                let message = format!("`{}` is to be written and is not inside one allocation", range.name);
                Err(self.fault(function, FaultKind::BadArguments, message))
            }
        }
    }

    fn fault(&self, function: &Function, kind: FaultKind, message: String) -> Box<Fault> {
        Box::new(Fault { kind, kernel: function.name().to_owned(), site: None, message })
    }

    fn check_size(&self, function: &Function, launch: &LaunchConfig) -> Result<(), String> {
        let kernel = &*function.kernel;
        let [x, y, z] = launch.block.map(u64::from);
        let threads = x * y * z;
        if threads == 0 || threads > 1024 || x > 1024 || y > 1024 || z > 64 {
            return Err(format!("a block of {:?} threads", launch.block));
        }
        if launch.grid[0] > i32::MAX as u32 || launch.grid[1] > 65_535 || launch.grid[2] > 65_535 {
            return Err(format!("a grid of {:?} blocks", launch.grid));
        }
        if let Some(required) = kernel.required_threads
            && required != launch.block
        {
            return Err(format!("a block of {:?} threads, the kernel requires {required:?}", launch.block));
        }
        if let Some(most) = kernel.max_threads {
            let declared: u64 = most.iter().map(|&n| n as u64).product();
            if threads > declared {
                return Err(format!("a block of {threads} threads, the kernel is compiled for {declared}"));
            }
        }
        let shared = kernel.static_shared as u64 + launch.dynamic_shared as u64;
        if shared > self.config.shared_memory as u64 {
            return Err(format!("{shared} bytes of shared memory, the device has {}", self.config.shared_memory));
        }
        Ok(())
    }
}
