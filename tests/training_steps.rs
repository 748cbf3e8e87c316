//! Whole training runs: the same losses on any number of threads, and the same end after any interruption.

use std::{cell::Cell, path::Path, time::Duration};

use gyrus::{
    Error, Result,
    checkpoint::Checkpoint,
    cpu::{Isa, Threads},
    data::{
        augment::{Augment, Augmentation},
        dataset::{Case, Dataset},
        loader::{Form, Loader, LoaderSettings, Order},
        preprocess::{Fit, Normalization, Preprocessing},
        sampler::Sampler,
        validate::{Expectation, survey},
    },
    demo::synthesize,
    fuse::Fuse,
    nn::{Architecture, Precision, UNetConfig},
    ops::{dice::LossKind, optimizer::Rule},
    train::{
        Ending, RunOptions, TrainConfig, Trainer,
        figures::{EpochFigures, Figures},
        observer::Observer,
        schedule::{self, Schedule},
        trainer::LAST,
    },
};

const EXTENT: [usize; 3] = [16; 3];
const EPOCHS: usize = 2;
/// Three cases, one at a time, twice.
const STEPS: usize = 6;

/// The first five losses. The network has no norms and its optimizer no second moment, both of which would amplify the
/// last bits of single precision, so that all instruction sets and mathematics libraries agree on these digits.
const LOSSES: [f64; 5] = [0.627958282, 0.655384795, 0.623971078, 0.594987174, 0.611193968];

#[test]
fn the_first_losses_are_these_and_have_the_same_bits_on_one_two_and_three_threads() {
    let data = Data::make();
    let rule = Rule::Sgd { momentum: 0.9, nesterov: true };
    let base = config(Architecture::UpsamplingDropout);
    // Two filters before the output may both die in so small a network, and then nothing would be computed.
    let network = UNetConfig { head_filters: 0, ..base.network };
    // A rate at which every step shows in the next loss.
    let schedule = Schedule { lr: 0.1, ..base.schedule.clone() };
    let config = TrainConfig { network, rule, schedule, loss: LossKind::Dice, ..base };
    for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
        let losses = |threads| -> Vec<f64> {
            let folder = tempfile::tempdir().unwrap();
            let run = Run { threads: Threads::with_isa(threads, isa), workers: 1, stop_before: Some(5), resume: false };
            let mut log = Log::default();
            let ending = data.run(&config, folder.path(), run, &mut log);
            assert!(matches!(ending, Err(Error::Stopped)), "{ending:?}");
            log.steps.iter().map(|(loss, _)| *loss).collect()
        };
        let first = losses(1);
        println!("{isa:?}: {first:?}");
        assert_eq!(bits(&first), bits(&losses(2)), "{isa:?}: two threads");
        assert_eq!(bits(&first), bits(&losses(3)), "{isa:?}: three threads");
        for (step, (found, expected)) in first.iter().zip(LOSSES).enumerate() {
            assert!((found - expected).abs() < 1e-6, "{isa:?}, step {step}: {found:?} instead of {expected:?}");
        }
        assert_eq!(first.len(), LOSSES.len());
    }
}

#[test]
fn a_run_with_norms_stopped_before_any_step_ends_with_the_same_bits() {
    check_stops(&norms());
}

#[test]
fn a_run_with_dropout_stopped_before_any_step_ends_with_the_same_bits() {
    let rule = Rule::Nadam { beta1: 0.9, beta2: 0.999, epsilon: 1e-7 };
    check_stops(&TrainConfig { rule, train_batch: 2, ..config(Architecture::UpsamplingDropout) });
}

#[test]
fn runs_in_16_bits_stopped_before_any_step_end_with_the_same_bits() {
    for precision in [Precision::Bf16, Precision::Fp16] {
        let base = norms();
        check_stops(&TrainConfig { network: UNetConfig { precision, ..base.network }, ..base });
    }
}

