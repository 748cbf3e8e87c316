//! Defaults that come as a set: `--preset`. What is typed beside it overrides it.

use clap::Command;

use super::given::Given;
use crate::{Error, Result};

/// A set by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PresetName {
    /// What the Keras script does that this program replaces (docs/reference.md).
    Reference,
}

/// A set of defaults.
#[derive(Clone, Copy, Debug)]
pub struct Preset {
    /// What it is called on the command line.
    name: &'static str,
    /// Options with their defaults, as they are typed.
    pub defaults: &'static [(&'static str, &'static str)],
    /// Options that must be typed unless `--dataset` is, which stands for them; and what they are.
    pub required: &'static [(&'static str, &'static str)],
}

/// Every default of the reference, and what it does without having an option for it. Complete, so that it stays what it
/// is when a default of this program changes.
pub const REFERENCE: Preset = Preset {
    name: "reference",
    defaults: &[
        ("model-architecture", "conv3dtranspose_batchnormalization"),
        ("unet-resize-factor", "2"),
        ("unet-dropout-rate", "0.3"),
        ("weighted-classes", "true"),
        ("train-multi-gpu", "false"),
        ("num-gpus", "1"),
        ("training-epochs", "200"),
        ("model-path", "unet_3d_segmentation_model.h5"),
        ("resume-train", "false"),
        ("loss", "log_dice"),
        ("optimizer", "adam"),
        ("lr", "0.0001"),
        ("use-nesterov-sgd", "false"),
        ("use-amsgrad-adam", "false"),
        ("train-batch-size", "1"),
        ("val-batch-size", "1"),
        ("mri-width", "240"),
        ("mri-height", "240"),
        ("mri-depth", "160"),
        ("num-workers", "4"),
        // Without an option there.
        ("head-filters", "2"),
        ("momentum", "0.9"),
        ("epsilon", "0.1"),
        ("clip-value", "50"),
        ("lr-schedule", "plateau"),
        ("warmup-steps", "0"),
        ("normalization", "slice"),
        ("fit", "pad"),
        ("augment", "reference"),
        ("precision", "fp32"),
    ],
    required: &[
        ("train-data-dir", "a folder with images and masks"),
        ("val-data-dir", "a folder with images and masks"),
        ("num-classes", "the number of classes, background included"),
        ("num-channels", "the number of channels of the images"),
    ],
};

impl PresetName {
    /// The set.
    pub fn preset(self) -> &'static Preset {
        match self {
            Self::Reference => &REFERENCE,
        }
    }
}

/// The command with the defaults of every preset, for when its `--preset` is that one.
pub fn with_presets(mut command: Command) -> Command {
    for Preset { name, defaults, .. } in [REFERENCE] {
        for (option, value) in defaults {
            command = command.mut_arg(option.replace('-', "_"), |arg| arg.default_value_if("preset", name, *value));
        }
    }
    command
}

impl Preset {
    /// Checks that what must be typed was.
    ///
    /// # Errors
    /// Naming the first option that was not.
    pub fn check(&self, given: &Given) -> Result<()> {
        let is_missing = |&&(option, _): &&(&str, &str)| !given.has(option) && !given.has("dataset");
        let Some((option, what)) = self.required.iter().find(is_missing) else { return Ok(()) };
        let cause = format!("--preset {} has no default for it", self.name);
        Err(Error::usage(format!("--{option}"), cause, format!("give {what}; or --dataset DIR, which says it")))
    }
}

#[cfg(test)]
mod tests {
    use clap::parser::ValueSource;

    use super::*;

    #[test]
    fn every_default_of_a_preset_holds_until_it_is_typed_over() {
        let matches = |arguments: &str| {
            let line = format!("gyrus train --dataset data {arguments}");
            let matches = crate::cli::command_line().try_get_matches_from(line.split_whitespace()).unwrap();
            matches.subcommand_matches("train").unwrap().clone()
        };
        let value = |matches: &clap::ArgMatches, option: &str| {
            let id = option.replace('-', "_");
            assert_eq!(matches.value_source(&id), Some(ValueSource::DefaultValue), "{option}");
            matches.get_raw(&id).unwrap().next().unwrap().to_str().unwrap().to_owned()
        };
        let preset = matches("--preset reference");
        for (option, default) in REFERENCE.defaults {
            assert_eq!(value(&preset, option), *default, "{option}");
        }
        let usual = matches("");
        assert_eq!((&*value(&usual, "num-workers"), &*value(&usual, "training-epochs")), ("1", "100"));
        let typed = matches("--preset reference --num-workers 2 --training-epochs 9");
        assert_eq!(typed.get_one::<usize>("num_workers"), Some(&2));
        assert_eq!(typed.get_one::<usize>("training_epochs"), Some(&9));
    }
}
