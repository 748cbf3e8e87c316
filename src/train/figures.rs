//! Losses and metrics of an epoch, added up batch by batch.

use serde::{Deserialize, Serialize};

use crate::ops::dice::{LossKind, Sums};

/// Sums over the batches of an epoch, or of a part of it.
///
/// Losses and soft metrics are means over batches, as Keras reports them; hard Dice is a mean over cases, as the field
/// reports it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    batches: usize,
    loss: f64,
    dice: f64,
    iou: f64,
    accuracy: f64,
    hard: Vec<(f64, usize)>,
}

/// What there is to tell about an epoch.
#[derive(Clone, Debug)]
pub struct EpochFigures {
    /// Counted from 1.
    pub epoch: u64,
    /// Optimizer steps since the run began.
    pub global_step: u64,
    /// The rate of the epoch's last step.
    pub learning_rate: f64,
    /// Over the training steps.
    pub training: Figures,
    /// Over the validation cases.
    pub validation: Figures,
    /// The epoch's duration, validation included.
    pub seconds: f64,
    /// Mean duration of a training step, without waiting for data.
    pub step_seconds: f64,
    /// Share of the training time that was spent waiting for data.
    pub waited: f64,
    /// Steps that were skipped because their gradients overflowed.
    pub skipped: u64,
    /// The scale of the loss at its end, where the precision asks for one.
    pub loss_scale: Option<f64>,
    /// Whether the validation Dice coefficient is the best so far.
    pub is_best: bool,
}

impl Figures {
    /// Nothing yet, for this number of logit channels.
    pub fn new(outputs: usize) -> Self {
        let foreground = if outputs == 1 { 1 } else { outputs - 1 };
        Self { batches: 0, loss: 0.0, dice: 0.0, iou: 0.0, accuracy: 0.0, hard: vec![(0.0, 0); foreground] }
    }

    /// Adds a batch by the sums of its samples. The loss is computed anew in double precision: the device's own is the
    /// same up to rounding. Returns the batch's loss and soft Dice coefficient.
    pub fn add_batch(&mut self, samples: &[Sums], kind: LossKind, weights: &[f32]) -> (f64, f64) {
        let (first, others) = samples.split_first().expect("a batch has at least one sample");
        let mut batch = first.clone();
        others.iter().for_each(|sample| batch.add(sample));
        let (loss, dice) = (batch.loss(kind, weights), batch.dice(weights));
        self.batches += 1;
        self.loss += loss;
        self.dice += dice;
        self.iou += batch.iou();
        self.accuracy += batch.accuracy();
        for sample in samples {
            for (total, dice) in self.hard.iter_mut().zip(sample.hard_dice()) {
                if let Some(dice) = dice {
                    total.0 += dice;
                    total.1 += 1;
                }
            }
        }
        (loss, dice)
    }

    /// Number of batches.
    pub fn batches(&self) -> usize {
        self.batches
    }

    /// Mean loss.
    pub fn loss(&self) -> f64 {
        self.mean(self.loss)
    }

    /// Mean soft Dice coefficient, background included.
    pub fn dice(&self) -> f64 {
        self.mean(self.dice)
    }

    /// Mean soft intersection over union.
    pub fn iou(&self) -> f64 {
        self.mean(self.iou)
    }

    /// Mean share of rightly labelled voxels.
    pub fn accuracy(&self) -> f64 {
        self.mean(self.accuracy)
    }

    /// Mean over cases of each foreground class's Dice; none where no case has the class.
    pub fn hard_dice(&self) -> Vec<Option<f64>> {
        self.hard.iter().map(|&(sum, cases)| (cases > 0).then(|| sum / cases as f64)).collect()
    }

    /// Mean of [`Self::hard_dice`] over the classes that occur.
    pub fn mean_hard_dice(&self) -> Option<f64> {
        let defined: Vec<f64> = self.hard_dice().into_iter().flatten().collect();
        (!defined.is_empty()).then(|| defined.iter().sum::<f64>() / defined.len() as f64)
    }

    fn mean(&self, sum: f64) -> f64 {
        sum / self.batches.max(1) as f64
    }
}
