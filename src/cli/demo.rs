//! `gyrus demo`: the whole path on a small synthetic dataset, for a machine that has seen nothing else.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use clap::Args;

use super::device::DeviceOptions;
use crate::{Error, Result, demo};

/// The folder that the demo makes if none is named.
const FOLDER: &str = "gyrus-demo";

/// One of as many parts of the cases validates.
const FOLDS: usize = 5;

/// Try everything: make a small synthetic dataset, train on it, predict, evaluate. It takes less than half a minute on two
/// idle cores.
#[derive(Debug, Args)]
pub struct Options {
    /// Folder to make
    #[arg(long, default_value = FOLDER, value_name = "DIR")]
    output: PathBuf,

    /// Replace the folder of an earlier demo
    #[arg(long)]
    overwrite: bool,

    /// Of the images and the training
    #[arg(long, default_value_t = 0)]
    seed: u64,

    /// Number of synthetic cases; a fifth of them validates
    #[arg(long, default_value_t = 30, value_name = "N")]
    cases: usize,

    #[command(flatten)]
    device: DeviceOptions,

    /// Epochs
    #[arg(long, default_value_t = 12, value_name = "N")]
    training_epochs: usize,
}

/// Runs the command.
pub fn run(options: Options) -> Result<()> {
    let folder = &options.output;
    if options.cases < FOLDS || options.training_epochs == 0 {
        let cause = format!("{} cases, {} epochs", options.cases, options.training_epochs);
        let advice = format!("give at least {FOLDS} cases and 1 epoch");
        return Err(Error::usage("--cases, --training-epochs", cause, advice));
    }
    // What cannot be had is said before anything is made.
    drop(options.device.open()?);
    prepare(folder, options.overwrite)?;
    let path = |name: &str| folder.join(name).into_os_string();
    let (data, model, predictions) = (path("dataset"), path("model"), path("predictions"));

    note!("making {} synthetic cases in {}", options.cases, Path::new(&data).display());
    let making = took(|| demo::synthesize(Path::new(&data), options.seed, options.cases).map(drop))?;
    let [depth, width, height] = demo::EXTENTS.map(|extent| extent.to_string());
    let (seed, epochs) = (options.seed.to_string(), options.training_epochs.to_string());
    let device = options.device.words();
    let folds = FOLDS.to_string();
    let training = command(
        "train",
        &[
            ("--dataset", &data),
            ("--model-path", &model),
            ("--unet-resize-factor", "8".as_ref()),
            ("--mri-height", height.as_ref()),
            ("--mri-width", width.as_ref()),
            ("--mri-depth", depth.as_ref()),
            ("--head-filters", "0".as_ref()),
            ("--lr", "0.003".as_ref()),
            ("--lr-schedule", "cosine".as_ref()),
            ("--augment", "flip".as_ref()),
            ("--folds", folds.as_ref()),
            ("--training-epochs", epochs.as_ref()),
            ("--seed", seed.as_ref()),
        ],
        &device,
    )?;
    let predicting = command(
        "predict",
        &[
            ("--model-path", &model),
            ("--dataset", &data),
            ("--folds", folds.as_ref()),
            ("--seed", seed.as_ref()),
            ("--output", &predictions),
        ],
        &device,
    )?;
    let truth = Path::new(&data).join("labelsTr").into_os_string();
    let csv = path("scores.csv");
    let rest = [predictions.clone(), truth, "--only-predicted".into()];
    let evaluating = command("evaluate", &[("--dataset", &data), ("--csv", &csv)], &rest)?;

    say!("");
    say!("everything is in {}:", folder.display());
    say!("  dataset      {}", Path::new(&data).display());
    say!(
        "  model        {}: best.safetensors, history.csv, curves.svg, TensorBoard events",
        Path::new(&model).display()
    );
    say!("  label maps   {}", Path::new(&predictions).display());
    say!("  scores       {}", Path::new(&csv).display());
    let [total, making, training, predicting, evaluating] =
        [making + training + predicting + evaluating, making, training, predicting, evaluating]
            .map(|time| time.as_secs_f64());
    say!(
        "it took {total:.0} s: dataset {making:.1}, training {training:.1}, predictions {predicting:.1}, scores {evaluating:.1}"
    );
    Ok(())
}

/// How long it takes.
fn took(work: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let start = Instant::now();
    work().map(|()| start.elapsed())
}

/// An empty folder. Only a folder that an earlier demo made is ever removed.
fn prepare(folder: &Path, overwrite: bool) -> Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    if !overwrite {
        let advice = "give another folder with --output, or replace an earlier demo with --overwrite";
        return Err(Error::input(folder, "exists already", advice));
    }
    let is_demo = folder.join("dataset").join("dataset.json").is_file();
    if !is_demo {
        return Err(Error::input(folder, "is not the folder of an earlier demo", "give another folder with --output"));
    }
    for name in ["dataset", "model", "predictions", "scores.csv"] {
        let path = folder.join(name);
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        match removed {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(Error::io(path, error)),
            _ => {}
        }
    }
    Ok(())
}

/// Shows a command as the user would type it, and runs it; says how long it took.
fn command(name: &str, options: &[(&str, &std::ffi::OsStr)], rest: &[OsString]) -> Result<Duration> {
    let mut line: Vec<OsString> = vec!["gyrus".into(), name.into()];
    for (option, value) in options {
        line.extend([OsString::from(option), value.to_os_string()]);
    }
    line.extend_from_slice(rest);
    let shown: Vec<_> = line.iter().map(|word| word.to_string_lossy()).collect();
    note!("\n$ {}", shown.join(" "));
    took(|| super::run(super::parse(line).expect("the demo's own command line is right")))
}
