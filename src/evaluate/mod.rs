//! Scores label maps: overlap, surface distances and volumes, for two arrays or for two folders.
//!
//! - [`metrics`] holds the definitions: Dice, HD95, surface Dice, volumes.
//! - [`overlap`] counts what Dice needs; the trainer uses it on its own.

mod distance;
mod mask;
pub mod metrics;
pub mod overlap;
mod surface;

pub use metrics::{ClassScores, LabelVolume, score_classes};
pub use overlap::{Overlap, dice_from_counts};
