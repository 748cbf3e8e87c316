//! Where to compute: `--device`, `--precision`, `--threads`.

use std::{
    ffi::OsString,
    fmt,
    str::FromStr,
    sync::{Arc, Mutex},
};

use clap::Args;

use super::given::Idle;
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
    /// The GPU's instructions, executed on the processor.
    Emulated,
}

/// The options that choose where to compute.
#[derive(Debug, Args)]
pub struct DeviceOptions {
    /// Where to compute: cpu, cuda[:N], emulated (the GPU's instructions, executed and checked on the processor: slow), or
    /// auto (the first GPU that there are kernels for, else the processor)
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
            Device::Emulated => Ok(self.emulated()),
        }
    }

    /// Checks what can be checked without a device.
    ///
    /// # Errors
    /// Naming the option that does not work.
    pub fn check(&self) -> Result<()> {
        check_threads("--threads", self.threads)
    }

    /// The options as they are typed; those that have their default are left out.
    pub fn words(&self) -> Vec<OsString> {
        let precision = self.precision.map(|precision| ["--precision".to_owned(), precision.to_string()]);
        let threads = (self.threads != 0).then(|| ["--threads".to_owned(), self.threads.to_string()]);
        let device = Some(["--device".to_owned(), self.device.to_string()]);
        [device, precision, threads].into_iter().flatten().flatten().map(OsString::from).collect()
    }

    /// What has no effect where `device` computes.
    pub fn idle(device: Device) -> Vec<Idle> {
        vec![("threads", matches!(device, Device::Cuda(_)), "a GPU computes")]
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

    fn emulated(&self) -> Opened {
        let machine = Emulated::with_threads(self.threads);
        let tally = Some(machine.tally());
        let capability = machine.capabilities().compute_capability();
        let description = format!("an emulated GPU of compute capability {capability}, every access checked");
        Opened { runs_on: RunsOn::Machine(Box::new(machine)), device: Device::Emulated, description, tally }
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
            "emulated" => Ok(Self::Emulated),
            "cuda" => Ok(Self::Cuda(0)),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|number| number.parse().ok())
                .map(Self::Cuda)
                .ok_or_else(|| "give auto, cpu, cuda, cuda:N or emulated".to_owned()),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
            Self::Emulated => f.write_str("emulated"),
        }
    }
}
