//! Scores label maps: overlap, surface distances and volumes, for two arrays or for two folders.
//!
//! - [`metrics`] holds the definitions: Dice, HD95, surface Dice, volumes.
//! - [`overlap`] counts what Dice needs; the trainer uses it on its own.
//! - [`folders`] matches predictions with the truth by name and scores them on all cores.
//! - [`report`] is what comes out: per case and mean, as a table, CSV or JSON.

mod distance;
pub mod folders;
mod mask;
pub mod metrics;
pub mod overlap;
pub mod report;
mod surface;
mod table;

pub use folders::{Pair, Unpredicted, evaluate_folders, evaluate_pairs, match_folders};
pub use metrics::{ClassScores, LabelVolume, score_classes};
pub use overlap::{Overlap, dice_from_counts};
pub use report::Report;