#[test]
fn steps_that_overflow_are_skipped_and_counted_and_the_run_recovers_and_resumes_with_the_same_bits() {
    let data = Data::make();
    let base = norms();
    // Nadam's momenta remember how many steps there were: skipped ones must not be among them.
    let rule = Rule::Nadam { beta1: 0.9, beta2: 0.999, epsilon: 1e-7 };
    let network = UNetConfig { precision: Precision::Fp16, ..base.network };
    let config = TrainConfig { network, rule, ..base };
    // A run that was stopped before its first step, with a scale that is far too large.
    let start = || {
        let folder = tempfile::tempdir().unwrap();
        let run = Run { threads: Threads::new(1), workers: 1, stop_before: Some(0), resume: false };
        assert!(matches!(data.run(&config, folder.path(), run, &mut Log::default()), Err(Error::Stopped)));
        let mut checkpoint = Checkpoint::load(&folder.path().join(LAST)).unwrap();
        assert_eq!(checkpoint.meta.configuration["loss_scale"]["scale"], 65536.0);
        checkpoint.meta.configuration["loss_scale"]["scale"] = TOO_LARGE.into();
        checkpoint.save(&folder.path().join(LAST)).unwrap();
        folder
    };
    let go_on = |folder: &Path, threads, stop_before, log: &mut Log| {
        let run = Run { threads: Threads::new(threads), workers: 1, stop_before, resume: true };
        data.run(&config, folder, run, log)
    };
    let whole = start();
    let initial = Checkpoint::load(&whole.path().join(LAST)).unwrap();
    let mut expected = Log::default();
    assert_eq!(go_on(whole.path(), 2, None, &mut expected).unwrap(), Ending::Completed);
    let end = Checkpoint::load(&whole.path().join(LAST)).unwrap();
    let skipped: u64 = expected.skipped.iter().sum();
    println!("{skipped} of {STEPS} steps were skipped: {:?}", expected.skipped);
    assert!((1..STEPS as u64).contains(&skipped), "{skipped} of {STEPS} steps were skipped");
    let state = &end.meta.configuration["loss_scale"];
    assert_eq!(state["skipped"], skipped);
    assert_eq!(state["scale"], TOO_LARGE / 2f64.powi(skipped as i32));
    assert!(initial.tensors.iter().any(|(name, tensor)| end.tensors[name] != *tensor), "nothing was learnt");
    assert!(end.tensors.values().flat_map(|tensor| &tensor.data).all(|x| x.is_finite()));

    for stop in 0..STEPS {
        let folder = start();
        let mut log = Log::default();
        assert!(matches!(go_on(folder.path(), 1, Some(stop), &mut log), Err(Error::Stopped)));
        assert_eq!(go_on(folder.path(), 3, None, &mut log).unwrap(), Ending::Completed);
        assert_eq!(log, expected, "stopped before step {stop}: the history differs");
        let resumed = Checkpoint::load(&folder.path().join(LAST)).unwrap();
        assert!(resumed == end, "stopped before step {stop}: the checkpoint differs");
    }
}

/// A scale of the loss at which gradients overflow, but not for all of the steps.
const TOO_LARGE: f64 = 4_194_304.0;

/// Stops a run before each of its steps, resumes it with other numbers of workers and threads, and compares the end.
fn check_stops(config: &TrainConfig) {
    let data = Data::make();
    let whole = tempfile::tempdir().unwrap();
    let mut expected = Log::default();
    let run = Run { threads: Threads::new(2), workers: 1, stop_before: None, resume: false };
    assert_eq!(data.run(config, whole.path(), run, &mut expected).unwrap(), Ending::Completed);
    let end = Checkpoint::load(&whole.path().join(LAST)).unwrap();
    let steps = expected.steps.len();
    assert_eq!((steps, expected.epochs.len()), (EPOCHS * 3usize.div_ceil(config.train_batch), EPOCHS));
    for stop in 0..steps {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Log::default();
        let run = Run { threads: Threads::new(1), workers: stop % 3, stop_before: Some(stop), resume: false };
        let ending = data.run(config, folder.path(), run, &mut log);
        assert!(matches!(ending, Err(Error::Stopped)), "before step {stop}: {ending:?}");
        assert_eq!(log.steps.len(), stop, "steps before the stop");
        let interrupted = Checkpoint::load(&folder.path().join(LAST)).unwrap();
        assert_eq!(interrupted.meta.position.global_step, stop as u64);

        let run = Run { threads: Threads::new(3), workers: (stop + 1) % 3, stop_before: None, resume: true };
        assert_eq!(data.run(config, folder.path(), run, &mut log).unwrap(), Ending::Completed);
        assert_eq!(log, expected, "stopped before step {stop}: the history differs");
        let resumed = Checkpoint::load(&folder.path().join(LAST)).unwrap();
        assert_eq!(resumed.tensors.len(), end.tensors.len());
        for (name, tensor) in &end.tensors {
            assert!(resumed.tensors[name] == *tensor, "stopped before step {stop}: {name} differs");
        }
        assert_eq!(resumed.meta, end.meta, "stopped before step {stop}");
    }
}

