//! The training loop: batches in, weights and figures out.
//!
//! Everything that a run does follows from its configuration and its position, so a run that was stopped between any
//! two steps goes on from its checkpoint with the same bits.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    TrainConfig,
    budget::Limit,
    figures::{EpochFigures, Figures},
    loss_scale::LossScale,
    observer::Observer,
    slots::{BatchSlots, Slots},
};
use crate::{
    Error, Result,
    checkpoint::{
        Checkpoint, EarlyStopState, Label, Meta, Position, ScheduleState,
        state::{self, Saved},
    },
    data::{
        loader::{Batch, Form, Loader},
        preprocess::Preprocessing,
    },
    nn::{UNetConfig, initial_parameters, names, record_training},
    ops::dice::Sums,
    optim::OptimizerState,
    plan::{MemoryPlan, budget::Budget},
    session::{self, Program, Slot, Target},
};

const TRAINING: usize = 0;
const VALIDATION: usize = 1;

/// The member of the run's configuration that a checkpoint holds apart.
const NETWORK: &str = "network";

/// File names within a run's folder.
pub const BEST: &str = "best.safetensors";
/// The newest state of the run.
pub const LAST: &str = "last.safetensors";

/// What a run is asked for beyond its configuration.
pub struct RunOptions<'a> {
    /// Where checkpoints go.
    pub folder: PathBuf,
    /// Ends the run after the step at which this much time has passed.
    pub time_budget: Option<Duration>,
    /// Asks whether the user wants to stop; asked before every step.
    pub stop: &'a dyn Fn() -> bool,
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All epochs are done.
    Completed,
    /// The validation Dice stopped improving.
    Stopped,
    /// The time was up; the run can be resumed.
    TimeUp,
    /// Somebody asked for it; everything is saved, and the run can be resumed.
    OnRequest,
}

/// The configuration entry of a checkpoint. The network, which `run` has as well, stands apart in the file.
#[derive(Debug, Serialize, Deserialize)]
struct Configuration {
    run: TrainConfig,
    class_weights: Vec<f32>,
    /// What the epoch under way has added up to.
    partial: Figures,
    /// Where the precision asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    loss_scale: Option<LossScale>,
}

/// A run: the program that computes, and where it stands.
#[derive(Debug)]
pub struct Trainer {
    config: TrainConfig,
    preprocessing: Preprocessing,
    labels: Vec<String>,
    class_weights: Vec<f32>,
    program: Box<dyn Program>,
    slots: Slots,
    rematerialised: (usize, f64),
    saved: Vec<Saved>,
    position: Position,
    optimizer: OptimizerState,
    schedule: ScheduleState,
    early_stop: EarlyStopState,
    best: Option<(f64, u64)>,
    partial: Figures,
    loss_scale: Option<LossScale>,
    /// Before the step under way, in case it turns out to have been skipped.
    optimizer_before: OptimizerState,
}

impl Trainer {
    /// A new run with initial weights, in as much memory as it takes.
    ///
    /// # Errors
    /// If the configuration does not work.
    pub fn new(
        config: TrainConfig,
        preprocessing: Preprocessing,
        labels: Vec<String>,
        class_weights: Vec<f32>,
        target: impl Into<Target>,
    ) -> Result<Self> {
        let limit = Limit { budget: Budget::default(), name: "" };
        Self::within(limit, config, preprocessing, labels, class_weights, target)
    }

    /// A new run with initial weights that stays within a memory limit. The limit changes no bit of the results.
    ///
    /// # Errors
    /// If the configuration does not work, or does not fit.
    pub fn within(
        limit: Limit,
        config: TrainConfig,
        preprocessing: Preprocessing,
        labels: Vec<String>,
        class_weights: Vec<f32>,
        target: impl Into<Target>,
    ) -> Result<Self> {
        config.check()?;
        let target = target.into();
        // What a run starts from and saves is that of the step as it was recorded, however it is laid out.
        let recorded = record_training(&config.training_step())?;
        let fitted = config.program().fit(target.options(), limit)?;
        let (forgotten, extra_percent) = (fitted.forgotten, fitted.extra_flops_percent());
        let graphs = fitted.graphs;
        let mut program = session::bind_planned(&graphs, fitted.plan, target)?;
        program.set_all(&initial_parameters(&recorded, config.seed))?;
        program.set(names::CLASS_WEIGHTS, &class_weights)?;
        program.set(names::LOSS_SCALE, &[1.0f32])?;
        let slots = Slots::of(&*program, config.network.precision.scales_loss())?;
        Ok(Self {
            schedule: config.schedule.start(),
            saved: state::saved_values(&recorded),
            partial: Figures::new(config.network.outputs()),
            early_stop: EarlyStopState::default(),
            loss_scale: config.network.precision.scales_loss().then(LossScale::default),
            optimizer: OptimizerState::default(),
            optimizer_before: OptimizerState::default(),
            position: Position::default(),
            best: None,
            config,
            preprocessing,
            labels,
            class_weights,
            slots,
            program,
            rematerialised: (forgotten, extra_percent),
        })
    }

