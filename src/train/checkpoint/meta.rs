//! What a checkpoint holds beside arrays.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::train::schedule::{EarlyStopState, ScheduleState};

/// The version of the file's layout and of [`Meta`]; a reader refuses any other.
pub const FORMAT_VERSION: u32 = 1;

/// Everything that is not an array. JSON has no NaN: quantities that may be undefined are optional.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Meta {
    /// [`FORMAT_VERSION`] when the file was written.
    pub format_version: u32,
    /// The version of this crate that wrote the file.
    pub written_by: String,
    /// Where the run stood.
    pub position: Position,
    /// The seed of every random stream of the run: initialisation, dropout, augmentation.
    pub seed: u64,
    /// The seed of the order in which cases are visited.
    pub order_seed: u64,
    /// The learning-rate schedule's memory.
    pub schedule: Option<ScheduleState>,
    /// The early stop's memory.
    pub early_stop: Option<EarlyStopState>,
    /// The best validation metric so far.
    pub best_metric: Option<f64>,
    /// The epoch (counted from 1) that reached it.
    pub best_epoch: Option<u64>,
    /// The classes, background first.
    pub labels: Vec<Label>,
    /// How images were normalised and fitted, as the data side describes it.
    pub preprocessing: Value,
    /// The whole configuration of the run, as the trainer describes it.
    pub configuration: Value,
}

/// Where a run stands: between two steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// Epochs completed.
    pub epoch: u64,
    /// Steps completed within the present epoch.
    pub step_in_epoch: u64,
    /// Optimizer steps completed since the run began.
    pub global_step: u64,
}

/// One class of the labels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Label {
    /// The value in label maps.
    pub value: u16,
    /// What the dataset calls it.
    pub name: String,
}

impl Default for Meta {
    fn default() -> Self {
        Self {
            format_version: FORMAT_VERSION,
            written_by: concat!("gyrus ", env!("CARGO_PKG_VERSION")).into(),
            position: Position::default(),
            seed: 0,
            order_seed: 0,
            schedule: None,
            early_stop: None,
            best_metric: None,
            best_epoch: None,
            labels: Vec::new(),
            preprocessing: Value::Null,
            configuration: Value::Null,
        }
    }
}
