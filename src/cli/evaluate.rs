//! `gyrus evaluate`: scores of label maps against the truth.

use std::path::PathBuf;

use clap::Args;

use super::given::Given;
use crate::{
    Result,
    files::{self, Existing},
    run::{self, EvaluateRecipe},
};

/// Score a folder of label maps against a folder of true ones: Dice, HD95, surface Dice, volumes.
#[derive(Debug, Args)]
pub struct Options {
    /// Folder of predicted label maps
    #[arg(value_name = "PREDICTIONS")]
    predictions: PathBuf,

    /// Folder of true label maps of the same names
    #[arg(value_name = "TRUTH")]
    truth: PathBuf,

    /// Tolerance of the surface Dice in mm
    #[arg(long, default_value_t = 1.0, value_name = "MM")]
    tolerance: f64,

    /// Dataset folder whose dataset.json names the labels
    #[arg(long, value_name = "DIR")]
    dataset: Option<PathBuf>,

    /// Leave out true label maps without a prediction, as when one fold was predicted
    #[arg(long)]
    only_predicted: bool,

    /// Write the scores of all cases as CSV
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,

    /// Print JSON instead of the table
    #[arg(long)]
    json: bool,

    /// Replace the CSV file if it is there already
    #[arg(long)]
    overwrite: bool,

    /// Threads; 0: one per core
    #[arg(long, default_value_t = 0)]
    threads: usize,
}

/// Runs the command.
pub fn run(options: Options, given: &Given) -> Result<()> {
    given.remark(&[("overwrite", options.csv.is_none(), "only --csv writes a file")]);
    let existing = if options.overwrite { Existing::Replace } else { Existing::Keep };
    if let (Some(path), Existing::Keep) = (&options.csv, existing) {
        files::refuse_existing(path)?;
    }
    let report = run::evaluate(&EvaluateRecipe {
        predictions: options.predictions,
        truth: options.truth,
        tolerance: options.tolerance,
        dataset: options.dataset,
        only_predicted: options.only_predicted,
        threads: options.threads,
    })?;
    if let Some(path) = &options.csv {
        files::write(path, existing, |writer| writer.write_all(report.csv().as_bytes()))?;
    }
    if options.json {
        super::output::print_json(&report.json())?;
    } else {
        super::output::print(format_args!("{}", report.table()))?;
    }
    Ok(())
}
