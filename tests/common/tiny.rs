//! Runs of the training loop and of prediction that take a moment, through the library.

#![allow(dead_code, reason = "every test file uses a part")]

use std::{path::Path, time::Duration};

use gyrus::{
    Result,
    cpu::Threads,
    data::{
        augment::Augmentation,
        loader::{Form, Loader, LoaderSettings, Order},
        preprocess::Preprocessing,
        sampler::Sampler,
    },
    fuse::Fuse,
    nn::{Architecture, UNetConfig},
    ops::{dice::LossKind, optimizer::Rule},
    train::{
        Ending, RunOptions, TrainConfig, Trainer,
        figures::EpochFigures,
        observer::Observer,
        schedule::{self, Schedule},
    },
};

/// One epoch of the smallest network, on what `preprocessing` makes of images.
pub fn config(preprocessing: &Preprocessing, classes: usize) -> TrainConfig {
    let architecture = Architecture::UpsamplingDropout;
    let Preprocessing { extent, channels, normalization, fit, .. } = *preprocessing;
    TrainConfig {
        network: UNetConfig {
            architecture,
            resize_factor: 32,
            channels,
            classes,
            head_filters: 0,
            ..UNetConfig::default()
        },
        extent,
        train_batch: 2,
        validation_batch: 1,
        epochs: 1,
        loss: LossKind::Dice,
        weighted_classes: false,
        rule: Rule::Sgd { momentum: 0.9, nesterov: true },
        clip: 0.0,
        schedule: Schedule { lr: 0.05, warmup_steps: 0, rule: schedule::Decay::Constant },
        early_stop: None,
        augmentation: Augmentation::default(),
        normalization,
        fit,
        fuse: Fuse::Auto,
        seed: 5,
    }
}

/// Loaders' settings for that.
pub fn settings(config: &TrainConfig, preprocessing: &Preprocessing, order: Order) -> LoaderSettings {
    LoaderSettings {
        preprocessing: preprocessing.clone(),
        sampler: Sampler::Whole,
        classes: config.network.classes,
        augmentation: Augmentation::default(),
        seed: config.seed,
        order,
        form: Form::Ready,
        batch: if order == Order::Fixed { config.validation_batch } else { config.train_batch },
        workers: 1,
        cache: None,
    }
}

/// Trains into a folder; returns the losses of all steps.
pub fn train(
    config: &TrainConfig,
    preprocessing: &Preprocessing,
    labels: &[String],
    [training, validation]: [&Loader; 2],
    folder: &Path,
) -> Vec<f64> {
    let weights = vec![1.0; config.network.outputs()];
    let mut trainer =
        Trainer::new(config.clone(), preprocessing.clone(), labels.to_vec(), weights, Threads::new(2)).unwrap();
    std::fs::create_dir_all(folder).unwrap();
    let options = RunOptions { folder: folder.to_owned(), time_budget: None, stop: &|| false };
    let mut losses = Losses(Vec::new());
    let ending = trainer.run(training, validation, &options, &mut losses).unwrap();
    assert_eq!(ending, Ending::Completed);
    losses.0
}

struct Losses(Vec<f64>);

impl Observer for Losses {
    fn step(&mut self, loss: f64, _dice: f64, _took: Duration) {
        self.0.push(loss);
    }

    fn epoch_ends(&mut self, _figures: &EpochFigures) -> Result<()> {
        Ok(())
    }
}
