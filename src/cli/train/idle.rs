//! Which options of `gyrus train` have no effect beside the others.

use super::Options;
use crate::{
    cli::{device::DeviceOptions, given::Idle},
    run::LearningRate,
    session::Device,
    train::schedule::Plateau,
};

impl Options {
    /// The whole table, for a network with so many logit channels, on this device.
    pub(super) fn idle(&self, outputs: usize, device: Device) -> Vec<Idle> {
        let is_binary = outputs == 1;
        let is_steady =
            self.lr_schedule == LearningRate::Plateau && self.training_epochs <= Plateau::default().patience as usize;
        let never_stops = self.early_stop.is_some_and(|patience| patience as usize >= self.training_epochs);
        let own = vec![
            ("weighted-classes", self.weighted_classes && is_binary, "two classes are one channel, which has no rival"),
            ("warmup-steps", self.warmup_steps == 1, "the last step of the warm-up has the whole rate"),
            ("lr-schedule", is_steady, "the run ends before 20 epochs without improvement are over"),
            ("early-stop", never_stops, "the run has no more epochs than that"),
        ];
        let shared = [self.data.idle(), self.network.idle(), self.optimizer.idle(), DeviceOptions::idle(device)];
        own.into_iter().chain(shared.into_iter().flatten()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::cli::{self, Command, Parsed};

    /// Options that always have an effect.
    const ALWAYS: [&str; 43] = [
        "preset",
        "dataset",
        "splits",
        "train-data-dir",
        "val-data-dir",
        "normalization",
        "fit",
        "flip",
        "rotation",
        "zoom",
        "intensity-scale",
        "intensity-shift",
        "gamma",
        "noise",
        "num-workers",
        "cache",
        "model-architecture",
        "unet-resize-factor",
        "head-filters",
        "num-classes",
        "num-channels",
        "mri-height",
        "mri-width",
        "mri-depth",
        "optimizer",
        "clip-value",
        "device",
        "precision",
        "fuse",
        "memory-budget",
        "rematerialise",
        "offload",
        "host-memory-budget",
        "loss",
        "training-epochs",
        "lr",
        "time-budget",
        "train-batch-size",
        "val-batch-size",
        "seed",
        "model-path",
        "resume-train",
        "overwrite",
    ];

    /// What is said about a command line, in the words between `--` and `has`.
    fn in_vain(words: &str, device: Device) -> Vec<String> {
        let line = ["gyrus", "train"].into_iter().chain(words.split_whitespace()).map(Into::into);
        let Parsed { command: Command::Train(options), given } = cli::parse(line).unwrap() else { unreachable!() };
        let outputs = options.network.recipe().config(None, Some(1), Some(3)).outputs();
        let lines = given.in_vain(&options.idle(outputs, device));
        let option = |line: String| line["note: --".len()..].split_once(" has no effect (").unwrap().0.to_owned();
        lines.into_iter().map(option).collect()
    }

    #[test]
    fn an_option_without_effect_is_said() {
        let all_changes = "--flip H --rotation 1 --zoom 0 --intensity-scale 0 --intensity-shift 0 --gamma 0 --noise 0";
        let folders = "--train-data-dir a --val-data-dir b";
        for (words, option) in [
            ("--use-nesterov-sgd true", "use-nesterov-sgd"),
            ("--use_nesterov_sgd True --optimizer nadam", "use-nesterov-sgd"),
            ("--use-nesterov-sgd true --optimizer sgd --momentum 0", "use-nesterov-sgd"),
            ("--momentum 0.8", "momentum"),
            ("--momentum 0.9", "momentum"),
            ("--use-amsgrad-adam true --optimizer nadam", "use-amsgrad-adam"),
            ("--use-amsgrad-adam true --optimizer sgd", "use-amsgrad-adam"),
            ("--epsilon 0.1 --optimizer sgd", "epsilon"),
            ("--unet-dropout-rate 0.3", "unet-dropout-rate"),
            ("--unet-dropout-rate 0.3 --model-architecture upsampling_batchnormalization", "unet-dropout-rate"),
            ("--weighted-classes true --num-classes 2", "weighted-classes"),
            ("--folds 4 --splits s", "folds"),
            (&format!("{folders} --fold 1"), "fold"),
            (&format!("{folders} --folds 4"), "folds"),
            (&format!("--augment full {all_changes}"), "augment"),
            ("--warmup-steps 1", "warmup-steps"),
            ("--lr-schedule plateau --training-epochs 20", "lr-schedule"),
            ("--early-stop 20 --training-epochs 20", "early-stop"),
        ] {
            let dataset = if words.contains(folders) { "" } else { "--dataset data " };
            assert_eq!(in_vain(&format!("{dataset}{words}"), Device::Cpu), [option], "{words}");
        }
        assert_eq!(in_vain("--dataset data --threads 2", Device::Cuda(0)), ["threads"]);
    }

    #[test]
    fn an_option_with_an_effect_is_not_said() {
        for words in [
            "",
            "--preset reference",
            // What is switched off is off.
            "--use-nesterov-sgd false --use-amsgrad-adam false --weighted-classes false --num-classes 2",
            "--optimizer sgd --use-nesterov-sgd true --momentum 0.8",
            "--use-amsgrad-adam true --epsilon 0.1 --threads 2 --weighted-classes true",
            "--optimizer nadam --epsilon 0.1",
            "--model-architecture conv3dtranspose_dropout --unet-dropout-rate 0.3",
            "--folds 4 --fold 1",
            "--fold 1 --splits s",
            "--augment full --flip H --rotation 1 --zoom 0 --intensity-scale 0 --intensity-shift 0 --gamma 0",
            "--warmup-steps 2 --lr-schedule plateau --training-epochs 21 --early-stop 20",
        ] {
            let said = in_vain(&format!("--dataset data {words}"), Device::Cpu);
            assert!(said.is_empty(), "{words}: {said:?}");
        }
    }

    #[test]
    fn every_option_was_asked_when_it_has_no_effect() {
        let line = ["gyrus", "train", "--dataset", "data"].map(Into::into);
        let Parsed { command: Command::Train(options), .. } = cli::parse(line).unwrap() else { unreachable!() };
        let table = options.idle(3, Device::Cpu);
        // Refused as long as they could have an effect.
        let refused = ["train-multi-gpu", "num-gpus"];
        let asked: BTreeSet<&str> = table.iter().map(|(option, ..)| *option).chain(ALWAYS).chain(refused).collect();
        let command = cli::command_line();
        let train = command.find_subcommand("train").unwrap();
        let options: BTreeSet<&str> = train.get_arguments().filter_map(clap::Arg::get_long).collect();
        assert_eq!(asked, options);
    }
}
