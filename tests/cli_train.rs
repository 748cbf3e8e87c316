//! `gyrus train` as a user runs it: what it leaves, how it is interrupted, and what may not change its result.

mod cli;

use std::{
    fs,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use cli::{Sandbox, TINY, keys, names};
use serde_json::Value;

#[test]
fn a_run_leaves_checkpoints_history_curves_and_events() {
    let sandbox = Sandbox::new(5);
    let output = sandbox.succeed(&format!("train --dataset data {TINY} --training-epochs 2 --model-path model"));
    assert!(output.contains("best.safetensors") && output.contains("history and curves: model"), "{output}");
    let files = names(&sandbox.path("model"));
    let (events, others): (Vec<_>, Vec<_>) = files.iter().partition(|name| name.starts_with("events.out.tfevents."));
    assert_eq!(events.len(), 1);
    assert_eq!(others, ["best.safetensors", "curves.svg", "history.csv", "history.json", "last.safetensors"]);
    assert_eq!(fs::read_to_string(sandbox.path("model/history.csv")).unwrap().lines().count(), 3);
    let history: Value = serde_json::from_slice(&fs::read(sandbox.path("model/history.json")).unwrap()).unwrap();
    assert_eq!(history["classes"], serde_json::json!(["body", "bite"]));
    assert_eq!(history["epochs"].as_array().unwrap().len(), 2);
    assert_eq!(history["epochs"][1]["step"], 8);
    let position = sandbox.checkpoint("model/last.safetensors").meta.position;
    assert_eq!((position.epoch, position.step_in_epoch, position.global_step), (2, 0, 8));

    // What is there is not overwritten unless told, and then nothing of the old run stays.
    assert!(sandbox.refuse(&format!("train --dataset data {TINY} --model-path model")).contains("holds a run already"));
    sandbox.succeed(&format!("train --dataset data {TINY} --model-path model --overwrite --time-budget 0s"));
    let files = names(&sandbox.path("model"));
    assert_eq!(files.len(), 2, "the old run's best checkpoint passes for the new one's: {files:?}");
    assert!(files.contains(&"last.safetensors".to_owned()));
}

#[test]
fn every_architecture_loss_and_optimizer_trains() {
    let sandbox = Sandbox::new(5);
    let architectures = [
        "upsampling_dropout",
        "conv3dtranspose_dropout",
        "upsampling_batchnormalization",
        "conv3dtranspose_batchnormalization",
    ];
    let optimizers = [
        "sgd",
        "sgd --use-nesterov-sgd true",
        "adam --loss dice",
        "adam --use-amsgrad-adam true --lr-schedule cosine",
        "nadam --lr-schedule polynomial --warmup-steps 2",
    ];
    for (index, optimizer) in optimizers.iter().enumerate() {
        let architecture = architectures[index % architectures.len()];
        sandbox.succeed(&format!(
            "train --dataset data {TINY} --augment full --training-epochs 1 --model-path {index} \
             --model-architecture {architecture} --optimizer {optimizer}"
        ));
        let start = sandbox.run(&format!(
            "train --dataset data {TINY} --augment full --time-budget 0s --training-epochs 1 --model-path {index}.start \
             --model-architecture {architecture} --optimizer {optimizer}"
        ));
        assert!(start.status.success());
        let moved = sandbox.weights(&format!("{index}/last.safetensors"));
        assert_ne!(moved, sandbox.weights(&format!("{index}.start/last.safetensors")), "{optimizer} moved nothing");
    }
}

#[test]
fn two_classes_work_from_training_to_scores() {
    let sandbox = Sandbox::new(5);
    for case in 1..=5 {
        let path = sandbox.path(&format!("data/labelsTr/blob_{case:04}.nii.gz"));
        let labels = gyrus::formats::read_labels(&path).unwrap();
        let binary: Vec<u8> = labels.voxels.iter().map(|&label| u8::from(label > 0)).collect();
        gyrus::formats::write_labels(&path, &labels.header, &binary[..]).unwrap();
    }
    let description = fs::read_to_string(sandbox.path("data/dataset.json")).unwrap();
    let mut description: Value = serde_json::from_str(&description).unwrap();
    description["labels"] = serde_json::json!({"0": "background", "1": "blob"});
    fs::write(sandbox.path("data/dataset.json"), description.to_string()).unwrap();
    sandbox.succeed(&format!("train --dataset data {TINY} --training-epochs 2 --model-path model"));
    sandbox.succeed("predict --model-path model --dataset data --output out --probabilities");
    let scores = sandbox.json("evaluate out data/labelsTr --dataset data --only-predicted --json");
    assert_eq!(scores["classes"], serde_json::json!([{"label": 1, "name": "blob"}]));
    let case = scores["cases"][0]["case"].as_str().unwrap();
    let p = gyrus::formats::read_image(&sandbox.path(&format!("out/probabilities/{case}.nii.gz"))).unwrap();
    let labels = gyrus::formats::read_labels(&sandbox.path(&format!("out/{case}.nii.gz"))).unwrap();
    assert_eq!(p.header.channels, 1);
    assert!(p.voxels.iter().zip(&labels.voxels).all(|(&p, &label)| label == u16::from(p > 0.5)));
}

/// Of the runs that are interrupted.
const EPOCHS: u64 = 4;

/// A network whose steps take long enough for a signal to fall between two of them rather than between epochs.
const SLOWER: &str = "--unet-resize-factor 32 --head-filters 0 --mri-height 32 --mri-width 48 --mri-depth 32 --lr 0.01";

/// The whole state of a run that nobody interrupts, and the options of that run.
fn uninterrupted(sandbox: &Sandbox, network: &str) -> (String, Vec<(String, Vec<u32>)>) {
    let run = format!(
        "train --dataset data {network} --training-epochs {EPOCHS} --augment full --early-stop 9 \
         --model-architecture conv3dtranspose_dropout"
    );
    sandbox.succeed(&format!("{run} --model-path whole --threads 1 --num-workers 1"));
    (run, sandbox.weights("whole/last.safetensors"))
}

#[test]
fn runs_stopped_by_the_clock_and_resumed_with_other_threads_end_with_the_same_bits() {
    let sandbox = Sandbox::new(10);
    let (run, whole) = uninterrupted(&sandbox, TINY);
    sandbox.succeed(&format!("{run} --model-path parts --time-budget 0s"));
    let mut milliseconds = 10.0;
    for part in 0.. {
        let position = sandbox.checkpoint("parts/last.safetensors").meta.position;
        if position.epoch == EPOCHS {
            break;
        }
        assert!(part < 40, "no progress: {position:?}");
        milliseconds *= 1.3;
        sandbox.succeed(&format!(
            "{run} --model-path parts --resume-train true --time-budget {}s --threads {} --num-workers {}",
            milliseconds / 1e3,
            1 + part % 3,
            part % 4
        ));
    }
    assert!(sandbox.weights("parts/last.safetensors") == whole);
    assert!(sandbox.weights("parts/best.safetensors") == sandbox.weights("whole/best.safetensors"));
    let epochs = |name: &str| {
        let text = fs::read(sandbox.path(&format!("{name}/history.json"))).unwrap();
        let history: Value = serde_json::from_slice(&text).unwrap();
        history["epochs"].as_array().unwrap().iter().map(|row| row["train"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(epochs("parts"), epochs("whole"));
}

#[cfg(unix)]
#[test]
fn a_signal_in_mid_epoch_leaves_a_checkpoint_from_which_the_same_bits_follow() {
    let sandbox = Sandbox::new(10);
    let (run, whole) = uninterrupted(&sandbox, SLOWER);
    for (model, signal) in [("term", "TERM"), ("int", "INT"), ("kill", "KILL")] {
        // Another run, should one be over before the signal comes or between two epochs when it comes.
        let status = (0..20).find_map(|attempt| {
            let _ = fs::remove_dir_all(sandbox.path(model));
            let mut child = sandbox
                .command(&format!("{run} --model-path {model} --threads 1"))
                .stderr(Stdio::null())
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            let begun = Instant::now();
            while !sandbox.path(&format!("{model}/history.csv")).exists() && begun.elapsed() < Duration::from_secs(60) {
                thread::sleep(Duration::from_millis(1));
            }
            thread::sleep(Duration::from_millis(20 + 7 * attempt));
            let sent =
                std::process::Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status();
            assert!(sent.unwrap().success());
            let status = child.wait().unwrap();
            let last = sandbox.path(&format!("{model}/last.safetensors"));
            let stopped = last.exists() && {
                let position = sandbox.checkpoint(&format!("{model}/last.safetensors")).meta.position;
                position.epoch < EPOCHS && (signal == "KILL" || position.step_in_epoch > 0)
            };
            stopped.then_some(status)
        });
        let status = status.expect("every run was over before its signal");
        assert_eq!(status.code(), (signal != "KILL").then_some(130));
        sandbox.succeed(&format!("{run} --model-path {model} --resume-train true --threads 2 --num-workers 3"));
        assert!(sandbox.weights(&format!("{model}/last.safetensors")) == whole, "{signal}");
        let history = fs::read_to_string(sandbox.path(&format!("{model}/history.csv"))).unwrap();
        assert_eq!(history.lines().count() as u64, EPOCHS + 1, "{signal}: {history}");
    }
}

#[test]
fn a_run_that_no_longer_improves_ends_early() {
    let sandbox = Sandbox::new(5);
    // A rate so small that no weight changes: the second epoch cannot be better than the first.
    let run = format!("train --dataset data {TINY} --training-epochs 50 --early-stop 2 --lr-schedule constant");
    let run = run.replace("--lr 0.01", "--lr 1e-30") + " --model-architecture upsampling_dropout";
    sandbox.succeed(&format!("{run} --model-path model"));
    assert_eq!(sandbox.checkpoint("model/last.safetensors").meta.position.epoch, 3);
}

#[test]
fn a_diverging_run_ends_with_an_error_and_leaves_no_checkpoint_of_nans() {
    let sandbox = Sandbox::new(5);
    let run = format!("train --dataset data {TINY} --model-path model").replace("--lr 0.01", "--lr 3e38");
    let output = sandbox.run(&run);
    assert_eq!(output.status.code(), Some(2));
    assert!(cli::stderr(&output).contains("error: --lr: the loss is no longer a number"), "{}", cli::stderr(&output));
    assert!(names(&sandbox.path("model")).iter().all(|name| !name.ends_with(".safetensors")));
}

#[test]
fn json_has_the_documented_keys() {
    let sandbox = Sandbox::new(5);
    sandbox.succeed(&format!("train --dataset data {TINY} --training-epochs 1 --model-path model"));
    let plan = sandbox.json(&format!("plan {} --num-channels 1 --num-classes 3 --json", TINY.replace("--lr 0.01", "")));
    for key in [
        "parameters",
        "flops",
        "peak_bytes",
        "transient_bytes",
        "transient_lower_bound",
        "peak_at",
        "roles",
        "layers",
        "total_bytes",
    ] {
        assert!(!plan[key].is_null(), "{key} is not in {:?}", keys(&plan));
    }
    let checkpoint = sandbox.json("inspect model/best.safetensors --json");
    for key in ["kind", "network", "optimizer", "meta"] {
        assert!(!checkpoint[key].is_null(), "{key} is not in {:?}", keys(&checkpoint));
    }
    assert_eq!(checkpoint["kind"], "checkpoint");
    let image = sandbox.json("inspect data/imagesTr/blob_0001.nii.gz --json");
    assert_eq!((&image["kind"], &image["extents"]), (&"nifti".into(), &serde_json::json!([32, 48, 32])));
    let documented = [
        "kind",
        "version",
        "extents",
        "channels",
        "voxel_type",
        "spacing_mm",
        "affine",
        "orientation",
        "minimum",
        "maximum",
        "mean",
        "non_finite",
    ];
    assert_eq!(keys(&image), documented);
    let explored = sandbox.json("explore data --json");
    assert_eq!(keys(&explored), ["format", "version", "dataset", "channels", "labels", "overall", "cases"]);
    assert_eq!(explored["cases"].as_array().unwrap().len(), 5);
}
