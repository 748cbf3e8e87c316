//! Where the cases of a run come from.

use std::path::Path;

use super::recipe::DataRecipe;
use crate::{
    Error, Result,
    data::dataset::{Case, Dataset, Split},
};

/// Which cases of a dataset validate.
#[derive(Clone, Copy, Debug)]
pub struct Folds<'a> {
    /// Which fold validates, counted from 0.
    pub fold: usize,
    /// Number of folds that the cases are dealt into by the seed.
    pub folds: usize,
    /// Folds from a file in nnU-Net's `splits_final.json` format instead.
    pub splits: Option<&'a Path>,
}

impl Folds<'_> {
    /// Deals the cases of a dataset.
    ///
    /// # Errors
    /// Too many folds, or no such fold; a file of folds that does not fit the dataset.
    pub fn split(&self, dataset: &Dataset, seed: u64) -> Result<Split> {
        match self.splits {
            Some(file) => dataset.split_by_file(file, self.fold),
            None => dataset.fold(self.fold, self.folds, seed),
        }
    }
}

/// The cases of a run, and what is known about them.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// Cases that train.
    pub train: Vec<Case>,
    /// Cases that validate.
    pub validation: Vec<Case>,
    /// Channels of every image, where the dataset says.
    pub channels: Option<usize>,
    /// Names of the classes, background first; empty where the dataset does not say.
    pub labels: Vec<String>,
}

impl DataRecipe {
    /// Opens the dataset, or the two folders.
    ///
    /// # Errors
    /// If neither is named, or what is named is no dataset.
    pub fn source(&self, seed: u64) -> Result<Source> {
        match (&self.dataset, &self.train_data_dir, &self.val_data_dir) {
            (Some(root), None, None) => self.folds_of(root, seed),
            (None, Some(train), Some(validation)) => two_folders(train, validation),
            (Some(_), ..) => {
                let cause = "names a dataset, and so do `train_data_dir` or `val_data_dir`";
                Err(Error::usage("dataset", cause, "give one dataset, or two folders"))
            }
            _ => {
                let cause = "no cases to train on";
                Err(Error::usage("dataset", cause, "give a dataset, or `train_data_dir` and `val_data_dir`"))
            }
        }
    }

    fn folds_of(&self, root: &Path, seed: u64) -> Result<Source> {
        let dataset = Dataset::open(root)?;
        let folds = Folds { fold: self.fold, folds: self.folds, splits: self.splits.as_deref() };
        let Split { train, validation } = folds.split(&dataset, seed)?;
        let channels = (!dataset.channels.is_empty()).then_some(dataset.channels.len());
        Ok(Source { train, validation, channels, labels: dataset.labels })
    }
}

fn two_folders(train: &Path, validation: &Path) -> Result<Source> {
    let (train, validation) = (Dataset::open(train)?, Dataset::open(validation)?);
    let labels = if train.labels.is_empty() { validation.labels } else { train.labels };
    let channels = (!train.channels.is_empty()).then_some(train.channels.len());
    Ok(Source { train: train.cases, validation: validation.cases, channels, labels })
}
