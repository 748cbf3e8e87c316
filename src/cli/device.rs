//! Where to compute: `--device`, `--precision`, `--threads`.

use std::{
    fmt,
    str::FromStr,
    sync::{Arc, Mutex},
};

use clap::Args;

use crate::{
    Error, Result,
    cpu::Threads,
    machine::{self, Cuda, Emulated, Machine, Tally},
    nn::Precision,
    session::RunsOn,
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

/// The options that choose where to compute.
#[derive(Debug, Args)]
pub struct DeviceOptions {
    /// Where to compute: cpu, cuda[:N], emulated[:sm_NN] (the GPU's instructions, executed and checked on the processor: slow;
    /// with sm_75, sm_80, sm_86, sm_89 or sm_90 tensor cores add as on that generation), or auto (the first GPU that there
    /// are kernels for, else the processor)
    #[arg(long, default_value = "auto", help_heading = "Device")]
    pub device: Device,

    /// Number format of activations; weights, statistics and sums are fp32 always. fp16 comes with dynamic loss scaling
    /// [default: predict: what the network was trained in; else fp32]
    #[arg(long, value_enum, help_heading = "Device")]
    pub precision: Option<Precision>,

    /// Threads of the CPU device and of the emulated GPU; 0: one per core. Results do not depend on it
    #[arg(long, default_value_t = 0, help_heading = "Device")]
    pub threads: usize,
}

/// A device, ready to be used.
pub struct Opened {
    /// Where programs run.
    pub runs_on: RunsOn,
    /// Which of the devices it is; never [`Device::Auto`].
    pub device: Device,
    /// What it is, in one line.
    pub description: String,
    /// What its kernels do, if it is emulated.
    pub tally: Option<Arc<Mutex<Tally>>>,
}

impl DeviceOptions {
    /// The device that was asked for.
    ///
    /// # Errors
    /// If it is not there.
    pub fn open(&self) -> Result<Opened> {
        self.check()?;
        match self.device {
            Device::Auto => match machine::first_usable() {
                Ok(ordinal) => Self::cuda(ordinal),
                Err(reason) => Ok(self.cpu(Some(reason))),
            },
            Device::Cpu => Ok(self.cpu(None)),
            Device::Cuda(ordinal) => Self::cuda(ordinal),
            Device::Emulated(generation) => Ok(self.emulated(generation)),
        }
    }

    /// Checks what can be checked without a device.
    ///
    /// # Errors
    /// Naming the option that does not work.
    pub fn check(&self) -> Result<()> {
        check_threads("--threads", self.threads)
    }

    fn cpu(&self, instead_of_gpu: Option<Error>) -> Opened {
        let threads = Threads::new(self.threads);
        let mut description = format!("the processor, {}, {}", counted(threads.count(), "thread"), threads.isa());
        match instead_of_gpu {
            Some(Error::Usage { cause, .. }) => description += &format!(" ({cause})"),
            Some(other) => description += &format!(" ({other})"),
            None => {}
        }
        Opened { runs_on: threads.into(), device: Device::Cpu, description, tally: None }
    }

    fn cuda(ordinal: usize) -> Result<Opened> {
        let machine = Cuda::open(ordinal)?;
        let about = machine.capabilities();
        let (name, capability) = (&about.name, about.compute_capability());
        let gib = about.memory as f64 / (1u64 << 30) as f64;
        let description = format!("cuda:{ordinal}, {name}, compute capability {capability}, {gib:.1} GiB");
        let runs_on = RunsOn::Machine(Box::new(machine));
        Ok(Opened { runs_on, device: Device::Cuda(ordinal), description, tally: None })
    }

    fn emulated(&self, generation: Option<u32>) -> Opened {
        let machine = match generation {
            Some(compute) => Emulated::like(compute, self.threads),
            None => Emulated::with_threads(self.threads),
        };
        let tally = Some(machine.tally());
        let capability = machine.capabilities().compute_capability();
        let description = format!("an emulated GPU of compute capability {capability}, every access checked");
        Opened { runs_on: RunsOn::Machine(Box::new(machine)), device: Device::Emulated(generation), description, tally }
    }
}

/// `1 thread`, `2 threads`.
pub fn counted(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// Checks a number of threads.
///
/// # Errors
/// Naming the option.
pub fn check_threads(option: &str, threads: usize) -> Result<()> {
    const MOST: usize = 256;
    if threads > MOST {
        return Err(Error::usage(option, format!("{threads} threads"), format!("give at most {MOST}")));
    }
    Ok(())
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
