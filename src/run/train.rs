//! Training: from a recipe to a run that is ready, and from there to a trained network.

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
    thread,
};

use super::{
    Event, Observer, Source, TrainRecipe,
    target::{Opened, check_threads},
};
use crate::{
    Error, Result,
    data::{
        augment::Augmentation,
        dataset::Case,
        loader::{Loader, LoaderSettings, Order},
        memory::{Largest, LoaderShape},
        preprocess::Preprocessing,
        sampler::Sampler,
        validate::{Expectation, survey},
    },
    nn::UNetConfig,
    plan::MemoryPlan,
    train::{
        Ending, RunOptions, TrainConfig, Trainer,
        figures::EpochFigures,
        observer::Observer as Steps,
        record::{Record, Start},
        trainer::{BEST, LAST},
    },
};

/// A run that is ready: cases checked, memory allocated, weights set. Nothing has been written yet.
pub struct Prepared {
    trainer: Trainer,
    training: Loader,
    validating: Loader,
    labels: Vec<String>,
    folder: PathBuf,
    start: Start,
    recipe: TrainRecipe,
}

/// What a run that was trained leaves.
#[derive(Clone, Debug, PartialEq)]
pub struct Trained {
    /// Why it ended.
    pub ending: Ending,
    /// Its folder.
    pub folder: PathBuf,
    /// The checkpoint with the best validation Dice coefficient; there once an epoch is done.
    pub best_checkpoint: PathBuf,
    /// That coefficient, and its epoch counted from 1.
    pub best: Option<(f64, u64)>,
}

/// Prepares a run: opens dataset and device, checks every case, plans and allocates memory, and reads the checkpoint if the
/// run is to be continued.
///
/// # Errors
/// Settings that cannot work, cases that cannot be trained on, too little memory, a run that is there already.
pub fn prepare(recipe: &TrainRecipe, observer: &mut dyn Observer) -> Result<Prepared> {
    recipe.device.check()?;
    let source = recipe.data.source(recipe.training.seed)?;
    prepare_cases(recipe, source, observer)
}

/// Like [`prepare`], with cases from elsewhere than the recipe's data.
///
/// # Errors
/// As [`prepare`].
pub fn prepare_cases(recipe: &TrainRecipe, source: Source, observer: &mut dyn Observer) -> Result<Prepared> {
    let TrainRecipe { data, network, training, device, memory, output, .. } = recipe;
    let Source { train, validation, channels, labels } = source;
    let classes = (!labels.is_empty()).then_some(labels.len());
    let net = network.config(device.precision, channels, classes);
    let steps = (train.len() as u64).div_ceil(training.train_batch_size.max(1) as u64);
    let config = recipe.config(net, steps.saturating_mul(training.training_epochs as u64));
    config.check()?;
    check_threads("num_workers", data.num_workers)?;
    let folder = output.folder()?;
    let start = output.start(&folder)?;
    let mut opened = device.open()?;
    memory.check(&opened.target)?;
    if folder != output.model_path {
        observer.event(Event::Folder { folder: folder.clone(), named: output.model_path.clone() });
    }

    let labels = label_names(&labels, net.classes);
    let largest = Largest::of(train.iter().chain(&validation));
    let cores = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let expectation = Expectation {
        channels: Some(net.channels),
        classes: Some(net.classes),
        class_names: labels.clone(),
        threads: Some(largest.survey_threads(cores, memory.host_bytes(0))?),
        ..Expectation::default()
    };
    observer.event(Event::Checking { training: train.len(), validation: validation.len() });
    let fingerprint = survey(&train, &validation, &expectation, &|| ())?;
    let preprocessing = Preprocessing::new(network.extent(), data.normalization, data.fit, &fingerprint)?;
    let class_weights = match training.weighted_classes && net.outputs() > 1 {
        true => fingerprint.class_weights().iter().map(|&weight| weight as f32).collect(),
        // In binary mode there is a single channel, whose weight changes nothing.
        false => vec![1.0; net.outputs()],
    };

    // Memory and the checkpoint to resume come before the first folder is made.
    let limit = memory.of_device(&mut opened.target)?;
    observer.event(Event::Device(opened.description.clone()));
    let is_on_host = opened.is_on_host();
    let Opened { target, .. } = opened;
    let mut trainer =
        Trainer::within(limit, config.clone(), preprocessing.clone(), labels.clone(), class_weights, target)?;
    if start == Start::Resume {
        trainer.resume(&folder.join(LAST))?;
    }
    let host = memory.host_bytes(if is_on_host { trainer.plan().total } else { 0 });
    let loaders = Loaders { recipe, preprocessing, classes: net.classes, trainer: &trainer, largest, host };
    let (training, validating) = loaders.open(train, validation, &config, observer)?;
    announce(&trainer, observer);
    Ok(Prepared { trainer, training, validating, labels, folder, start, recipe: recipe.clone() })
}

