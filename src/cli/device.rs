//! Where to compute: `--device`, `--precision`, `--threads`.

use std::{fmt, str::FromStr};

use clap::Args;

use crate::{Error, Result, cpu::Threads, nn::Precision};

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
    /// Where to compute: auto, cpu, cuda[:N] or emulated
    #[arg(long, default_value = "auto", help_heading = "Device")]
    pub device: Device,

    /// Number format of activations; weights, statistics and sums are fp32 always. fp16 comes with dynamic loss scaling
    /// [default: predict: what the network was trained in; else fp32]
    #[arg(long, value_enum, help_heading = "Device")]
    pub precision: Option<Precision>,

    /// Threads of the CPU device; 0: one per core. Results do not depend on it
    #[arg(long, default_value_t = 0, help_heading = "Device")]
    pub threads: usize,
}

impl DeviceOptions {
    /// The threads of the CPU device.
    ///
    /// # Errors
    /// If another device is asked for.
    pub fn cpu(&self) -> Result<Threads> {
        if !matches!(self.device, Device::Auto | Device::Cpu) {
            let cause = format!("this version trains and predicts on the CPU, not on {}", self.device);
            return Err(Error::usage("--device", cause, "use --device cpu"));
        }
        check_threads("--threads", self.threads)?;
        Ok(Threads::new(self.threads))
    }
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
