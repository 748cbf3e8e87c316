//! Scores of label maps against the truth.

use std::{num::NonZeroUsize, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::{Recipe, target::check_threads};
use crate::{
    Result,
    data::dataset::Dataset,
    evaluate::{
        Report,
        folders::{Unpredicted, evaluate_pairs, match_folders},
    },
};

/// Everything that an evaluation is asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EvaluateRecipe {
    /// Folder of predicted label maps.
    pub predictions: PathBuf,
    /// Folder of true label maps of the same names.
    pub truth: PathBuf,
    /// Tolerance of the surface Dice in mm.
    pub tolerance: f64,
    /// Dataset folder that names the labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dataset: Option<PathBuf>,
    /// Leave out true label maps without a prediction.
    pub only_predicted: bool,
    /// Threads; 0: one per core.
    pub threads: usize,
}

impl Recipe for EvaluateRecipe {}

impl Default for EvaluateRecipe {
    fn default() -> Self {
        Self {
            predictions: PathBuf::new(),
            truth: PathBuf::new(),
            tolerance: 1.0,
            dataset: None,
            only_predicted: false,
            threads: 0,
        }
    }
}

/// Scores a folder of label maps.
///
/// # Errors
/// Folders that do not match, label maps that cannot be compared, settings that cannot work.
pub fn evaluate(recipe: &EvaluateRecipe) -> Result<Report> {
    check_threads("threads", recipe.threads)?;
    let labels = match &recipe.dataset {
        Some(root) => Some(Dataset::open(root)?.labels).filter(|labels| !labels.is_empty()),
        None => None,
    };
    let unpredicted = if recipe.only_predicted { Unpredicted::LeaveOut } else { Unpredicted::Refuse };
    let pairs = match_folders(&recipe.predictions, &recipe.truth, unpredicted)?;
    evaluate_pairs(&pairs, labels, recipe.tolerance, NonZeroUsize::new(recipe.threads), &|| ())
}
