//! `gyrus explore`: what a dataset holds.

use std::{num::NonZeroUsize, path::PathBuf};

use clap::Args;

use super::given::Given;
use crate::{
    Result,
    data::dataset::Dataset,
    explore::explore,
    files::{self, Existing},
    run::check_threads,
};

/// Show sizes, spacing, intensities and label shares of a dataset, per case and overall.
#[derive(Debug, Args)]
pub struct Options {
    /// Dataset folder
    #[arg(value_name = "DATASET")]
    dataset: PathBuf,

    /// Write a page with histograms
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,

    /// Print JSON instead of the table
    #[arg(long)]
    json: bool,

    /// Replace the page if it is there already
    #[arg(long)]
    overwrite: bool,

    /// Threads; 0: one per core
    #[arg(long, default_value_t = 0)]
    threads: usize,
}

/// Runs the command.
pub fn run(options: Options, given: &Given) -> Result<()> {
    check_threads("threads", options.threads)?;
    given.remark(&[("overwrite", options.html.is_none(), "only --html writes a file")]);
    let existing = if options.overwrite { Existing::Replace } else { Existing::Keep };
    if let (Some(path), Existing::Keep) = (&options.html, existing) {
        files::refuse_existing(path)?;
    }
    let dataset = Dataset::open(&options.dataset)?;
    let report = explore(&dataset, NonZeroUsize::new(options.threads), &|| ())?;
    if let Some(path) = &options.html {
        files::write(path, existing, |writer| writer.write_all(report.html().as_bytes()))?;
    }
    if options.json {
        super::output::print_json(&report.json())?;
    } else {
        super::output::print(format_args!("{}", report.table()))?;
    }
    Ok(())
}
