//! Shows what a dataset holds: sizes, spacing, intensities and label shares, per case and overall.
//!
//! The numbers are those of the [`Fingerprint`] that training uses, made in one pass over the files with one case per
//! thread in memory; here they become a table, JSON, and a page with histograms.

mod json;
mod page;
mod summary;
mod table;

use std::num::NonZeroUsize;

pub use summary::{Quantity, Spread};

use crate::{
    Error, Result,
    data::{
        dataset::Dataset,
        fingerprint::{CaseFingerprint, Fingerprint},
        validate::{Expectation, survey},
    },
};

/// What a dataset holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The dataset's name.
    pub name: String,
    /// A name for each channel.
    pub channels: Vec<String>,
    /// A name for each label value, background first; empty if no case has labels.
    pub labels: Vec<String>,
    /// The statistics of all cases.
    pub fingerprint: Fingerprint,
}

/// Reads every labelled case of a dataset (or the unlabelled ones if it has no others). Calls `progress` after each,
/// from any thread. `threads`: none is one per core; the report does not depend on it.
///
/// # Errors
/// A dataset without cases, and whatever would keep it from being trained on: all problems in one error.
pub fn explore(dataset: &Dataset, threads: Option<NonZeroUsize>, progress: &(dyn Fn() + Sync)) -> Result<Report> {
    let cases = if dataset.cases.is_empty() { &dataset.test } else { &dataset.cases };
    if cases.is_empty() {
        return Err(Error::input(&dataset.root, "no cases", "give a dataset with images"));
    }
    let stated = |names: &[String]| (!names.is_empty()).then_some(names.len());
    let expectation = Expectation {
        channels: stated(&dataset.channels),
        classes: stated(&dataset.labels),
        class_names: dataset.labels.clone(),
        threads,
        ..Expectation::default()
    };
    let fingerprint = survey(cases, &[], &expectation, progress)?;
    let named = |names: &[String], count: usize, kind: &str| -> Vec<String> {
        (0..count).map(|index| names.get(index).cloned().unwrap_or_else(|| format!("{kind} {index}"))).collect()
    };
    let is_labelled = fingerprint.label_voxels.iter().any(|voxels| *voxels > 0);
    Ok(Report {
        name: dataset.name.clone(),
        channels: named(&dataset.channels, fingerprint.channels.len(), "channel"),
        labels: named(&dataset.labels, if is_labelled { fingerprint.label_voxels.len() } else { 0 }, "label"),
        fingerprint,
    })
}

impl Report {
    /// Height, width, depth and the three spacings over the cases.
    pub fn quantities(&self) -> Vec<(Quantity, Spread)> {
        Quantity::ALL.map(|quantity| (quantity, Spread::of(&self.values(quantity)))).to_vec()
    }

    /// One value per case.
    fn values(&self, quantity: Quantity) -> Vec<f64> {
        self.fingerprint.cases.iter().map(|case| quantity.of(case)).collect()
    }

    /// The share of each label value among all voxels.
    pub fn label_shares(&self) -> Vec<f64> {
        shares(&self.fingerprint.label_voxels)
    }

    /// The share of a label value among the voxels of each case, 0 where it does not occur.
    fn shares_of(&self, label: usize) -> Vec<f64> {
        self.fingerprint.cases.iter().map(|case| case_shares(case).get(label).copied().unwrap_or(0.0)).collect()
    }

    /// In how many cases a label value occurs.
    fn cases_with(&self, label: usize) -> usize {
        let occurs = |case: &&CaseFingerprint| case.label_voxels.get(label).is_some_and(|voxels| *voxels > 0);
        self.fingerprint.cases.iter().filter(occurs).count()
    }
}

fn case_shares(case: &CaseFingerprint) -> Vec<f64> {
    shares(&case.label_voxels)
}

fn shares(voxels: &[u64]) -> Vec<f64> {
    let total = voxels.iter().sum::<u64>().max(1) as f64;
    voxels.iter().map(|&count| count as f64 / total).collect()
}

#[cfg(test)]
mod tests;
