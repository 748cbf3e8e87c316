//! `gyrus bench`: how long each operation of a training step takes, and how far that is from what the device can do.

mod counters;
mod report;

use std::time::Instant;

use clap::Args;

use self::report::{About, Peaks, Report, Times};
use super::{
    choice::choice,
    device::DeviceOptions,
    fuse::FuseOptions,
    given::{Given, Idle},
    memory::MemoryOptions,
    options::{NetworkOptions, OptimizerOptions},
    output::SaveOptions,
};
use crate::{
    Error, Result,
    cpu::{
        Threads,
        peak::{self, Products},
    },
    data::{
        augment::{Augment, Recipe},
        preprocess::Pending,
    },
    machine::Machine,
    nn::{StepConfig, initial_parameters, names},
    ops::{augment, dice::LossKind, optimizer::Optimizer},
    peaks::GpuPeaks,
    plan::budget::Fitted,
    random::Stream,
    session::{self, Device, Program, Target},
    tensor::Volume,
    train::budget::Run,
};

/// Every time of every node is kept for the medians.
const MOST_STEPS: usize = 100_000;

/// Time a training step on random data: per operation and as a whole, as `train` would run it.
///
/// Peaks are measured on the spot: arithmetic and copying. An operation's roofline is the time that its arithmetic or its
/// memory traffic would take at those peaks, whichever is longer; 16-bit operations are held against 16-bit arithmetic. On the
/// CPU the arithmetic peak is multiply-adds in registers; on a GPU, kernels that do nothing else. There, times come from the
/// GPU's own clock, and the whole step is a captured one. The emulated GPU has no clock: it counts what one step does instead.
///
/// JSON keys: device, name, threads, peak_gflops, half_peak_gflops, copy_gbs (these three unless `--no-peaks`), arena_bytes,
/// step_ms (median), step_gflops, step_roofline, steps, operations (kind, calls, ms, gflops, gbs, roofline, share), kernels (kernel, launches, ms, share). Emulated:
/// device, name, arena_bytes, flops (of a step), kernels (kernel, launches, and every counter by its name).
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    network: NetworkOptions,
    #[command(flatten)]
    optimizer: OptimizerOptions,
    #[command(flatten)]
    device: DeviceOptions,
    #[command(flatten)]
    fuse: FuseOptions,
    #[command(flatten)]
    memory: MemoryOptions,

    /// The loss
    #[arg(long, value_parser = choice::<LossKind>(), default_value = "log_dice")]
    loss: LossKind,

    /// Samples per training step
    #[arg(long, default_value_t = 1, value_name = "N")]
    train_batch_size: usize,

    /// Steps before the clock starts
    #[arg(long, default_value_t = 2, value_name = "N")]
    warmup: usize,

    /// Steps that are timed
    #[arg(long, default_value_t = 10, value_name = "N")]
    steps: usize,

    /// Do not measure the peaks first, which takes seconds and 512 MiB: nothing is said of the roofline then
    #[arg(long)]
    no_peaks: bool,

    /// List every node instead of every kind of operation
    #[arg(long)]
    nodes: bool,

    #[command(flatten)]
    save: SaveOptions,
}

/// Runs the command.
pub fn run(options: Options, given: &Given) -> Result<()> {
    let (recipe, optimizer) = (options.network.recipe(), options.optimizer.recipe());
    let network = recipe.config(options.device.precision, None, None);
    let extent = recipe.extent();
    network.check(extent)?;
    network.check_batch("train_batch_size", options.train_batch_size, extent)?;
    optimizer.check()?;
    if !(1..=MOST_STEPS).contains(&options.steps) {
        let cause = format!("{} steps", options.steps);
        return Err(Error::usage("--steps", cause, format!("give 1 to {MOST_STEPS}")));
    }
    let training = StepConfig {
        network,
        batch: options.train_batch_size,
        extent,
        loss: options.loss,
        optimizer: Optimizer { rule: optimizer.rule(), clip: optimizer.clip_value },
    };
    let mut opened = options.device.open()?;
    given.remark(&options.idle(opened.device));
    let limit = options.memory.recipe(None).of_device(&mut opened.target)?;
    let step = Run { training, validation_batch: 1, fuse: options.fuse.fuse }.fit(opened.target.options(), limit)?;
    let (device, name) = (opened.device.to_string(), opened.description.clone());
    match opened.target {
        Target::Cpu(threads) => {
            let about = About { device, name, threads: Some(threads.count()) };
            // Before the arena is there: what is in use at the peak is the step's.
            let peaks = (!options.no_peaks).then(|| Peaks {
                peak_gflops: peak::multiply_adds(&threads, Products::Single),
                half_peak_gflops: Some(peak::multiply_adds(&threads, Products::Half)),
                copy_gbs: peak::copy(&threads),
            });
            let times = on_cpu(threads, &step, network.classes, &options)?;
            options.print(about, peaks, &step, times)
        }
        Target::Machine(machine) => {
            if let Some(tally) = machine.tally() {
                filled(machine, &step, network.classes)?.run_captured(0)?;
                return counters::report((device, name), &step, &tally, &options.save);
            }
            let (peaks, times) = on_machine(machine, &step, network.classes, &options)?;
            options.print(About { device, name, threads: None }, peaks, &step, times)
        }
    }
}

