//! Options that several commands share: the network, the extents, durations.

use std::time::Duration;

use clap::Args;

use crate::{
    Result,
    nn::{Architecture, Precision, UNetConfig},
    ops::{dice::LossKind, optimizer::Rule},
    train::config,
};

/// The network and its extents.
#[derive(Debug, Args)]
pub struct NetworkOptions {
    /// One of four U-Nets
    #[arg(long, value_enum, default_value_t, help_heading = "Network")]
    pub model_architecture: Architecture,

    /// Divides all numbers of filters (64, 128, 256, 512, 1024)
    #[arg(long, default_value_t = 2, value_name = "N", help_heading = "Network")]
    pub unet_resize_factor: usize,

    /// Share of the elements that the dropout architectures drop
    #[arg(long, default_value_t = 0.3, value_name = "RATE", help_heading = "Network")]
    pub unet_dropout_rate: f32,

    /// Filters of the 3x3x3 convolution before the output; 0: the output directly
    #[arg(long, default_value_t = 2, value_name = "N", help_heading = "Network")]
    pub head_filters: usize,

    /// Classes, background included [default: from dataset.json, else 4]
    #[arg(long, value_name = "N", help_heading = "Network")]
    pub num_classes: Option<usize>,

    /// Channels of the images [default: from dataset.json, else 4]
    #[arg(long, value_name = "N", help_heading = "Network")]
    pub num_channels: Option<usize>,

    /// Extent along the NIfTI file's first axis
    #[arg(long, default_value_t = 240, value_name = "VOXELS", help_heading = "Network")]
    pub mri_height: usize,

    /// Extent along the NIfTI file's second axis
    #[arg(long, default_value_t = 240, value_name = "VOXELS", help_heading = "Network")]
    pub mri_width: usize,

    /// Extent along the NIfTI file's third axis
    #[arg(long, default_value_t = 160, value_name = "VOXELS", help_heading = "Network")]
    pub mri_depth: usize,
}

impl NetworkOptions {
    /// The network in this precision, for this many channels and classes unless the options say otherwise.
    pub fn network(&self, precision: Option<Precision>, channels: Option<usize>, classes: Option<usize>) -> UNetConfig {
        UNetConfig {
            architecture: self.model_architecture,
            resize_factor: self.unet_resize_factor,
            dropout_rate: self.unet_dropout_rate,
            channels: self.num_channels.or(channels).unwrap_or(4),
            classes: self.num_classes.or(classes).unwrap_or(4),
            head_filters: self.head_filters,
            precision: precision.unwrap_or_default(),
        }
    }

    /// Extents [D, H, W]: the file's axes in memory order.
    pub fn extent(&self) -> [usize; 3] {
        [self.mri_depth, self.mri_width, self.mri_height]
    }
}

/// The loss by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
#[clap(rename_all = "snake_case")]
pub enum LossName {
    /// 1 - D, D being the mean soft Dice coefficient.
    Dice,
    /// log(cosh(1 - D)).
    LogDice,
}

impl From<LossName> for LossKind {
    fn from(name: LossName) -> Self {
        match name {
            LossName::Dice => Self::Dice,
            LossName::LogDice => Self::LogDice,
        }
    }
}

/// The optimizer by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum OptimizerName {
    /// Stochastic gradient descent with momentum.
    Sgd,
    /// Adam.
    Adam,
    /// Adam with Nesterov momentum.
    Nadam,
}

/// The optimizer's options.
#[derive(Debug, Args)]
pub struct OptimizerOptions {
    /// How weights are updated
    #[arg(long, value_enum, default_value_t = OptimizerName::Adam, help_heading = "Optimizer")]
    pub optimizer: OptimizerName,

    /// SGD looks ahead
    #[arg(long, default_value_t = false, action = clap::ArgAction::Set, value_name = "BOOL", help_heading = "Optimizer")]
    pub use_nesterov_sgd: bool,

    /// Adam's second moment may only grow
    #[arg(long, default_value_t = false, action = clap::ArgAction::Set, value_name = "BOOL", help_heading = "Optimizer")]
    pub use_amsgrad_adam: bool,

    /// Momentum of SGD
    #[arg(long, default_value_t = 0.9, help_heading = "Optimizer")]
    pub momentum: f64,

    /// Added to the root of the second moment in Adam and Nadam; the reference uses 0.1
    #[arg(long, default_value_t = 1e-7, help_heading = "Optimizer")]
    pub epsilon: f64,

    /// Clips each element of the gradients to plus or minus this; 0: off
    #[arg(long, default_value_t = 50.0, help_heading = "Optimizer")]
    pub clip_value: f32,
}

impl OptimizerOptions {
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
    /// Naming the option that does not work.
    pub fn check(&self) -> Result<()> {
        config::check_optimizer(&self.rule(), self.clip_value)
    }
}

/// A duration such as `90`, `90s`, `15m` or `2h`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let refuse = || "give seconds, or a number with s, m or h".to_owned();
    let (number, unit) = match text.char_indices().last() {
        Some((at, 's')) => (&text[..at], 1.0),
        Some((at, 'm')) => (&text[..at], 60.0),
        Some((at, 'h')) => (&text[..at], 3600.0),
        _ => (text, 1.0),
    };
    let number: f64 = number.parse().map_err(|_| refuse())?;
    Duration::try_from_secs_f64(number * unit).map_err(|_| refuse())
}

/// Axes as letters, such as `HW`; the order D, H, W of the result is that of tensors.
pub fn axes(text: &str) -> Result<[bool; 3], String> {
    let mut axes = [false; 3];
    for letter in text.chars().filter(|letter| *letter != ',') {
        let axis = "DHW".find(letter.to_ascii_uppercase()).ok_or("give any of the letters D, H, W")?;
        axes[axis] = true;
    }
    Ok(axes)
}

/// Like [`axes`], or `true` for all of them and `false` for none.
pub fn mirrored_axes(text: &str) -> Result<[bool; 3], String> {
    match text {
        "true" => Ok([true; 3]),
        "false" => Ok([false; 3]),
        letters => axes(letters).map_err(|advice| format!("{advice}, or true for all of them, or false")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_are_letters_in_any_order_and_true_is_all_of_them() {
        assert_eq!(axes("H"), Ok([false, true, false]));
        assert_eq!(axes("w,d"), Ok([true, false, true]));
        assert_eq!(mirrored_axes("DHW"), mirrored_axes("true"));
        assert_eq!(mirrored_axes("false"), Ok([false; 3]));
        assert!(axes("X").is_err() && axes("true").is_err() && mirrored_axes("yes").is_err());
    }

    #[test]
    fn durations_have_units_and_nonsense_is_refused() {
        assert_eq!(duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("2h"), Ok(Duration::from_secs(7200)));
        for nonsense in ["", "m", "-1s", "1d", "1e30h", "NaN"] {
            assert!(duration(nonsense).is_err(), "{nonsense}");
        }
    }
}
