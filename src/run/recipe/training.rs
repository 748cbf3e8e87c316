//! How a run trains: the optimizer and the loop.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    Result,
    fuse::Fuse,
    ops::{dice::LossKind, optimizer::Rule},
    serial,
    train::{
        config,
        schedule::{Decay, EarlyStop, Plateau, Schedule},
    },
};

/// An optimizer by its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptimizerName {
    /// Stochastic gradient descent with momentum.
    Sgd,
    /// Adam.
    #[default]
    Adam,
    /// Adam with Nesterov momentum.
    Nadam,
}

/// How weights are updated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OptimizerRecipe {
    /// The rule.
    pub optimizer: OptimizerName,
    /// SGD looks ahead.
    pub use_nesterov_sgd: bool,
    /// Adam's second moment may only grow.
    pub use_amsgrad_adam: bool,
    /// Momentum of SGD.
    pub momentum: f64,
    /// Added to the root of the second moment in Adam and Nadam.
    pub epsilon: f64,
    /// Bound of each element of the gradients; 0: none.
    pub clip_value: f32,
}

impl Default for OptimizerRecipe {
    fn default() -> Self {
        Self {
            optimizer: OptimizerName::Adam,
            use_nesterov_sgd: false,
            use_amsgrad_adam: false,
            momentum: 0.9,
            epsilon: 1e-7,
            clip_value: 50.0,
        }
    }
}

impl OptimizerRecipe {
    /// The update rule.
    pub fn rule(&self) -> Rule {
        let (beta1, beta2, epsilon) = (0.9, 0.999, self.epsilon);
        match self.optimizer {
            OptimizerName::Sgd => Rule::Sgd { momentum: self.momentum, nesterov: self.use_nesterov_sgd },
            OptimizerName::Adam => Rule::Adam { beta1, beta2, epsilon, amsgrad: self.use_amsgrad_adam },
            OptimizerName::Nadam => Rule::Nadam { beta1, beta2, epsilon },
        }
    }

    /// Checks the numbers.
    ///
    /// # Errors
    /// Naming the setting that does not work.
    pub fn check(&self) -> Result<()> {
        config::check_optimizer(&self.rule(), self.clip_value)
    }
}

/// How the learning rate falls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LearningRate {
    /// To a tenth after 20 epochs without improvement, not below 1e-6.
    #[default]
    Plateau,
    /// Half a cosine to zero over the whole run.
    Cosine,
    /// (1 - share of the run)^0.9, as nnU-Net does.
    Polynomial,
    /// Not at all.
    Constant,
}

/// The loop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainingRecipe {
    /// The loss.
    pub loss: LossKind,
    /// Weight classes by the inverse of their share of the training voxels.
    pub weighted_classes: bool,
    /// Epochs of the whole run.
    pub training_epochs: usize,
    /// Learning rate.
    pub lr: f64,
    /// How it falls.
    pub lr_schedule: LearningRate,
    /// Steps over which it rises at first.
    pub warmup_steps: u64,
    /// End after so many epochs without improvement.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub early_stop: Option<u32>,
    /// End after this time, ready to be resumed.
    #[serde(with = "serial::seconds", skip_serializing_if = "Option::is_none")]
    pub time_budget: Option<Duration>,
    /// Samples per training step.
    pub train_batch_size: usize,
    /// Samples per validation pass.
    pub val_batch_size: usize,
    /// Of initial weights, folds, order, augmentation and dropout.
    pub seed: u64,
    /// Whether operations are merged.
    pub fuse: Fuse,
}

impl Default for TrainingRecipe {
    fn default() -> Self {
        Self {
            loss: LossKind::LogDice,
            weighted_classes: true,
            training_epochs: 100,
            lr: 1e-4,
            lr_schedule: LearningRate::default(),
            warmup_steps: 0,
            early_stop: None,
            time_budget: None,
            train_batch_size: 1,
            val_batch_size: 1,
            seed: 0,
            fuse: Fuse::default(),
        }
    }
}

impl TrainingRecipe {
    /// The learning rate over a run of so many steps.
    pub(in crate::run) fn schedule(&self, steps: u64) -> Schedule {
        let rule = match self.lr_schedule {
            LearningRate::Plateau => Decay::Plateau(Plateau::default()),
            LearningRate::Cosine => Decay::Cosine { end: 0.0, steps },
            LearningRate::Polynomial => Decay::Polynomial { power: 0.9, end: 0.0, steps },
            LearningRate::Constant => Decay::Constant,
        };
        Schedule { lr: self.lr, warmup_steps: self.warmup_steps, rule }
    }

    pub(in crate::run) fn early_stop(&self) -> Option<EarlyStop> {
        self.early_stop.map(|patience| EarlyStop { patience, min_delta: 1e-4 })
    }
}
