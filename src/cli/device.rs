//! Where to compute: `--device`, `--precision`, `--threads`.

use std::ffi::OsString;

use clap::Args;

use super::{choice::choice, given::Idle};
use crate::{
    Result,
    nn::Precision,
    run::{DeviceRecipe, Opened},
    session::Device,
};

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
    #[arg(long, value_parser = choice::<Precision>(), help_heading = "Device")]
    pub precision: Option<Precision>,

    /// Threads of the CPU device and of the emulated GPU; 0: one per core. Results do not depend on it
    #[arg(long, default_value_t = 0, help_heading = "Device")]
    pub threads: usize,
}

impl DeviceOptions {
    /// The settings.
    pub fn recipe(&self) -> DeviceRecipe {
        DeviceRecipe { device: self.device, precision: self.precision, threads: self.threads }
    }

    /// The device that was asked for.
    ///
    /// # Errors
    /// If it is not there.
    pub fn open(&self) -> Result<Opened> {
        self.recipe().open()
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
}

/// `1 thread`, `2 threads`.
pub fn counted(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