impl Prepared {
    /// The memory that the run has, to the byte.
    pub fn plan(&self) -> &MemoryPlan {
        self.trainer.plan()
    }

    /// The names of the classes, background first.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// The network that will be trained.
    pub fn network(&self) -> UNetConfig {
        self.trainer.network()
    }

    /// What the run was asked for.
    pub fn recipe(&self) -> &TrainRecipe {
        &self.recipe
    }

    /// Trains to the end. `stop` is asked before every step; the run ends, saved, when it says so.
    ///
    /// # Errors
    /// What loading, computing or writing says.
    pub fn train(self, stop: &dyn Fn() -> bool, observer: &mut dyn Observer) -> Result<Trained> {
        let Self { mut trainer, training, validating, labels, folder, start, recipe } = self;
        let record = Record::open(&folder, labels[1..].to_vec(), start, trainer.position())?;
        let options = RunOptions { folder: folder.clone(), time_budget: recipe.training.time_budget, stop };
        let ending = match trainer.run(&training, &validating, &options, &mut Recorded { record, observer }) {
            Err(Error::Stopped) => Ending::OnRequest,
            ended => ended?,
        };
        Ok(Trained { ending, best_checkpoint: folder.join(BEST), best: trainer.best(), folder })
    }
}

/// Keeps the records of a run and passes on what happens.
struct Recorded<'a> {
    record: Record,
    observer: &'a mut dyn Observer,
}

impl Steps for Recorded<'_> {
    fn epoch_starts(&mut self, epoch: usize, epochs: usize, steps: usize, first: usize) {
        self.observer.epoch_starts(epoch, epochs, steps, first);
    }

    fn step(&mut self, loss: f64, dice: f64, took: std::time::Duration) {
        self.observer.step(loss, dice, took);
    }

    fn loss_scale(&mut self, scale: f32, skipped_in_epoch: u64) {
        self.observer.loss_scale(scale, skipped_in_epoch);
    }

    fn epoch_ends(&mut self, figures: &EpochFigures) -> Result<()> {
        self.observer.epoch_ends(figures)?;
        self.record.epoch_ends(figures)
    }
}

/// What both loaders are made of.
struct Loaders<'a> {
    recipe: &'a TrainRecipe,
    preprocessing: Preprocessing,
    classes: usize,
    trainer: &'a Trainer,
    largest: Largest,
    /// Bytes of host memory that they may take.
    host: usize,
}

impl Loaders<'_> {
    fn open(
        self,
        train: Vec<Case>,
        validation: Vec<Case>,
        config: &TrainConfig,
        observer: &mut dyn Observer,
    ) -> Result<(Loader, Loader)> {
        let form = self.trainer.form();
        let none = Augmentation::default();
        let shape = |batch, augmentation: Augmentation| LoaderShape {
            extent: config.extent,
            batch,
            is_augmented: augmentation != none,
            form,
        };
        let shapes = [shape(config.train_batch, config.augmentation), shape(config.validation_batch, none)];
        let asked = self.recipe.data.num_workers;
        let workers = self.largest.workers(&shapes, asked, self.host)?;
        if workers < asked {
            observer.event(Event::FewerWorkers { workers, asked });
        }
        let loader = |cases, order, batch, augmentation| {
            let settings = LoaderSettings {
                preprocessing: self.preprocessing.clone(),
                sampler: Sampler::Whole,
                classes: self.classes,
                augmentation,
                seed: self.recipe.training.seed,
                order,
                form,
                batch,
                workers,
                cache: self.recipe.data.cache.clone(),
            };
            Loader::new(cases, settings)
        };
        Ok((
            loader(train, Order::Shuffled, config.train_batch, config.augmentation)?,
            loader(validation, Order::Fixed, config.validation_batch, none)?,
        ))
    }
}

