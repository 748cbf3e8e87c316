//! Everything that determines a run's results, as data. It goes into the checkpoint, and a resumed run must agree with it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    budget::Run,
    schedule::{EarlyStop, Schedule},
};
use crate::{
    Error, Result,
    data::{
        augment::Augmentation,
        preprocess::{Fit, Normalization},
    },
    fuse::Fuse,
    nn::{StepConfig, UNetConfig},
    ops::{
        dice::LossKind,
        optimizer::{Optimizer, Rule},
    },
};

/// The run's settings. Threads, workers and paths are not here: they change no bit of the results.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// The network.
    pub network: UNetConfig,
    /// Extents [D, H, W] of the volumes.
    pub extent: [usize; 3],
    /// Samples per training step.
    pub train_batch: usize,
    /// Samples per validation pass.
    pub validation_batch: usize,
    /// Epochs of the whole run. A resumed run may change this.
    pub epochs: usize,
    /// The loss.
    pub loss: LossKind,
    /// Whether classes count by the inverse of their share.
    pub weighted_classes: bool,
    /// The update rule.
    pub rule: Rule,
    /// Bound of each gradient element; 0: none.
    pub clip: f32,
    /// The learning rate.
    pub schedule: Schedule,
    /// Ends the run early; none: never.
    pub early_stop: Option<EarlyStop>,
    /// Changes drawn anew each epoch.
    pub augmentation: Augmentation,
    /// How intensities are made comparable.
    pub normalization: Normalization,
    /// How volumes come to the extents.
    pub fit: Fit,
    /// Of initial weights, order, augmentation and dropout.
    pub seed: u64,
    /// Whether operations are merged: that changes the last bits. Checkpoints of before there was a choice were not.
    #[serde(default = "unfused")]
    pub fuse: Fuse,
}

fn unfused() -> Fuse {
    Fuse::None
}

impl TrainConfig {
    /// Checks what no single option can know.
    ///
    /// # Errors
    /// Naming the option that does not work.
    pub fn check(&self) -> Result<()> {
        self.network.check(self.extent)?;
        // A network that was trained so before this was refused still labels images.
        if self.network.dropout_rate == 0.0 {
            let cause = "0 drops nothing, which is another network";
            return Err(Error::usage("unet_dropout_rate", cause, "give a number above 0 and below 1"));
        }
        self.schedule.validate()?;
        for (batch, option) in [(self.train_batch, "train_batch_size"), (self.validation_batch, "val_batch_size")] {
            self.network.check_batch(option, batch, self.extent)?;
        }
        // Kernels compute in single precision, where a rate may be too large or too small although f64 holds it.
        if !(self.schedule.lr as f32).is_normal() {
            return Err(Error::usage(
                "lr",
                format!("{:e} cannot work", self.schedule.lr),
                "give a number such as 1e-4",
            ));
        }
        if self.epochs == 0 {
            return Err(Error::usage("training_epochs", "0 epochs", "give at least 1"));
        }
        check_optimizer(&self.rule, self.clip)?;
        self.check_augmentation()
    }

    fn check_augmentation(&self) -> Result<()> {
        let Augmentation { flip: _, rotation, zoom, scale, shift, gamma, noise } = self.augmentation;
        for (option, value, most) in [
            ("rotation", rotation, 180.0),
            ("zoom", zoom, 10.0),
            ("intensity_scale", scale, 1.0),
            ("intensity_shift", shift, 1000.0),
            ("gamma", gamma, 10.0),
            ("noise", noise, 1000.0),
        ] {
            if !(0.0..=most).contains(&value) {
                return Err(Error::usage(
                    option,
                    format!("{value} cannot work"),
                    format!("give a number from 0 to {most}"),
                ));
            }
        }
        Ok(())
    }

    /// The training step that this run repeats.
    pub fn training_step(&self) -> StepConfig {
        StepConfig {
            network: self.network,
            batch: self.train_batch,
            extent: self.extent,
            loss: self.loss,
            optimizer: Optimizer { rule: self.rule, clip: self.clip },
        }
    }

    /// Both as one program, to be laid out.
    pub fn program(&self) -> Run {
        Run { training: self.training_step(), validation_batch: self.validation_batch, fuse: self.fuse }
    }

