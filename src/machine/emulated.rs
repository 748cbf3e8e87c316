//! An emulated GPU: runs the very PTX that a GPU would get, and checks every access while it does.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ptx_emulator::{Config, Counters, Device, DevicePointer, LaunchConfig, Module, TensorCores};

use super::{Capabilities, Launch, Machine, Recording};
use crate::{Error, Result, cpu::memory::available};

/// Compute capabilities, times ten, that can be emulated by name.
const GENERATIONS: [u32; 5] = [75, 80, 86, 89, 90];

/// Counters by kernel, with the number of its launches: what the emulated kernels did.
pub type Tally = BTreeMap<&'static str, (u64, Counters)>;

/// A GPU on the CPU, of compute capability 9.0 unless another one is asked for. Slow; for tests and for machines without a
/// GPU.
#[derive(Debug)]
pub struct Emulated {
    capabilities: Capabilities,
    device: Device,
    modules: HashMap<&'static str, Module>,
    recordings: Vec<Vec<Launch>>,
    tally: Arc<Mutex<Tally>>,
}

impl Default for Emulated {
    fn default() -> Self {
        Self::new(Config::default())
    }
}

impl Emulated {
    /// An emulated GPU of this configuration.
    pub fn new(config: Config) -> Self {
        let capabilities = Capabilities {
            name: "emulated GPU".to_owned(),
            compute: config.compute_capability,
            memory: config.global_memory,
            multiprocessors: config.multiprocessors,
        };
        let device = Device::new(config);
        Self { capabilities, device, modules: HashMap::new(), recordings: Vec::new(), tally: Arc::default() }
    }

    /// The usual emulated GPU, on so many threads of the host; 0: one per core. Its products are added up in the fastest way,
    /// not in that of any tensor core.
    pub fn with_threads(threads: usize) -> Self {
        Self::new(Config { threads, ..Config::default() })
    }

    /// A GPU of this compute capability (times ten), whose tensor cores add as the real ones do.
    pub fn like(compute_capability: u32, threads: usize) -> Self {
        let tensor_cores = TensorCores::of(compute_capability);
        Self::new(Config { compute_capability, tensor_cores, threads, ..Config::default() })
    }

    /// The compute capability (times ten) that `sm_NN` names, if it is one that can be emulated.
    pub fn generation(name: &str) -> Option<u32> {
        name.strip_prefix("sm_").and_then(|number| number.parse().ok()).filter(|number| GENERATIONS.contains(number))
    }

    /// The numbers behind `sm_`, with commas between.
    pub fn generations() -> String {
        GENERATIONS.map(|number| number.to_string()).join(",")
    }
}

/// The tally behind its lock.
fn locked(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

fn failure(cause: impl ToString) -> Error {
    Error::Device {
        device: "emulated".to_owned(),
        cause: cause.to_string(),
        advice: "this is a bug in a kernel or in the emulator; use `device = cpu`".to_owned(),
    }
}

impl Machine for Emulated {
    fn tally(&self) -> Option<Arc<Mutex<Tally>>> {
        Some(self.tally.clone())
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn tensor_cores(&self) -> TensorCores {
        self.device.config().tensor_cores
    }

    fn load(&mut self, family: &'static str, ptx: &str) -> Result<()> {
        let module = self.device.load_module(ptx).map_err(|error| failure(format_args!("{family}: {error}")))?;
        self.modules.insert(family, module);
        Ok(())
    }

    fn is_loaded(&self, family: &str) -> bool {
        self.modules.contains_key(family)
    }

    fn allocate(&mut self, bytes: usize) -> Result<u64> {
        self.device.allocate(bytes as u64).map(|pointer| pointer.0).map_err(|error| Error::Memory {
            cause: format!("the emulated GPU: {error}"),
            advice: "choose smaller extents or a larger `unet_resize_factor`".to_owned(),
        })
    }

    fn free(&mut self, address: u64) -> Result<()> {
        self.device.free(DevicePointer(address)).map_err(failure)
    }

    /// Its own, or the host's where that is less: emulated bytes are real ones.
    fn free_memory(&mut self) -> Result<u64> {
        let own = self.capabilities.memory - self.device.memory_in_use();
        Ok(available().map_or(own, |host| own.min(host as u64)))
    }

    fn upload(&mut self, address: u64, bytes: &[u8]) -> Result<()> {
        self.device.copy_to_device(DevicePointer(address), bytes).map_err(failure)
    }

    /// Refuses bytes that nothing has written: on a GPU, NVIDIA's `initcheck` reports every one of them.
    fn download(&mut self, address: u64, bytes: &mut [u8]) -> Result<()> {
        let count = bytes.len() as u64;
        match self.device.count_unwritten(DevicePointer(address), count).map_err(failure)? {
            0 => self.device.copy_to_host(bytes, DevicePointer(address)).map_err(failure),
            unwritten => Err(failure(format_args!("a copy to the host takes {unwritten} of {count} bytes unwritten"))),
        }
    }

    fn launch(&mut self, launch: &Launch) -> Result<()> {
        let module = self.modules.get(launch.family);
        let function = module.and_then(|module| module.function(launch.kernel));
        let function =
            function.ok_or_else(|| failure(format_args!("no kernel {} in {}", launch.kernel, launch.family)))?;
        let access = launch.access.iter().enumerate().map(|(index, range)| {
            let name = format!("range {index}");
            if range.is_written {
                ptx_emulator::Access::read_write(range.address, range.bytes, name)
            } else {
                ptx_emulator::Access::read(range.address, range.bytes, name)
            }
        });
        let config = LaunchConfig {
            dynamic_shared: launch.shared,
            access: Some(access.collect()),
            ..LaunchConfig::new(launch.grid, launch.block)
        };
        let counters = self.device.launch(&function, &config, &[&launch.arguments]).map_err(failure)?;
        let mut tally = locked(&self.tally);
        let (launches, total) = tally.entry(launch.kernel).or_default();
        *launches += 1;
        total.add(&counters);
        Ok(())
    }

    fn capture(&mut self, launches: &[Launch]) -> Result<Recording> {
        self.recordings.push(launches.to_vec());
        Ok(Recording(self.recordings.len() - 1))
    }

    fn replay(&mut self, recording: Recording) -> Result<()> {
        let launches = std::mem::take(&mut self.recordings[recording.0]);
        let result = launches.iter().try_for_each(|launch| self.launch(launch));
        self.recordings[recording.0] = launches;
        result
    }

    fn synchronise(&mut self) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_to_the_host_that_takes_padding_along_is_refused() {
        let mut machine = Emulated::default();
        let at = machine.allocate(512).unwrap();
        machine.upload(at, &[7; 300]).unwrap();
        let mut bytes = [0; 300];
        machine.download(at, &mut bytes).unwrap();
        assert_eq!(bytes, [7; 300]);
        let error = machine.download(at, &mut [0; 512]).unwrap_err().to_string();
        assert!(error.contains("takes 212 of 512 bytes unwritten"), "{error}");
    }
}