fn announce(trainer: &Trainer, observer: &mut dyn Observer) {
    let plan = trainer.plan();
    observer.event(Event::Allocated { total: plan.total, persistent: plan.persistent_bytes });
    if let (activations @ 1.., extra_percent) = trainer.rematerialised() {
        observer.event(Event::Rematerialised { activations, extra_percent });
    }
    if let Some(staged) = plan.staged {
        observer.event(Event::Offloaded { bytes: staged.place.bytes });
    }
}

impl TrainRecipe {
    /// What determines the bits of a run of so many steps with this network.
    pub fn config(&self, network: UNetConfig, steps: u64) -> TrainConfig {
        let Self { data, optimizer, training, .. } = self;
        TrainConfig {
            network,
            extent: self.network.extent(),
            train_batch: training.train_batch_size,
            validation_batch: training.val_batch_size,
            epochs: training.training_epochs,
            loss: training.loss,
            weighted_classes: training.weighted_classes,
            rule: optimizer.rule(),
            clip: optimizer.clip_value,
            schedule: training.schedule(steps),
            early_stop: training.early_stop(),
            augmentation: data.augmentation,
            normalization: data.normalization,
            fit: data.fit,
            seed: training.seed,
            fuse: training.fuse,
        }
    }
}

impl super::OutputRecipe {
    /// The run's folder: see [`run_folder`].
    ///
    /// # Errors
    /// If a file is there.
    pub fn folder(&self) -> Result<PathBuf> {
        let path = &self.model_path;
        let folder = run_folder(path);
        let advice = "a run is a folder, and models of Keras cannot be continued: choose another `model_path`";
        if let Some(file) = [&folder, path].into_iter().find(|path| path.is_file()) {
            return Err(Error::input(file, "is a file", advice));
        }
        Ok(folder)
    }

    /// How the folder is to be treated; refuses to lose a run that is there.
    fn start(&self, folder: &Path) -> Result<Start> {
        let last = folder.join(LAST);
        match (self.resume_train, self.overwrite) {
            (true, true) => Err(Error::usage("overwrite", "contradicts `resume_train`", "leave one of them out")),
            (true, false) if !last.exists() => {
                Err(Error::input(last, "no run to resume", "start one without `resume_train`"))
            }
            (true, false) => Ok(Start::Resume),
            (false, true) => Ok(Start::Replace),
            (false, false) if occupied(folder) => {
                let advice = "continue it with `resume_train = true`, replace it with `overwrite`, or choose another `model_path`";
                Err(Error::input(folder, "holds a run already", advice))
            }
            (false, false) => Ok(Start::New),
        }
    }
}

/// The folder of the run that a path names. The reference names a file, `x.h5`; a run is a folder, and that one is called
/// `x` unless there is a folder of the whole name.
pub fn run_folder(model_path: &Path) -> PathBuf {
    let is_keras =
        |ending: &std::ffi::OsStr| ["h5", "hdf5", "keras"].iter().any(|name| ending.eq_ignore_ascii_case(name));
    let names_a_file = model_path.extension().is_some_and(is_keras) && !model_path.is_dir();
    if names_a_file { model_path.with_extension("") } else { model_path.to_owned() }
}

fn occupied(folder: &Path) -> bool {
    [LAST, BEST, "history.csv", "history.json"].iter().any(|name| folder.join(name).exists())
}

/// The dataset's names; classes without a name are called by their number.
fn label_names(names: &[String], classes: usize) -> Vec<String> {
    (0..classes).map(|class| names.get(class).cloned().unwrap_or_else(|| format!("class {class}"))).collect()
}
