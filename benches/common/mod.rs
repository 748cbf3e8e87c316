//! What is timed, and on what: the sizes that matter on the device that is there.

#![allow(dead_code)] // each bench, and the test of the list, uses its own part

pub mod layers;

use gyrus::{
    cpu::Threads,
    machine,
    nn::{Architecture, Precision, StepConfig, UNetConfig},
    ops::{
        dice::LossKind,
        optimizer::{Optimizer, Rule},
    },
    plan::Options,
    session::{self, Target},
};

/// Overrides the choice of the device: `cpu`, `cuda`, `cuda:N`.
const DEVICE: &str = "GYRUS_BENCH_DEVICE";

/// A training step of the reference's network: its name in the benches, and what tells it from others.
#[derive(Clone, Copy, Debug)]
pub struct Network {
    /// Short, for names of benches.
    pub name: &'static str,
    /// Extents D, H, W.
    pub extent: [usize; 3],
    /// Samples in a batch.
    pub batch: usize,
    /// Channels of the images.
    pub channels: usize,
    /// Classes.
    pub classes: usize,
    /// Divides the numbers of filters.
    pub resize_factor: usize,
}

/// A few seconds per step on two cores: the steps that are timed against other engines as well (`benches/peers`).
pub const CPU: [Network; 2] = [
    Network { name: "A", extent: [48, 64, 48], batch: 1, channels: 1, classes: 3, resize_factor: 4 },
    Network { name: "B", extent: [64, 64, 64], batch: 1, channels: 4, classes: 4, resize_factor: 2 },
];

/// The reference's default training, and the patches and batches that nnU-Net would give the same task.
pub const GPU: [Network; 2] = [
    Network { name: "reference", extent: [160, 240, 240], batch: 1, channels: 4, classes: 4, resize_factor: 2 },
    Network { name: "patch", extent: [128, 128, 128], batch: 2, channels: 4, classes: 4, resize_factor: 2 },
];

/// All types that activations are stored in.
pub const PRECISIONS: [Precision; 3] = [Precision::Fp32, Precision::Bf16, Precision::Fp16];

impl Network {
    /// Forward, log_dice, backward, clipping and Adam.
    pub fn step(&self, architecture: Architecture, precision: Precision) -> StepConfig {
        let Self { extent, batch, channels, classes, resize_factor, .. } = *self;
        let network = UNetConfig { architecture, channels, classes, resize_factor, precision, ..UNetConfig::default() };
        let rule = Rule::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-7, amsgrad: false };
        StepConfig { network, batch, extent, loss: LossKind::LogDice, optimizer: Optimizer { rule, clip: 50.0 } }
    }
}

/// Where benches run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Device {
    /// On all cores.
    Cpu,
    /// On this GPU.
    Gpu(session::Device),
}

impl Device {
    /// The first usable GPU, else the CPU, unless the environment says otherwise. Says which it is and why; ends the program
    /// where what was asked for is not there.
    pub fn choose() -> Self {
        let asked = std::env::var(DEVICE).ok();
        let device = match asked.as_deref() {
            Some("cpu") => Self::Cpu,
            Some(name) => match name.parse() {
                Ok(gpu @ session::Device::Cuda(_)) => match Target::open(gpu, 0) {
                    Ok(_) => Self::Gpu(gpu),
                    Err(error) => refuse(&error.to_string()),
                },
                Ok(other) => refuse(&format!("{DEVICE}: {other} has no clock of its own (use cpu, cuda or cuda:N)")),
                Err(advice) => refuse(&format!("{DEVICE}: no such device as {name} ({advice})")),
            },
            None => match machine::first_usable() {
                Ok(ordinal) => Self::Gpu(session::Device::Cuda(ordinal)),
                Err(reason) => {
                    eprintln!("on the CPU: {reason}");
                    Self::Cpu
                }
            },
        };
        if let Self::Gpu(name) = &device {
            eprintln!("on {name}; {DEVICE}=cpu for the CPU");
        }
        device
    }

    /// In names of benches, where it does not matter which GPU of the machine it is.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Gpu(_) => "cuda",
        }
    }

    /// The sizes that matter there.
    pub fn networks(&self) -> &'static [Network] {
        match self {
            Self::Cpu => &CPU,
            Self::Gpu(_) => &GPU,
        }
    }

    /// How programs are laid out there.
    pub fn options(&self) -> Options {
        match self {
            Self::Cpu => Options::for_threads(Threads::new(0).count()),
            Self::Gpu(_) => Options::for_gpu(),
        }
    }

    /// Ready to run.
    pub fn open(&self) -> Target {
        match self {
            Self::Cpu => Threads::new(0).into(),
            Self::Gpu(gpu) => Target::open(*gpu, 0).expect("a usable GPU opens"),
        }
    }
}

fn refuse(cause: &str) -> ! {
    eprintln!("error: {cause}");
    std::process::exit(2)
}
