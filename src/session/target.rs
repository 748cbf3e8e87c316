//! Where programs run: as the user names it, and opened.

use std::{fmt, str::FromStr};

use crate::{
    Error, Result,
    cpu::{Threads, memory::available},
    lowering::Processor,
    machine::{self, Cuda, Emulated, Machine},
    plan::Options,
};

/// A device as the user names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// The best there is.
    Auto,
    /// The processor.
    Cpu,
    /// A GPU, by its number.
    Cuda(usize),
    /// The GPU's instructions, executed on the processor; as a GPU of this compute capability, times ten, would.
    Emulated(Option<u32>),
}

/// Where a program runs.
#[derive(Debug)]
pub enum Target {
    /// On these threads.
    Cpu(Threads),
    /// On this GPU, real or emulated.
    Machine(Box<dyn Machine>),
}

impl From<Threads> for Target {
    fn from(threads: Threads) -> Self {
        Self::Cpu(threads)
    }
}

impl From<Box<dyn Machine>> for Target {
    fn from(machine: Box<dyn Machine>) -> Self {
        Self::Machine(machine)
    }
}

impl Device {
    /// The device that is meant: [`Self::Auto`] is the first GPU that there are kernels for, else the processor, with the
    /// reason.
    pub fn resolve(self) -> (Self, Option<Error>) {
        match self {
            Self::Auto => match machine::first_usable() {
                Ok(ordinal) => (Self::Cuda(ordinal), None),
                Err(reason) => (Self::Cpu, Some(reason)),
            },
            named => (named, None),
        }
    }
}

impl Target {
    /// Opens a device. The processor and the emulated GPU use so many threads; 0: one per core.
    ///
    /// # Errors
    /// If it is not there.
    pub fn open(device: Device, threads: usize) -> Result<Self> {
        Ok(match device.resolve().0 {
            Device::Cuda(ordinal) => Self::Machine(Box::new(Cuda::open(ordinal)?)),
            Device::Emulated(None) => Self::Machine(Box::new(Emulated::with_threads(threads))),
            Device::Emulated(Some(compute)) => Self::Machine(Box::new(Emulated::like(compute, threads))),
            Device::Cpu | Device::Auto => Self::Cpu(Threads::new(threads)),
        })
    }

    /// How programs are laid out here.
    pub fn options(&self) -> Options {
        match self {
            Self::Cpu(threads) => Options::for_threads(threads.count()),
            Self::Machine(_) => Options::for_gpu(),
        }
    }

    /// What kind of processor it is.
    pub fn processor(&self) -> Processor {
        self.options().processor
    }

    /// Bytes that a program may take; none where nobody knows.
    ///
    /// # Errors
    /// If the machine fails.
    pub fn free_memory(&mut self) -> Result<Option<usize>> {
        match self {
            Self::Cpu(_) => Ok(available()),
            Self::Machine(machine) => Ok(Some(usize::try_from(machine.free_memory()?).unwrap_or(usize::MAX))),
        }
    }
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "emulated" => Ok(Self::Emulated(None)),
            "cuda" => Ok(Self::Cuda(0)),
            _ => {
                let ordinal = text.strip_prefix("cuda:").and_then(|number| number.parse().ok()).map(Self::Cuda);
                let generation = text.strip_prefix("emulated:").and_then(Emulated::generation);
                ordinal.or(generation.map(|compute| Self::Emulated(Some(compute)))).ok_or_else(|| {
                    format!("give auto, cpu, cuda, cuda:N, emulated or emulated:sm_{{{}}}", Emulated::generations())
                })
            }
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
            Self::Emulated(None) => f.write_str("emulated"),
            Self::Emulated(Some(compute)) => write!(f, "emulated:sm_{compute}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::TensorCores;

    #[test]
    fn every_listed_machine_opens_and_others_are_refused_by_name() {
        for (name, found) in machine::list() {
            let target = name.parse().map(|device| Target::open(device, 1));
            match (found, target) {
                (Ok(capabilities), Ok(Ok(Target::Machine(machine)))) => {
                    assert_eq!(machine.capabilities(), &capabilities);
                }
                (Err(_), Ok(opened)) => assert_eq!(opened.unwrap_err().exit_code(), 2),
                (found, target) => panic!("{name}: {found:?}, {target:?}"),
            }
        }
        assert!("emulated:sm_70".parse::<Device>().unwrap_err().contains("emulated:sm_{75,80,86,89,90}"));
        assert!("cuda:x".parse::<Device>().unwrap_err().contains("cuda:N"));
    }

    #[test]
    fn an_emulated_generation_has_its_compute_capability_and_its_tensor_cores() {
        let open = |name: &str| match Target::open(name.parse().unwrap(), 1).unwrap() {
            Target::Machine(machine) => machine,
            Target::Cpu(_) => panic!("{name} is no processor"),
        };
        for (name, cores) in [
            ("emulated", TensorCores::Sequential),
            ("emulated:sm_75", TensorCores::Turing),
            ("emulated:sm_89", TensorCores::Ampere),
            ("emulated:sm_90", TensorCores::Hopper),
        ] {
            assert_eq!(open(name).tensor_cores(), cores, "{name}");
        }
        assert_eq!(open("emulated:sm_75").capabilities().compute, 75);
    }
}
