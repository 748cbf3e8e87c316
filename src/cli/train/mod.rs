//! `gyrus train`: from a dataset to a trained network.

mod data;

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use clap::{ArgAction, Args};

use self::data::DataOptions;
use super::{
    device::{Device, DeviceOptions, check_threads},
    fuse::FuseOptions,
    memory::{HostMemoryOptions, MemoryOptions},
    options::{LossName, NetworkOptions, OptimizerOptions, duration},
};
use crate::{
    Error, Result,
    data::{
        augment::Augmentation,
        dataset::{Case, Split},
        loader::{Loader, LoaderSettings, Order},
        memory::{Largest, LoaderShape},
        preprocess::Preprocessing,
        sampler::Sampler,
        validate::{Expectation, survey},
    },
    train::{
        Ending, RunOptions, TrainConfig, Trainer,
        record::{Record, Start},
        schedule::{EarlyStop, Plateau, Rule, Schedule},
        trainer::{BEST, LAST},
    },
};

/// Train a 3-D U-Net on a dataset.
///
/// Extents are named as in the training script that this program replaces: `--mri-height` is the NIfTI file's first
/// axis, `--mri-width` its second, `--mri-depth` its third. All must be multiples of 16.
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    data: DataOptions,
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
    #[command(flatten)]
    host: HostMemoryOptions,

    /// The loss
    #[arg(long, value_enum, default_value_t = LossName::LogDice, help_heading = "Training")]
    loss: LossName,

    /// Weight classes by the inverse of their share of the training voxels
    #[arg(long, default_value_t = true, action = ArgAction::Set, value_name = "BOOL", help_heading = "Training")]
    weighted_classes: bool,

    /// Epochs of the whole run
    #[arg(long, default_value_t = 100, value_name = "N", help_heading = "Training")]
    training_epochs: usize,

    /// Learning rate
    #[arg(long, default_value_t = 1e-4, help_heading = "Training")]
    lr: f64,

    /// How the learning rate falls: on a plateau of the validation Dice coefficient, or over the whole run
    #[arg(long, value_enum, default_value_t = ScheduleName::Plateau, help_heading = "Training")]
    lr_schedule: ScheduleName,

    /// Steps over which the learning rate rises at first
    #[arg(long, default_value_t = 0, value_name = "STEPS", help_heading = "Training")]
    warmup_steps: u64,

    /// End after this many epochs without a better validation Dice coefficient [default: never]
    #[arg(long, value_name = "EPOCHS", help_heading = "Training")]
    early_stop: Option<u32>,

    /// End after this time (such as 90s, 15m, 2h), ready to be resumed
    #[arg(long, value_parser = duration, value_name = "TIME", help_heading = "Training")]
    time_budget: Option<Duration>,

    /// Samples per training step
    #[arg(long, default_value_t = 1, value_name = "N", help_heading = "Training")]
    train_batch_size: usize,

    /// Samples per validation pass
    #[arg(long, default_value_t = 1, value_name = "N", help_heading = "Training")]
    val_batch_size: usize,

    /// Of initial weights, folds, order, augmentation and dropout
    #[arg(long, default_value_t = 0, help_heading = "Training")]
    seed: u64,

    /// Folder for checkpoints, history and curves
    #[arg(long, default_value = "model", value_name = "DIR", help_heading = "Output")]
    model_path: PathBuf,

    /// Continue the run in --model-path from its last checkpoint
    #[arg(long, default_value_t = false, action = ArgAction::Set, value_name = "BOOL", help_heading = "Output")]
    resume_train: bool,

    /// Replace the run in --model-path
    #[arg(long, help_heading = "Output")]
    overwrite: bool,

    /// Train on several GPUs
    #[arg(long, default_value_t = false, action = ArgAction::Set, value_name = "BOOL", help_heading = "Device")]
    train_multi_gpu: bool,

    /// Number of GPUs
    #[arg(long, default_value_t = 1, value_name = "N", help_heading = "Device")]
    num_gpus: usize,
}

/// How the learning rate falls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum ScheduleName {
    /// To a tenth after 20 epochs without improvement, not below 1e-6.
    Plateau,
    /// Half a cosine to zero over the whole run.
    Cosine,
    /// (1 - share of the run)^0.9, as nnU-Net does.
    Polynomial,
    /// Not at all.
    Constant,
}

