//! `gyrus train`: from a dataset to a trained network.

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

use super::{
    device::{Device, DeviceOptions, check_threads},
    fuse::FuseOptions,
    memory::{HostMemoryOptions, MemoryOptions},
    options::{LossName, NetworkOptions, OptimizerOptions, axes, duration},
};
use crate::{
    Error, Result,
    data::{
        augment::{Augment, Augmentation},
        dataset::{Case, Dataset, Split},
        loader::{Loader, LoaderSettings, Order},
        memory::{Largest, LoaderShape},
        preprocess::{Fit, Normalization, Preprocessing},
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

/// Where the cases come from and how they are prepared.
#[derive(Debug, Args)]
struct DataOptions {
    /// Dataset folder, with a dataset.json (Medical Segmentation Decathlon) or with images/ and masks/ or labels/
    #[arg(long, value_name = "DIR", help_heading = "Data", required_unless_present = "train_data_dir",
          conflicts_with_all = ["train_data_dir", "val_data_dir"])]
    dataset: Option<PathBuf>,

    /// Which fold validates, counted from 0
    #[arg(long, default_value_t = 0, value_name = "K", help_heading = "Data")]
    fold: usize,

    /// Number of folds that the cases are dealt into by --seed
    #[arg(long, default_value_t = 5, value_name = "N", help_heading = "Data")]
    folds: usize,

    /// Folds from a file in nnU-Net's splits_final.json format instead
    #[arg(long, value_name = "FILE", help_heading = "Data", requires = "dataset")]
    splits: Option<PathBuf>,

    /// Training folder with images/ and masks/ or labels/
    #[arg(long, value_name = "DIR", help_heading = "Data", requires = "val_data_dir")]
    train_data_dir: Option<PathBuf>,

    /// Validation folder with images/ and masks/ or labels/
    #[arg(long, value_name = "DIR", help_heading = "Data", requires = "train_data_dir")]
    val_data_dir: Option<PathBuf>,

    /// How intensities are made comparable
    #[arg(long, value_enum, default_value_t = Normalization::Volume, help_heading = "Data")]
    normalization: Normalization,

    /// How volumes come to the network's extents
    #[arg(long, value_enum, default_value_t = Fit::Pad, help_heading = "Data")]
    fit: Fit,

    /// Changes drawn anew each epoch; the options below override single ones
    #[arg(long, value_enum, default_value_t = Augment::None, help_heading = "Data")]
    augment: Augment,

    /// Axes to mirror in half of the cases: any of H, W, D, the file's first, second and third axis
    #[arg(long, value_name = "AXES", value_parser = axes, help_heading = "Data")]
    flip: Option<[bool; 3]>,

    /// Largest rotation in degrees
    #[arg(long, value_name = "DEGREES", help_heading = "Data")]
    rotation: Option<f64>,

    /// Largest zoom in or out, as a share
    #[arg(long, value_name = "SHARE", help_heading = "Data")]
    zoom: Option<f64>,

    /// Largest change of a channel's contrast, as a share
    #[arg(long, value_name = "SHARE", help_heading = "Data")]
    intensity_scale: Option<f64>,

    /// Largest shift of a channel's intensities
    #[arg(long, value_name = "AMOUNT", help_heading = "Data")]
    intensity_shift: Option<f64>,

    /// Largest bend of a channel's intensities
    #[arg(long, value_name = "AMOUNT", help_heading = "Data")]
    gamma: Option<f64>,

    /// Largest deviation of added noise
    #[arg(long, value_name = "AMOUNT", help_heading = "Data")]
    noise: Option<f64>,

    /// Threads that prepare batches; 0: none beside the computing ones
    #[arg(long, default_value_t = 1, value_name = "N", help_heading = "Data")]
    num_workers: usize,

    /// Folder that keeps prepared cases between epochs and runs
    #[arg(long, value_name = "DIR", help_heading = "Data")]
    cache: Option<PathBuf>,
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

/// What the dataset options stand for.
struct Source {
    split: Split,
    channels: Option<usize>,
    labels: Vec<String>,
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

impl DataOptions {
    fn source(&self, seed: u64) -> Result<Source> {
        if let (Some(train), Some(validation)) = (&self.train_data_dir, &self.val_data_dir) {
            let (train, validation) = (Dataset::open(train)?, Dataset::open(validation)?);
            let labels = if train.labels.is_empty() { validation.labels } else { train.labels };
            let channels = (!train.channels.is_empty()).then_some(train.channels.len());
            return Ok(Source { split: Split { train: train.cases, validation: validation.cases }, channels, labels });
        }
        let Some(root) = &self.dataset else { unreachable!("one of the two is required") };
        let dataset = Dataset::open(root)?;
        let split = match &self.splits {
            Some(file) => dataset.split_by_file(file, self.fold)?,
            None => dataset.fold(self.fold, self.folds, seed)?,
        };
        let channels = (!dataset.channels.is_empty()).then_some(dataset.channels.len());
        Ok(Source { split, channels, labels: dataset.labels })
    }

    fn augmentation(&self) -> Augmentation {
        let preset = self.augment.settings();
        Augmentation {
            flip: self.flip.unwrap_or(preset.flip),
            rotation: self.rotation.unwrap_or(preset.rotation),
            zoom: self.zoom.unwrap_or(preset.zoom),
            scale: self.intensity_scale.unwrap_or(preset.scale),
            shift: self.intensity_shift.unwrap_or(preset.shift),
            gamma: self.gamma.unwrap_or(preset.gamma),
            noise: self.noise.unwrap_or(preset.noise),
        }
    }
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
