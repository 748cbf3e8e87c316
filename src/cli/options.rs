//! Options that several commands share: the network, its extents, the optimizer.

use clap::{ArgAction, Args};

use super::{choice::choice, given::Idle};
use crate::{
    nn::Architecture,
    run::{NetworkRecipe, OptimizerName, OptimizerRecipe},
};

/// The network and its extents.
#[derive(Debug, Args)]
pub struct NetworkOptions {
    /// One of four U-Nets
    #[arg(long, value_parser = choice::<Architecture>(), default_value = "conv3dtranspose_batchnormalization", value_name = "NAME", help_heading = "Network")]
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
    /// The settings.
    pub fn recipe(&self) -> NetworkRecipe {
        NetworkRecipe {
            model_architecture: self.model_architecture,
            unet_resize_factor: self.unet_resize_factor,
            unet_dropout_rate: self.unet_dropout_rate,
            head_filters: self.head_filters,
            num_classes: self.num_classes,
            num_channels: self.num_channels,
            mri_height: self.mri_height,
            mri_width: self.mri_width,
            mri_depth: self.mri_depth,
        }
    }

    /// What has no effect beside the other options.
    pub fn idle(&self) -> Vec<Idle> {
        let is_normalized = self.model_architecture.is_normalized();
        vec![("unet-dropout-rate", is_normalized, "the batch-normalization architectures have no dropout")]
    }
}

/// The optimizer's options.
#[derive(Debug, Args)]
pub struct OptimizerOptions {
    /// How weights are updated
    #[arg(long, value_parser = choice::<OptimizerName>(), default_value = "adam", help_heading = "Optimizer")]
    pub optimizer: OptimizerName,

    /// SGD looks ahead
    #[arg(long, default_value_t = false, action = ArgAction::Set, value_parser = boolean, value_name = "BOOL", help_heading = "Optimizer")]
    pub use_nesterov_sgd: bool,

    /// Adam's second moment may only grow
    #[arg(long, default_value_t = false, action = ArgAction::Set, value_parser = boolean, value_name = "BOOL", help_heading = "Optimizer")]
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
    /// The settings.
    pub fn recipe(&self) -> OptimizerRecipe {
        OptimizerRecipe {
            optimizer: self.optimizer,
            use_nesterov_sgd: self.use_nesterov_sgd,
            use_amsgrad_adam: self.use_amsgrad_adam,
            momentum: self.momentum,
            epsilon: self.epsilon,
            clip_value: self.clip_value,
        }
    }

    /// What has no effect beside the other options.
    pub fn idle(&self) -> Vec<Idle> {
        let (is_sgd, is_adam) = (self.optimizer == OptimizerName::Sgd, self.optimizer == OptimizerName::Adam);
        let has_no_momentum = is_sgd && self.momentum == 0.0;
        vec![
            ("momentum", !is_sgd, "only --optimizer sgd takes it"),
            ("use-nesterov-sgd", self.use_nesterov_sgd && !is_sgd, "only --optimizer sgd takes it"),
            (
                "use-nesterov-sgd",
                self.use_nesterov_sgd && has_no_momentum,
                "without momentum there is nothing to look at",
            ),
            ("use-amsgrad-adam", self.use_amsgrad_adam && !is_adam, "only --optimizer adam takes it"),
            ("epsilon", is_sgd, "only --optimizer adam and nadam take it"),
        ]
    }
}

/// `true` or `false`, in capitals or not, as Python writes them too.
pub fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("give true or false".to_owned()),
    }
}

/// Axes as letters, such as `HW`: H is the file's first axis, as in `--mri-height`, W its second, D its third. The result
/// is in the order of tensors, the file's last axis first.
pub fn axes(text: &str) -> Result<[bool; 3], String> {
    let mut axes = [false; 3];
    for letter in text.chars().filter(|letter| *letter != ',') {
        let axis = "DWH".find(letter.to_ascii_uppercase()).ok_or("give any of the letters D, H, W")?;
        axes[axis] = true;
    }
    Ok(axes)
}

/// Like [`axes`], or `true` for all of them and `false` for none.
pub fn mirrored_axes(text: &str) -> Result<[bool; 3], String> {
    let letters = || axes(text).map_err(|advice| format!("{advice}, or true for all of them, or false"));
    boolean(text).map_or_else(|_| letters(), |all| Ok([all; 3]))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Parsed {
        #[command(flatten)]
        network: NetworkOptions,
    }

    #[test]
    fn axes_are_letters_in_any_order_and_true_is_all_of_them() {
        assert_eq!(axes("w,d"), Ok([true, true, false]));
        assert_eq!(mirrored_axes("DHW"), mirrored_axes("true"));
        assert_eq!(mirrored_axes("DHW"), mirrored_axes("True"));
        assert_eq!(mirrored_axes("false"), Ok([false; 3]));
        assert!(axes("X").is_err() && axes("true").is_err() && mirrored_axes("yes").is_err());
    }

    #[test]
    fn letters_name_the_axes_whose_extents_have_the_same_initial() {
        // H once meant the file's second axis, although --mri-height is the first.
        for letter in ["H", "W", "D"] {
            let extents = [("D", "mri-depth"), ("W", "mri-width"), ("H", "mri-height")]
                .map(|(axis, option)| [format!("--{option}"), if axis == letter { "32" } else { "16" }.to_owned()]);
            let words = ["options".to_owned()].into_iter().chain(extents.into_iter().flatten());
            let recipe = Parsed::try_parse_from(words).unwrap().network.recipe();
            assert_eq!(axes(letter).unwrap(), recipe.extent().map(|extent| extent == 32), "{letter}");
        }
    }

    #[test]
    fn booleans_are_written_as_in_rust_or_python() {
        for (text, value) in [("true", true), ("True", true), ("TRUE", true), ("false", false), ("False", false)] {
            assert_eq!(boolean(text), Ok(value), "{text}");
        }
        for text in ["", "yes", "1", "0", "tru", " true"] {
            assert!(boolean(text).is_err(), "{text}");
        }
    }
}