/// Runs the command.
pub fn run(options: Options) -> Result<()> {
    if options.train_multi_gpu || options.num_gpus != 1 {
        let cause = "training on several GPUs comes in a later version";
        return Err(Error::usage("--train-multi-gpu", cause, "leave it out, and --num-gpus too"));
    }
    options.device.check()?;
    let source = options.data.source(options.seed)?;
    let classes = (!source.labels.is_empty()).then_some(source.labels.len());
    let network = options.network.network(options.device.precision, source.channels, classes);
    let Split { train, validation } = source.split;
    let steps = (train.len() as u64).div_ceil(options.train_batch_size.max(1) as u64);
    let config = options.config(network, steps.saturating_mul(options.training_epochs as u64));
    config.check()?;
    check_threads("--num-workers", options.data.num_workers)?;
    let start = options.start()?;
    let mut device = options.device.open()?;
    options.memory.check(&device.runs_on)?;
    let is_on_host = !matches!(device.device, Device::Cuda(_));

    let labels = label_names(&source.labels, network.classes);
    let largest = Largest::of(train.iter().chain(&validation));
    let cores = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let expectation = Expectation {
        channels: Some(network.channels),
        classes: Some(network.classes),
        class_names: labels.clone(),
        threads: Some(largest.survey_threads(cores, options.host.bytes(0))?),
        ..Expectation::default()
    };
    note!("checking {} training and {} validation cases", train.len(), validation.len());
    let fingerprint = survey(&train, &validation, &expectation, &|| ())?;
    let preprocessing =
        Preprocessing::new(options.network.extent(), options.data.normalization, options.data.fit, &fingerprint)?;
    let class_weights = class_weights(&options, &fingerprint.class_weights(), network.outputs());

    let (train_batch, validation_batch, augmentation) =
        (config.train_batch, config.validation_batch, config.augmentation);
    // Memory and the checkpoint to resume come before the first folder is made.
    let limit = options.memory.of_device(&mut device.runs_on)?;
    note!("device: {}", device.description);
    let mut trainer =
        Trainer::within(limit, config, preprocessing.clone(), labels.clone(), class_weights, device.runs_on)?;
    let folder = &options.model_path;
    if start == Start::Resume {
        trainer.resume(&folder.join(LAST))?;
    }
    let form = trainer.form();
    let shape = |batch, augmentation: Augmentation| {
        let is_augmented = augmentation != Augmentation::default();
        LoaderShape { extent: options.network.extent(), batch, is_augmented, form }
    };
    let shapes = [shape(train_batch, augmentation), shape(validation_batch, Augmentation::default())];
    let host = options.host.bytes(if is_on_host { trainer.session().plan().total } else { 0 });
    let workers = largest.workers(&shapes, options.data.num_workers, host)?;
    if workers < options.data.num_workers {
        note!("memory: {workers} threads prepare batches instead of {}, to stay within it", options.data.num_workers);
    }
    let loader = |cases: Vec<Case>, order, batch, augmentation| {
        Loader::new(
            cases,
            LoaderSettings {
                preprocessing: preprocessing.clone(),
                sampler: Sampler::Whole,
                classes: network.classes,
                augmentation,
                seed: options.seed,
                order,
                form,
                batch,
                workers,
                cache: options.data.cache.clone(),
            },
        )
    };
    let training = loader(train, Order::Shuffled, train_batch, augmentation)?;
    let validating = loader(validation, Order::Fixed, validation_batch, Augmentation::default())?;

    let plan = trainer.session().plan();
    note!(
        "memory: {:.2} GiB planned and allocated, {:.2} of it parameters, gradients and optimizer state",
        gib(plan.total),
        gib(plan.persistent_bytes),
    );
    if let (forgotten @ 1.., percent) = trainer.rematerialised() {
        note!("memory: {forgotten} activations are computed again to stay within it: {percent:.1} % more work");
    }
    if let Some(staged) = trainer.session().plan().staged {
        note!(
            "memory: {:.2} GiB of optimizer state are on the host, and copied for each update",
            gib(staged.place.bytes)
        );
    }
    let mut record = Record::open(folder, labels[1..].to_vec(), start, trainer.position())?;
    let stop = stop_flag();
    let run =
        RunOptions { folder: folder.clone(), time_budget: options.time_budget, stop: &|| stop.load(Ordering::Relaxed) };
    let ending = trainer.run(&training, &validating, &run, &mut record);
    report(&ending, folder, trainer.best())?;
    ending.map(|_| ())
}