    /// Continues from a checkpoint: weights, optimizer, schedule and position.
    ///
    /// # Errors
    /// If the checkpoint is damaged, of another network, or of a run with other settings.
    pub fn resume(&mut self, path: &Path) -> Result<()> {
        let checkpoint = Checkpoint::load(path)?;
        let configuration = Configuration::of(&checkpoint, path)?;
        configuration.run.continues_as(&self.config)?;
        let preprocessing = serde_json::to_value(&self.preprocessing).expect("plain data");
        if preprocessing != checkpoint.meta.preprocessing || configuration.class_weights != self.class_weights {
            let cause = "the run was trained on other data";
            return Err(Error::input(path, cause, "resume with the dataset and the split of that run"));
        }
        state::from_tensors(&mut *self.program, &self.saved, &checkpoint, path)?;
        let meta = checkpoint.meta;
        self.position = meta.position;
        self.schedule = meta.schedule.unwrap_or_else(|| self.config.schedule.start());
        self.early_stop = meta.early_stop.unwrap_or_default();
        self.best = meta.best_metric.zip(meta.best_epoch);
        self.partial = configuration.partial;
        if let Some(mine) = &mut self.loss_scale {
            *mine = configuration.loss_scale.ok_or_else(|| {
                let cause = "does not say how the loss was scaled";
                Error::input(path, cause, "give a checkpoint that `gyrus train` wrote")
            })?;
        }
        let skipped = self.loss_scale.map_or(0, |state| state.skipped());
        self.optimizer = OptimizerState::after(&self.config.rule, meta.position.global_step.saturating_sub(skipped));
        Ok(())
    }

    /// The network that is trained.
    pub fn network(&self) -> UNetConfig {
        self.config.network
    }

    /// Where the run stands.
    pub fn position(&self) -> Position {
        self.position
    }

    /// The layout in memory.
    pub fn plan(&self) -> &MemoryPlan {
        self.program.plan()
    }

    /// Number of activations that are computed again in each step, and the work that this adds, in percent.
    pub fn rematerialised(&self) -> (usize, f64) {
        self.rematerialised
    }

    /// How far loaders are to bring the cases of this run: on a GPU the step does the rest.
    pub fn form(&self) -> Form {
        if self.slots.training.numbers.is_some() { Form::Raw } else { Form::Ready }
    }

    /// The best validation Dice coefficient so far, and its epoch counted from 1.
    pub fn best(&self) -> Option<(f64, u64)> {
        self.best
    }

    /// Trains until the configured number of epochs, a requested stop, or the end of the time budget.
    ///
    /// # Errors
    /// What loading or saving says; [`Error::Stopped`] after a requested stop, when the checkpoint is on disk.
    ///
    /// # Panics
    /// If a loader does not bring cases in this run's [`Self::form`].
    pub fn run(
        &mut self,
        training: &Loader,
        validation: &Loader,
        options: &RunOptions<'_>,
        observer: &mut dyn Observer,
    ) -> Result<Ending> {
        assert_eq!([training.form(), validation.form()], [self.form(); 2], "loaders of another form");
        let started = Instant::now();
        while self.position.epoch < self.config.epochs as u64 {
            let start = Instant::now();
            let first_step = self.position.step_in_epoch as usize;
            observer.epoch_starts(self.position.epoch as usize + 1, self.config.epochs, training.steps(), first_step);
            let mut epoch = training.epoch(self.position.epoch as usize, first_step);
            let mut previous = Instant::now();
            let mut is_running = false;
            loop {
                // While a step runs, the next batch is made and uploaded.
                let batch = epoch.next().transpose()?;
                if let Some(batch) = &batch {
                    self.write(self.slots.training, batch)?;
                }
                if is_running {
                    let (loss, dice) = self.finish_step()?;
                    let now = Instant::now();
                    observer.step(loss, dice, now - previous);
                    if let Some(state) = self.loss_scale {
                        observer.loss_scale(state.scale(), state.skipped_in_epoch());
                    }
                    previous = now;
                }
                let Some(batch) = batch else { break };
                training.recycle(batch);
                if (options.stop)() {
                    self.save(&options.folder.join(LAST))?;
                    return Err(Error::Stopped);
                }
                if options.time_budget.is_some_and(|budget| started.elapsed() >= budget) {
                    self.save(&options.folder.join(LAST))?;
                    return Ok(Ending::TimeUp);
                }
                self.start_step()?;
                is_running = true;
            }
            let trained = start.elapsed();
            let waited = epoch.waited();
            drop(epoch);
            let validated = self.validate(validation)?;
            let figures = self.finish_epoch(validated, trained, waited, start.elapsed(), training.steps() - first_step);
            if figures.is_best {
                self.save(&options.folder.join(BEST))?;
            }
            // Records before the checkpoint that says the epoch is done: after a kill in between, the resumed run
            // repeats the epoch and its records; the other way round, they would be missing for good.
            observer.epoch_ends(&figures)?;
            self.save(&options.folder.join(LAST))?;
            if self.config.early_stop.as_ref().is_some_and(|rule| rule.stops(&self.early_stop)) {
                return Ok(Ending::Stopped);
            }
        }
        Ok(Ending::Completed)
    }

