//! The training script that this program replaces: every option of it by name, default, range and effect.

mod cli;

use std::{fs, process::Output};

use cli::{Sandbox, stderr};
use serde_json::{Value, json};

/// How a value shows.
enum Shows {
    /// In the run's configuration, at this place.
    In(&'static str, Value),
    /// On standard error.
    Said(&'static str),
    /// By the line of a refusal.
    Refused(&'static str),
    /// By a checkpoint in this folder.
    Folder(&'static str),
}

use Shows::{Folder, In, Refused, Said};

/// One option.
struct Row {
    /// Its name in the script.
    option: &'static str,
    /// How its default shows; none: the script requires it.
    default: Option<Shows>,
    /// A value that works and is not the default, and how it shows.
    other: (&'static str, Shows),
    /// Values that are refused, and why.
    refused: &'static [(&'static str, &'static str)],
}

fn row(
    option: &'static str,
    default: impl Into<Option<Shows>>,
    other: (&'static str, Shows),
    refused: &'static [(&'static str, &'static str)],
) -> Row {
    Row { option, default: default.into(), other, refused }
}

const LATER: &str = "--train-multi-gpu: training on several GPUs";
const NO_BOOLEAN: (&str, &str) = ("yes", "give true or false");

/// All options of the script.
fn table() -> Vec<Row> {
    let architecture = |name: &str| In("/network/architecture", json!(name));
    let rule = |name: &str| In("/rule/name", json!(name));
    vec![
        row("train_data_dir", None, ("more", Said("checking 3 training and 2 validation")), &[("absent", "absent: ")]),
        row("val_data_dir", None, ("more", Said("checking 2 training and 3 validation")), &[("absent", "absent: ")]),
        row(
            "model_architecture",
            architecture("conv3dtranspose_batchnormalization"),
            ("upsampling_dropout", architecture("upsampling_dropout")),
            &[("vnet", "possible values")],
        ),
        row(
            "unet_resize_factor",
            In("/network/resize_factor", json!(2)),
            ("16", In("/network/resize_factor", json!(16))),
            &[("0", "--unet-resize-factor: "), ("33", "--unet-resize-factor: ")],
        ),
        row(
            "unet_dropout_rate",
            In("/network/dropout_rate", json!(0.3f32)),
            ("0.25", In("/network/dropout_rate", json!(0.25))),
            &[("0", "--unet-dropout-rate: "), ("1", "--unet-dropout-rate: "), ("nan", "--unet-dropout-rate: ")],
        ),
        row(
            "num_classes",
            None,
            ("4", Refused("class 3 (class 3) occurs in none")),
            &[("1", "--num-classes: "), ("257", "--num-classes: "), ("2", "label 2")],
        ),
        row("num_channels", None, ("2", Refused("1 channels")), &[("0", "--num-channels: ")]),
        row(
            "weighted_classes",
            In("/weighted_classes", json!(true)),
            ("False", In("/weighted_classes", json!(false))),
            &[NO_BOOLEAN],
        ),
        row("train_multi_gpu", Folder("run"), ("True", Refused(LATER)), &[NO_BOOLEAN]),
        row("num_gpus", Folder("run"), ("2", Refused(LATER)), &[("0", LATER), ("-1", "error: ")]),
        row(
            "training_epochs",
            In("/epochs", json!(200)),
            ("3", In("/epochs", json!(3))),
            &[("0", "--training-epochs: ")],
        ),
        row(
            "model_path",
            Folder("unet_3d_segmentation_model"),
            ("other.h5", Folder("other")),
            &[("file.h5", "file.h5: is a file")],
        ),
        row("resume_train", Folder("run"), ("True", Refused("no run to resume")), &[NO_BOOLEAN]),
        row(
            "loss",
            In("/loss", json!("log_dice")),
            ("dice", In("/loss", json!("dice"))),
            &[("bce", "possible values")],
        ),
        row("optimizer", rule("adam"), ("nadam", rule("nadam")), &[("rmsprop", "possible values")]),
        row(
            "lr",
            In("/schedule/lr", json!(1e-4)),
            ("0.01", In("/schedule/lr", json!(0.01))),
            &[("0", "--lr: "), ("nan", "--lr: ")],
        ),
        row(
            "use_nesterov_sgd",
            rule("adam"),
            ("True", Said("note: --use-nesterov-sgd has no effect (only --optimizer sgd")),
            &[NO_BOOLEAN],
        ),
        row(
            "use_amsgrad_adam",
            In("/rule/amsgrad", json!(false)),
            ("TRUE", In("/rule/amsgrad", json!(true))),
            &[NO_BOOLEAN],
        ),
        row(
            "train_batch_size",
            In("/train_batch", json!(1)),
            ("2", In("/train_batch", json!(2))),
            &[("0", "--train-batch-size: ")],
        ),
        row(
            "val_batch_size",
            In("/validation_batch", json!(1)),
            ("2", In("/validation_batch", json!(2))),
            &[("0", "--val-batch-size: ")],
        ),
        // Extents are the network's, D H W: the file's third, second and first axis.
        row("mri_width", In("/extent/1", json!(240)), ("32", In("/extent/1", json!(32))), &[("17", "--mri-width: 17")]),
        row(
            "mri_height",
            In("/extent/2", json!(240)),
            ("32", In("/extent/2", json!(32))),
            &[("17", "--mri-height: 17")],
        ),
        row("mri_depth", In("/extent/0", json!(160)), ("32", In("/extent/0", json!(32))), &[("17", "--mri-depth: 17")]),
        row(
            "num_workers",
            // Which number it is, `cli::preset` tests.
            Folder("run"),
            ("9", Said("threads prepare batches instead of 9")),
            &[("100000", "--num-workers: ")],
        ),
    ]
}

/// A run that costs nothing: every option of the script.
const EVERY: [(&str, &str); 24] = [
    ("train_data_dir", "left"),
    ("val_data_dir", "right"),
    ("model_architecture", "conv3dtranspose_batchnormalization"),
    ("unet_resize_factor", "32"),
    ("unet_dropout_rate", "0.3"),
    ("num_classes", "3"),
    ("num_channels", "1"),
    ("weighted_classes", "True"),
    ("train_multi_gpu", "False"),
    ("num_gpus", "1"),
    ("training_epochs", "1"),
    ("model_path", "run"),
    ("resume_train", "False"),
    ("loss", "log_dice"),
    ("optimizer", "adam"),
    ("lr", "0.0001"),
    ("use_nesterov_sgd", "False"),
    ("use_amsgrad_adam", "False"),
    ("train_batch_size", "1"),
    ("val_batch_size", "1"),
    ("mri_width", "16"),
    ("mri_height", "16"),
    ("mri_depth", "16"),
    ("num_workers", "4"),
];

/// Nothing is trained, and loading may hardly use memory.
const AT_ONCE: &str = "--time-budget 0s --device cpu --threads 1 --host-memory-budget 9MiB";

/// The script's options, with `option` left out or set to `value`.
fn every(option: &str, value: Option<&str>) -> String {
    let value = |(name, usual): &(&'static str, &'static str)| {
        let value = if *name == option { value.map(str::to_owned) } else { Some((*usual).to_owned()) };
        value.map(|value| format!("--{name}={value}"))
    };
    EVERY.iter().filter_map(value).collect::<Vec<_>>().join(" ")
}

fn kebab_case(arguments: &str) -> String {
    let words = arguments.split(' ').map(|word| match word.split_once('=') {
        Some((name, value)) => format!("{}={value}", name.replace('_', "-")),
        None => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

/// The script's folders: `left` and `right` with two cases each, `more` with three.
fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new(5);
    for (side, cases) in [("left", &[1, 2][..]), ("right", &[3, 4]), ("more", &[1, 2, 5])] {
        for (to, from) in [("images", "imagesTr"), ("masks", "labelsTr")] {
            fs::create_dir_all(sandbox.path(&format!("{side}/{to}"))).unwrap();
            for case in cases {
                let name = format!("blob_{case:04}.nii.gz");
                let from = sandbox.path(&format!("data/{from}/{name}"));
                fs::copy(from, sandbox.path(&format!("{side}/{to}/{name}"))).unwrap();
            }
        }
    }
    fs::write(sandbox.path("file.h5"), "a model of Keras").unwrap();
    sandbox
}

impl Shows {
    /// Runs a command, asks whether it did what it should, and removes what it left.
    fn check(&self, sandbox: &Sandbox, arguments: &str) {
        if let Refused(cause) = self {
            let message = sandbox.refuse(arguments);
            assert!(message.contains(cause), "{arguments}\n{message}");
            return;
        }
        let output: Output = sandbox.run(arguments);
        let text = stderr(&output);
        assert!(output.status.success(), "{arguments}\n{text}");
        let folder = match self {
            Folder(folder) => folder,
            _ => "run",
        };
        let meta = sandbox.checkpoint(&format!("{folder}/last.safetensors")).meta;
        let mut configuration = meta.configuration["run"].clone();
        configuration["network"] = serde_json::to_value(meta.network).unwrap();
        match self {
            In(place, value) => assert_eq!(configuration.pointer(place), Some(value), "{arguments}\n{configuration}"),
            Said(line) => assert!(text.contains(line), "{arguments}\n{text}"),
            Refused(_) | Folder(_) => {}
        }
        fs::remove_dir_all(sandbox.path(folder)).unwrap();
    }
}

#[test]
fn every_option_has_the_scripts_spelling_default_range_and_effect() {
    let (sandbox, table) = (sandbox(), table());
    let names: Vec<&str> = table.iter().map(|row| row.option).collect();
    assert_eq!(names, EVERY.map(|(name, _)| name));
    for Row { option, default, other: (value, shows), refused } in &table {
        shows.check(&sandbox, &format!("train {} {AT_ONCE}", every(option, Some(value))));
        let without = format!("train --preset reference {} {AT_ONCE}", kebab_case(&every(option, None)));
        match default {
            Some(shows) => shows.check(&sandbox, &without),
            None => {
                let output = sandbox.run(&without);
                let name = option.replace('_', "-");
                assert_eq!(output.status.code(), Some(2), "{without}");
                assert!(stderr(&output).contains(&format!("--{name}")), "{without}\n{}", stderr(&output));
            }
        }
        for (value, cause) in *refused {
            let output = sandbox.run(&format!("train {} {AT_ONCE}", every(option, Some(value))));
            assert_eq!(output.status.code(), Some(2), "--{option} {value}");
            assert!(stderr(&output).contains(cause), "--{option} {value}\n{}", stderr(&output));
            assert!(!sandbox.path("run").exists(), "--{option} {value} left a folder");
        }
    }
}

#[test]
fn the_scripts_usage_with_every_option_set_trains() {
    let sandbox = sandbox();
    // As the script's users type it: values as words of their own.
    let arguments = every("training_epochs", Some("2")).replace('=', " ");
    sandbox.succeed(&format!("train {arguments}"));
    assert_eq!(sandbox.checkpoint("run/last.safetensors").meta.position.global_step, 4);
    let history = fs::read_to_string(sandbox.path("run/history.csv")).unwrap();
    assert_eq!(history.lines().count(), 3, "{history}");
    let arguments = arguments.replace("--resume_train False", "--resume_train True");
    let longer = arguments.replace("--training_epochs 2", "--training_epochs 3");
    sandbox.succeed(&format!("train {longer}"));
    assert_eq!(sandbox.checkpoint("run/last.safetensors").meta.position.global_step, 6);
}

#[test]
fn the_preset_restores_what_the_script_does_without_asking_and_is_overridden() {
    let sandbox = sandbox();
    let folders = "--train_data_dir left --val_data_dir right --num_classes 3 --num_channels 1";
    let tiny = "--unet_resize_factor 32 --mri_width 16 --mri_height 16 --mri_depth 16 --model_path run";
    for (option, place, preset, usual, override_, overridden) in [
        ("epsilon", "/rule/epsilon", json!(0.1), json!(1e-7), "0.01", json!(0.01)),
        ("normalization", "/normalization", json!("slice"), json!("volume"), "none", json!("none")),
        (
            "augment",
            "/augmentation/flip",
            json!([false, true, false]),
            json!([false, false, false]),
            "flip",
            json!([true, true, true]),
        ),
        ("training_epochs", "/epochs", json!(200), json!(100), "7", json!(7)),
        ("clip_value", "/clip", json!(50.0), json!(50.0), "1", json!(1.0)),
        ("head_filters", "/network/head_filters", json!(2), json!(2), "3", json!(3)),
        ("fit", "/fit", json!("pad"), json!("pad"), "resize", json!("resize")),
        ("lr_schedule", "/schedule/rule/kind", json!("plateau"), json!("plateau"), "constant", json!("constant")),
        ("warmup_steps", "/schedule/warmup_steps", json!(0), json!(0), "5", json!(5)),
    ] {
        let train = format!("train {folders} {tiny} {AT_ONCE}");
        In(place, preset).check(&sandbox, &format!("{train} --preset reference"));
        In(place, usual).check(&sandbox, &train);
        In(place, overridden).check(&sandbox, &format!("{train} --{option} {override_} --preset reference"));
    }
    let sgd = format!("train {folders} {tiny} {AT_ONCE} --preset reference --optimizer sgd");
    In("/rule/momentum", json!(0.9)).check(&sandbox, &sgd);
}

#[test]
fn the_preset_requires_folders_and_counts_unless_a_dataset_names_them() {
    let sandbox = sandbox();
    let preset = "train --preset reference --unet_resize_factor 32 --mri_width 16 --mri_height 16 --mri_depth 16";
    let folders = "--train_data_dir left --val_data_dir right";
    for (given, missing) in [("--num_channels 1", "--num-classes: "), ("--num_classes 3", "--num-channels: ")] {
        let message = sandbox.refuse(&format!("{preset} {folders} {given} {AT_ONCE}"));
        assert!(message.contains(missing), "{message}");
    }
    Folder("unet_3d_segmentation_model").check(&sandbox, &format!("{preset} --dataset data {AT_ONCE}"));
}

#[test]
fn a_model_path_of_keras_names_a_run_wherever_one_is_asked_for() {
    let sandbox = sandbox();
    let train = every("model_path", Some("m.h5"));
    let output = sandbox.run(&format!("train {train}"));
    assert!(output.status.success());
    assert!(stderr(&output).contains("run: m (a run is a folder; m.h5 names it)"), "{}", stderr(&output));
    assert!(sandbox.path("m/best.safetensors").is_file() && !sandbox.path("m.h5").exists());
    sandbox.succeed("predict right/images --model-path m.h5 --output out");
    assert!(sandbox.refuse(&format!("train {train}")).contains("m: holds a run already"));
    // A file of either name is nobody's to replace.
    fs::remove_dir_all(sandbox.path("m")).unwrap();
    fs::write(sandbox.path("m"), "").unwrap();
    assert!(sandbox.refuse(&format!("train {train}")).contains("m: is a file"));
    // A folder of the whole name is taken as it is.
    fs::remove_file(sandbox.path("m")).unwrap();
    fs::create_dir(sandbox.path("m.h5")).unwrap();
    Folder("m.h5").check(&sandbox, &format!("train {train} {AT_ONCE}"));
}

#[test]
fn options_without_effect_are_said_by_every_command() {
    let sandbox = sandbox();
    sandbox.succeed(&format!("train {}", every("", None)));
    let network = "--unet-resize-factor 32 --mri-height 16 --mri-width 16 --mri-depth 16";
    fs::write(sandbox.path("splits.json"), r#"[{"train": ["blob_0001"], "val": ["blob_0002"]}]"#).unwrap();
    for (command, options) in [
        (
            format!("plan {network} --momentum 0.8 --epsilon 0.1 --unet-dropout-rate 0.3"),
            &["momentum", "epsilon", "unet-dropout-rate"][..],
        ),
        (
            format!("plan {network} --clip-value 1 --use-amsgrad-adam true --optimizer sgd"),
            &["clip-value", "use-amsgrad-adam"],
        ),
        (format!("plan {network} --card 8GiB --device cuda --threads 2"), &["device", "threads"]),
        (format!("plan {network} --optimizer sgd --use-amsgrad-adam false"), &[]),
        (format!("bench {network} --device cpu --no-peaks --steps 1 --momentum 0.8"), &["momentum"]),
        (format!("bench {network} --device emulated --steps 1 --nodes"), &["steps", "nodes"]),
        (
            "predict --dataset data --splits splits.json --folds 3 --seed 1 --model-path run --output out".into(),
            &["folds", "seed"],
        ),
        ("evaluate left/masks left/masks --overwrite".into(), &["overwrite"]),
        ("evaluate left/masks left/masks --overwrite --csv scores.csv".into(), &[]),
        ("explore data --overwrite".into(), &["overwrite"]),
        ("selftest --device cpu --filter relu --precision bf16".into(), &["precision"]),
    ] {
        let output = sandbox.run(&command);
        let text = stderr(&output);
        assert!(output.status.success(), "{command}\n{text}");
        let said: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("note: --")).collect();
        let said: Vec<&str> = said.iter().map(|line| line.split_once(" has no effect (").unwrap().0).collect();
        let (mut said, mut options) = (said, options.to_vec());
        said.sort_unstable();
        options.sort_unstable();
        assert_eq!(said, options, "{command}");
    }
}