    /// Whether a run with `other` may go on from a checkpoint of this one: everything but the number of epochs agrees.
    ///
    /// # Errors
    /// Naming the first setting that differs.
    pub fn continues_as(&self, other: &Self) -> Result<()> {
        if self.network.precision != other.network.precision {
            let (was, is) = (self.network.precision, other.network.precision);
            let cause = format!("the run to resume computes in {was}, this one would in {is}");
            return Err(Error::usage("precision", cause, format!("resume with `precision = {was}`")));
        }
        let plain = |config: &Self| serde_json::to_value(config).expect("a struct of plain data");
        let (mut mine, mut theirs) = (Vec::new(), Vec::new());
        leaves(&plain(self), String::new(), &mut mine);
        leaves(&plain(other), String::new(), &mut theirs);
        for (path, was) in mine.into_iter().filter(|(path, _)| path != "/epochs") {
            let is = theirs.iter().find(|(other, _)| *other == path).map(|(_, value)| value);
            if is != Some(&was) {
                let text = |value: &Value| if value.is_null() { "none".to_owned() } else { value.to_string() };
                let (was, is) = (text(&was), is.map_or_else(|| "another kind".to_owned(), text));
                let cause = format!("{was} in the run to resume, {is} now");
                return Err(Error::usage(setting_of(&path), cause, "resume with the settings of that run"));
            }
        }
        Ok(())
    }
}

/// The settings that a resumed run may be refused for.
#[cfg(test)]
pub(crate) fn settings_that_must_agree(config: &TrainConfig) -> Vec<String> {
    let mut found = Vec::new();
    leaves(&serde_json::to_value(config).expect("plain data"), String::new(), &mut found);
    found.iter().filter(|(path, _)| path != "/epochs").map(|(path, _)| setting_of(path).to_owned()).collect()
}

/// All values that are no objects or lists, with the way to each: `/schedule/lr`.
fn leaves(value: &Value, path: String, found: &mut Vec<(String, Value)>) {
    match value {
        Value::Object(members) => {
            members.iter().for_each(|(name, member)| leaves(member, format!("{path}/{name}"), found));
        }
        Value::Array(members) => {
            members.iter().enumerate().for_each(|(index, member)| leaves(member, format!("{path}/{index}"), found));
        }
        plain => found.push((path, plain.clone())),
    }
}

/// The setting behind a value of the configuration.
fn setting_of(path: &str) -> &str {
    const BY_BEGINNING: [(&str, &str); 21] = [
        ("/train_batch", "train_batch_size"),
        ("/validation_batch", "val_batch_size"),
        ("/rule/name", "optimizer"),
        ("/rule/nesterov", "use_nesterov_sgd"),
        ("/rule/amsgrad", "use_amsgrad_adam"),
        ("/clip", "clip_value"),
        ("/schedule/rule", "lr_schedule"),
        ("/early_stop", "early_stop"),
        ("/augmentation/flip", "flip"),
        ("/augmentation/scale", "intensity_scale"),
        ("/augmentation/shift", "intensity_shift"),
        ("/extent/0", "mri_depth"),
        ("/extent/1", "mri_width"),
        ("/extent/2", "mri_height"),
        ("/network/architecture", "model_architecture"),
        ("/network/resize_factor", "unet_resize_factor"),
        ("/network/dropout_rate", "unet_dropout_rate"),
        ("/network/channels", "num_channels"),
        ("/network/classes", "num_classes"),
        ("/rule/beta1", "optimizer"),
        ("/rule/beta2", "optimizer"),
    ];
    let known = BY_BEGINNING.iter().find(|(beginning, _)| path.starts_with(beginning));
    // The others are called alike.
    known.map_or_else(|| path.rsplit('/').next().unwrap_or(path), |(_, setting)| setting)
}

/// Checks the numbers of an update rule, and the bound of gradients.
///
/// # Errors
/// Naming the option that does not work.
pub fn check_optimizer(rule: &Rule, clip: f32) -> Result<()> {
    if !(clip.is_finite() && clip >= 0.0) {
        return Err(Error::usage("clip_value", format!("{clip} cannot work"), "give 0 (off) or a positive number"));
    }
    match *rule {
        Rule::Sgd { momentum, .. } if !(0.0..1.0).contains(&momentum) => {
            Err(Error::usage("momentum", format!("{momentum} cannot work"), "give 0 or more, below 1"))
        }
        Rule::Adam { epsilon, .. } | Rule::Nadam { epsilon, .. } if !(epsilon.is_normal() && epsilon > 0.0) => {
            Err(Error::usage("epsilon", format!("{epsilon:e} cannot work"), "give a positive number such as 1e-7"))
        }
        _ => Ok(()),
    }
}