    /// Uploads a batch for the next run, beside one that is under way.
    fn write(&mut self, slots: BatchSlots, batch: &Batch) -> Result<()> {
        self.program.write_ahead(slots.images, &batch.images)?;
        self.program.write_ahead(slots.labels, &batch.labels)?;
        slots.numbers.map_or(Ok(()), |numbers| self.program.write_ahead(numbers, &batch.numbers))
    }

    /// Starts an optimizer step on the batch that was written last.
    fn start_step(&mut self) -> Result<()> {
        let rate = self.config.schedule.rate(&self.schedule, self.position.global_step);
        let scale = self.loss_scale.map_or(1.0, |state| state.scale());
        self.optimizer_before = self.optimizer;
        let hyper = self.optimizer.advance(&self.config.rule, rate, f64::from(scale));
        let (seed, step) = (self.config.seed, self.position.global_step);
        self.program.write(self.slots.hyper, &hyper)?;
        let rng = [seed as u32, (seed >> 32) as u32, step as u32, (step >> 32) as u32];
        self.program.write(self.slots.rng, &rng)?;
        if self.loss_scale.is_some() {
            self.program.write(self.slots.loss_scale, &[scale])?;
        }
        self.program.run_captured(TRAINING)
    }

    /// Waits for the step; returns its loss and soft Dice coefficient.
    fn finish_step(&mut self) -> Result<(f64, f64)> {
        let samples = self.samples(self.slots.sums)?;
        let (loss, dice) = self.partial.add_batch(&samples, self.config.loss, &self.class_weights);
        self.position.step_in_epoch += 1;
        self.position.global_step += 1;
        if !loss.is_finite() {
            return Err(self.diverged());
        }
        if let Some((state, overflow)) = self.loss_scale.zip(self.slots.overflow) {
            self.loss_scale = Some(self.next_scale(state, overflow)?);
        }
        Ok((loss, dice))
    }

    /// Lowers the scale of the loss and takes the optimizer's step back if the device skipped it.
    fn next_scale(&mut self, state: LossScale, overflow: Slot<u32>) -> Result<LossScale> {
        if self.program.read(overflow)?[0] == 0 {
            return Ok(state.after_good_step());
        }
        self.optimizer = self.optimizer_before;
        state.after_skipped_step().ok_or_else(|| {
            let Position { epoch, step_in_epoch, .. } = self.position;
            let cause = format!("gradients exceed what fp16 holds (epoch {}, step {step_in_epoch})", epoch + 1);
            Error::usage("precision", cause, "train anew with `precision = bf16`, or with a lower `lr`")
        })
    }

    /// What the last run left about each sample.
    fn samples(&mut self, sums: Slot<f32>) -> Result<Vec<Sums>> {
        let sums = self.program.read(sums)?;
        let voxels = self.config.extent.iter().product();
        Ok(Sums::of_samples(&sums, self.config.network.outputs(), voxels).collect())
    }

    /// Weights that gave no finite loss never recover, and are not worth a checkpoint: the last one on disk is sound.
    fn diverged(&self) -> Error {
        let Position { epoch, step_in_epoch, .. } = self.position;
        let cause = format!("the loss is no longer a number (epoch {}, step {step_in_epoch})", epoch + 1);
        Error::usage("lr", cause, "train anew with a lower learning rate or a lower `clip_value`")
    }

