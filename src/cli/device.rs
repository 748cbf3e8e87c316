//! Where to compute: `--device`, `--precision`, `--threads`.

use clap::Args;

use super::flags::sentence;
use crate::{
    Error, Result,
    nn::Precision,
    session::{Device, Target},
};

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
    pub target: Target,
    /// Which of the devices it is; never [`Device::Auto`].
    pub device: Device,
    /// What it is, in one line.
    pub description: String,
}

impl DeviceOptions {
    /// The device that was asked for.
    ///
    /// # Errors
    /// If it is not there.
    pub fn open(&self) -> Result<Opened> {
        self.check()?;
        let (device, instead) = self.device.resolve();
        let target = Target::open(device, self.threads)?;
        let mut description = describe(device, &target);
        match instead {
            Some(Error::Usage { cause, .. }) => description += &format!(" ({cause})"),
            Some(other) => description += &format!(" ({})", sentence(&other)),
            None => {}
        }
        Ok(Opened { target, device, description })
    }

    /// Checks what can be checked without a device.
    ///
    /// # Errors
    /// Naming the option that does not work.
    pub fn check(&self) -> Result<()> {
        check_threads("--threads", self.threads)
    }
}

/// What a device is, in one line.
fn describe(device: Device, target: &Target) -> String {
    let about = match target {
        Target::Cpu(threads) => {
            return format!("the processor, {}, {}", counted(threads.count(), "thread"), threads.isa());
        }
        Target::Machine(machine) => machine.capabilities(),
    };
    let capability = about.compute_capability();
    if device == Device::Emulated {
        return format!("an emulated GPU of compute capability {capability}, every access checked");
    }
    let gib = about.memory as f64 / (1u64 << 30) as f64;
    format!("{device}, {}, compute capability {capability}, {gib:.1} GiB", about.name)
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