/// The default network.
fn norms() -> TrainConfig {
    config(Architecture::default())
}

fn config(architecture: Architecture) -> TrainConfig {
    TrainConfig {
        network: UNetConfig { architecture, resize_factor: 32, channels: 1, classes: 3, ..UNetConfig::default() },
        extent: EXTENT,
        train_batch: 1,
        validation_batch: 2,
        epochs: EPOCHS,
        loss: LossKind::LogDice,
        weighted_classes: false,
        rule: Rule::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-7, amsgrad: true },
        clip: 50.0,
        // Every part of a position shows in the rate.
        schedule: Schedule {
            lr: 0.003,
            warmup_steps: 2,
            rule: schedule::Decay::Polynomial { power: 0.9, end: 1e-5, steps: STEPS as u64 },
        },
        early_stop: None,
        augmentation: Augment::Full.settings(),
        normalization: Normalization::Volume,
        fit: Fit::Resize,
        seed: 11,
        fuse: Fuse::Auto,
    }
}

/// A synthetic dataset in a folder of its own: three cases to train, one to validate.
struct Data {
    _folder: tempfile::TempDir,
    training: Vec<Case>,
    validation: Vec<Case>,
    labels: Vec<String>,
    preprocessing: Preprocessing,
}

/// How a run is carried out, which must change nothing.
struct Run {
    threads: Threads,
    workers: usize,
    stop_before: Option<usize>,
    resume: bool,
}

impl Data {
    fn make() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let Dataset { cases, labels, .. } = synthesize(&folder.path().join("blobs"), 5, 4).unwrap();
        let (training, validation) = (cases[..3].to_vec(), cases[3..].to_vec());
        let fingerprint = survey(&training, &validation, &Expectation::default(), &|| ()).unwrap();
        let preprocessing = Preprocessing::new(EXTENT, Normalization::Volume, Fit::Resize, &fingerprint).unwrap();
        Self { _folder: folder, training, validation, labels, preprocessing }
    }

    fn run(&self, config: &TrainConfig, folder: &Path, run: Run, log: &mut Log) -> Result<Ending> {
        let loader = |cases: &[Case], order, batch, augmentation| {
            let settings = LoaderSettings {
                preprocessing: self.preprocessing.clone(),
                sampler: Sampler::Whole,
                classes: config.network.classes,
                augmentation,
                seed: config.seed,
                order,
                form: Form::Ready,
                batch,
                workers: run.workers,
                cache: None,
            };
            Loader::new(cases.to_vec(), settings).unwrap()
        };
        let training = loader(&self.training, Order::Shuffled, config.train_batch, config.augmentation);
        let validation = loader(&self.validation, Order::Fixed, config.validation_batch, Augmentation::default());
        let weights = vec![1.0; config.network.outputs()];
        let mut trainer =
            Trainer::new(config.clone(), self.preprocessing.clone(), self.labels.clone(), weights, run.threads)?;
        if run.resume {
            trainer.resume(&folder.join(LAST))?;
        }
        let asked = Cell::new(0);
        let stop = || run.stop_before == Some(asked.replace(asked.get() + 1));
        let options = RunOptions { folder: folder.to_owned(), time_budget: None, stop: &stop };
        trainer.run(&training, &validation, &options, log)
    }
}

/// What an observer sees, but for durations.
#[derive(Debug, Default, PartialEq)]
struct Log {
    steps: Vec<(f64, f64)>,
    epochs: Vec<(u64, u64, u64, Figures, Figures, bool)>,
    skipped: Vec<u64>,
}

impl Observer for Log {
    fn epoch_starts(&mut self, epoch: usize, epochs: usize, steps: usize, first: usize) {
        assert_eq!(self.epochs.len() + 1, epoch);
        assert_eq!(epochs, EPOCHS);
        assert_eq!(self.steps.len(), (epoch - 1) * steps + first, "where the epoch begins");
    }

    fn step(&mut self, loss: f64, dice: f64, _took: Duration) {
        self.steps.push((loss, dice));
    }

    fn epoch_ends(&mut self, figures: &EpochFigures) -> Result<()> {
        let EpochFigures { epoch, global_step, learning_rate, training, validation, is_best, .. } = figures.clone();
        self.skipped.push(figures.skipped);
        self.epochs.push((epoch, global_step, learning_rate.to_bits(), training, validation, is_best));
        Ok(())
    }
}

fn bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|x| x.to_bits()).collect()
}