impl Options {
    /// What has no effect beside the other options, on this device.
    fn idle(&self, device: Device) -> Vec<Idle> {
        let counts = ["warmup", "steps", "no-peaks", "nodes"];
        let counts =
            counts.map(|option| (option, matches!(device, Device::Emulated(_)), "the emulated GPU counts one step"));
        let shared = [self.network.idle(), self.optimizer.idle(), DeviceOptions::idle(device)];
        counts.into_iter().chain(shared.into_iter().flatten()).collect()
    }

    fn print(&self, about: About, peaks: Option<Peaks>, step: &Fitted, times: Times) -> Result<()> {
        let report = Report::new(about, peaks, step, times, self.nodes);
        self.save.report(&serde_json::to_value(&report).expect("plain data"), || report.print())
    }
}

fn on_cpu(threads: Threads, step: &Fitted, classes: usize, options: &Options) -> Result<Times> {
    let mut program = filled(threads, step, classes)?;
    for _ in 0..options.warmup {
        program.run(0)?;
    }
    let mut times = Times::new(&step.graphs[0]);
    for _ in 0..options.steps {
        let start = Instant::now();
        program.run_timed(0, &mut |node, _, seconds| times.node(node, None, seconds))?;
        times.end_of_step(start.elapsed().as_secs_f64());
    }
    Ok(times)
}

fn on_machine(
    machine: Box<dyn Machine>,
    step: &Fitted,
    classes: usize,
    options: &Options,
) -> Result<(Option<Peaks>, Times)> {
    let no_clock = || Error::Device {
        device: "bench".to_owned(),
        cause: "this machine has no clock".to_owned(),
        advice: "use --device cpu, cuda or emulated".to_owned(),
    };
    let (machine, peaks) = if options.no_peaks {
        (machine, None)
    } else {
        let (machine, peaks) = GpuPeaks::measure(machine)?;
        let GpuPeaks { fp32_gflops, half_gflops, copy_gbs, .. } = peaks.ok_or_else(no_clock)?;
        (machine, Some(Peaks { peak_gflops: fp32_gflops, half_peak_gflops: Some(half_gflops), copy_gbs }))
    };
    let mut program = filled(machine, step, classes)?;
    for _ in 0..options.warmup {
        program.run_captured(0)?;
    }
    let mut times = Times::new(&step.graphs[0]);
    let whole = program.time_captured(0, options.steps)?.ok_or_else(no_clock)?;
    for seconds in whole {
        program.run_timed(0, &mut |node, kernel, seconds| times.node(node, Some(kernel), seconds))?;
        times.end_of_step(seconds);
    }
    Ok((peaks, times))
}

/// The most that augmentation does: each case of the batch turned, bent and with noise.
fn numbers(volume: Volume) -> Vec<f32> {
    let layout = augment::layout(volume);
    let settings = Augment::Full.settings();
    let is_full = |recipe: &Recipe| recipe.noise > 0.0 && recipe.matrix[0][1] != 0.0;
    let recipes = (0..).map(|epoch| Recipe::draw(&settings, 0, epoch, "bench", [1.0; 3], volume.c)).filter(is_full);
    let row = |recipe| {
        let mut row = vec![0.0; layout.row()];
        layout.write(&mut row, &recipe, &Pending::nothing(volume.extent, volume.c));
        row
    };
    recipes.take(volume.n).flat_map(row).collect()
}

/// Random images and labels, initial weights, and a learning rate of zero: the same work at every step.
fn filled(target: impl Into<Target>, step: &Fitted, classes: usize) -> Result<Box<dyn Program>> {
    let mut program = session::bind_planned(&step.graphs, step.plan.clone(), target)?;
    let graph = &step.graphs[0];
    let mut stream = Stream::new(0, "bench");
    let elements = |name: &str| graph.find(name).map_or(0, |id| graph.value(id).spec.shape.elements());
    let images: Vec<f32> = (0..elements(names::IMAGES)).map(|_| stream.normal() as f32).collect();
    let labels: Vec<u8> = (0..elements(names::LABELS)).map(|_| stream.below(classes) as u8).collect();
    program.write_ahead(program.slot(names::IMAGES)?, &images)?;
    program.write_ahead(program.slot(names::LABELS)?, &labels)?;
    if let Some(volume) = graph.find(names::IMAGES).and_then(|id| graph.value(id).spec.shape.volume())
        && program.has(names::NUMBERS)
    {
        program.write_ahead(program.slot(names::NUMBERS)?, &numbers(volume))?;
    }
    program.set(names::CLASS_WEIGHTS, &vec![1.0f32; elements(names::CLASS_WEIGHTS)])?;
    program.set(names::LOSS_SCALE, &[1.0f32])?;
    program.set(names::HYPER, &[0.0f32, 0.0, 0.0, 1.0])?;
    program.set_all(&initial_parameters(graph, 0))?;
    Ok(program)
}