impl Options {
    fn config(&self, network: crate::nn::UNetConfig, steps: u64) -> TrainConfig {
        let rule = match self.lr_schedule {
            ScheduleName::Plateau => Rule::Plateau(Plateau::default()),
            ScheduleName::Cosine => Rule::Cosine { end: 0.0, steps },
            ScheduleName::Polynomial => Rule::Polynomial { power: 0.9, end: 0.0, steps },
            ScheduleName::Constant => Rule::Constant,
        };
        TrainConfig {
            network,
            extent: self.network.extent(),
            train_batch: self.train_batch_size,
            validation_batch: self.val_batch_size,
            epochs: self.training_epochs,
            loss: self.loss.into(),
            weighted_classes: self.weighted_classes,
            rule: self.optimizer.rule(),
            clip: self.optimizer.clip_value,
            schedule: Schedule { lr: self.lr, warmup_steps: self.warmup_steps, rule },
            early_stop: self.early_stop.map(|patience| EarlyStop { patience, min_delta: 1e-4 }),
            augmentation: self.data.augmentation(),
            normalization: self.data.normalization,
            fit: self.data.fit,
            seed: self.seed,
            fuse: self.fuse.fuse,
        }
    }

    /// How the folder is to be treated; refuses to lose a run that is there.
    fn start(&self) -> Result<Start> {
        let last = self.model_path.join(LAST);
        match (self.resume_train, self.overwrite) {
            (true, true) => Err(Error::usage("--overwrite", "contradicts --resume-train", "leave one of them out")),
            (true, false) if !last.exists() => {
                Err(Error::input(last, "no run to resume", "start one without --resume-train"))
            }
            (true, false) => Ok(Start::Resume),
            (false, true) => Ok(Start::Replace),
            (false, false) if occupied(&self.model_path) => {
                let advice =
                    "continue it with --resume-train true, replace it with --overwrite, or choose another --model-path";
                Err(Error::input(&self.model_path, "holds a run already", advice))
            }
            (false, false) => Ok(Start::New),
        }
    }
}

fn occupied(folder: &Path) -> bool {
    [LAST, BEST, "history.csv", "history.json"].iter().any(|name| folder.join(name).exists())
}

/// The dataset's names; classes without a name are called by their number.
fn label_names(names: &[String], classes: usize) -> Vec<String> {
    (0..classes).map(|class| names.get(class).cloned().unwrap_or_else(|| format!("class {class}"))).collect()
}

/// One weight per logit channel. In binary mode there is a single channel, whose weight changes nothing.
fn class_weights(options: &Options, of_classes: &[f64], outputs: usize) -> Vec<f32> {
    if !options.weighted_classes || outputs == 1 {
        return vec![1.0; outputs];
    }
    of_classes.iter().map(|&weight| weight as f32).collect()
}

fn gib(bytes: usize) -> f64 {
    bytes as f64 / f64::from(1 << 30)
}

/// Set by Ctrl-C and SIGTERM. A second one ends the program at once.
fn stop_flag() -> Arc<AtomicBool> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // Without handlers a stop would lose the steps since the last checkpoint, which is no reason not to train.
        let _ = signal_hook::flag::register_conditional_default(signal, flag.clone());
        let _ = signal_hook::flag::register(signal, flag.clone());
    }
    flag
}

fn report(ending: &Result<Ending>, folder: &Path, best: Option<(f64, u64)>) -> Result<()> {
    let resume = "continue with --resume-train true";
    match ending {
        Ok(Ending::Completed) => note!("done"),
        Ok(Ending::Stopped) => note!("done: the validation Dice coefficient no longer improves"),
        Ok(Ending::TimeUp) => note!("the time is up: {resume}"),
        Err(Error::Stopped) => note!("stopped; everything is saved: {resume}"),
        Err(_) => return Ok(()),
    }
    if let Some((dice, epoch)) = best {
        say!("best checkpoint: {} (epoch {epoch}, soft validation Dice {dice:.4})", folder.join(BEST).display());
    }
    say!("history and curves: {}", folder.display());
    Ok(())
}