    fn validate(&mut self, loader: &Loader) -> Result<Figures> {
        let mut figures = Figures::new(self.config.network.outputs());
        let mut epoch = loader.epoch(0, 0);
        let mut running = 0;
        loop {
            let batch = epoch.next().transpose()?;
            if let Some(batch) = &batch {
                // A short last batch leaves old samples behind it; their sums are not looked at.
                self.write(self.slots.validation, batch)?;
            }
            if running > 0 {
                let mut samples = self.samples(self.slots.validation_sums)?;
                samples.truncate(running);
                figures.add_batch(&samples, self.config.loss, &self.class_weights);
            }
            let Some(batch) = batch else { return Ok(figures) };
            running = batch.len();
            loader.recycle(batch);
            self.program.run_captured(VALIDATION)?;
        }
    }

    fn finish_epoch(
        &mut self,
        validation: Figures,
        trained: Duration,
        waited: Duration,
        total: Duration,
        steps: usize,
    ) -> EpochFigures {
        let learning_rate = self.config.schedule.rate(&self.schedule, self.position.global_step.saturating_sub(1));
        let metric = validation.dice();
        self.position.epoch += 1;
        self.position.step_in_epoch = 0;
        self.schedule = self.config.schedule.next(&self.schedule, metric);
        if let Some(rule) = &self.config.early_stop {
            self.early_stop = rule.next(&self.early_stop, metric);
        }
        // A metric that is not a number is never the best: nothing would compare as better afterwards.
        let is_best = metric.is_finite() && self.best.is_none_or(|(best, _)| metric > best);
        if is_best {
            self.best = Some((metric, self.position.epoch));
        }
        let skipped = self.loss_scale.map_or(0, |state| state.skipped_in_epoch());
        self.loss_scale = self.loss_scale.map(LossScale::in_new_epoch);
        EpochFigures {
            skipped,
            loss_scale: self.loss_scale.map(|state| f64::from(state.scale())),
            epoch: self.position.epoch,
            global_step: self.position.global_step,
            learning_rate,
            training: std::mem::replace(&mut self.partial, Figures::new(self.config.network.outputs())),
            validation,
            seconds: total.as_secs_f64(),
            step_seconds: trained.saturating_sub(waited).as_secs_f64() / steps.max(1) as f64,
            waited: waited.as_secs_f64() / trained.as_secs_f64().max(f64::MIN_POSITIVE),
            is_best,
        }
    }

    /// Writes the whole state.
    ///
    /// # Errors
    /// What the operating system says; a machine that fails.
    pub fn save(&mut self, path: &Path) -> Result<()> {
        let labels = self.labels.iter().enumerate();
        let configuration = Configuration {
            run: self.config.clone(),
            class_weights: self.class_weights.clone(),
            partial: self.partial.clone(),
            loss_scale: self.loss_scale,
        };
        let meta = Meta {
            position: self.position,
            seed: self.config.seed,
            order_seed: self.config.seed,
            schedule: Some(self.schedule.clone()),
            early_stop: Some(self.early_stop.clone()),
            best_metric: self.best.map(|(metric, _)| metric),
            best_epoch: self.best.map(|(_, epoch)| epoch),
            labels: labels.map(|(value, name)| Label { value: value as u16, name: name.clone() }).collect(),
            preprocessing: serde_json::to_value(&self.preprocessing).expect("plain data"),
            configuration: configuration.without_network(),
            network: Some(self.config.network),
            ..Meta::default()
        };
        Checkpoint { tensors: state::to_tensors(&mut *self.program, &self.saved)?, meta }.save(path)
    }
}

impl Configuration {
    /// The entry of a checkpoint, the network put back.
    fn of(checkpoint: &Checkpoint, path: &Path) -> Result<Self> {
        let network = checkpoint.network(path)?;
        let mut entry = checkpoint.meta.configuration.clone();
        if let Some(run) = entry.get_mut("run").and_then(Value::as_object_mut) {
            run.insert(NETWORK.to_owned(), serde_json::to_value(network).expect("plain data"));
        }
        serde_json::from_value(entry)
            .map_err(|error| Error::input(path, error, "give a checkpoint that `gyrus train` wrote"))
    }

    fn without_network(&self) -> Value {
        let mut entry = serde_json::to_value(self).expect("plain data");
        entry["run"].as_object_mut().expect("a struct becomes an object").remove(NETWORK);
        entry
    }
}

/// The configuration of the run that wrote a checkpoint.
///
/// # Errors
/// If the checkpoint was not written by a training run.
pub fn configuration_of(checkpoint: &Checkpoint, path: &Path) -> Result<TrainConfig> {
    Ok(Configuration::of(checkpoint, path)?.run)
}
