//! What a checkpoint holds beside arrays.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::read::Refusal;
use crate::nn::UNetConfig;

/// The version of the file's layout and of [`Meta`] that is written. Version 1 is read as well: it kept the network's
/// description within the run's configuration.
pub const FORMAT_VERSION: u32 = 2;

/// Everything that is not an array. JSON has no NaN: quantities that may be undefined are optional.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Meta {
    /// [`FORMAT_VERSION`]: files of older versions are brought to it as they are read.
    pub format_version: u32,
    /// The version of this crate that wrote the file.
    pub written_by: String,
    /// The network whose weights the file holds: all that prediction needs beside [`Self::preprocessing`] and
    /// [`Self::labels`].
    pub network: Option<UNetConfig>,
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
    /// The configuration of the run that trained it, as the trainer describes it: all but the network.
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

/// What a schedule remembers between epochs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleState {
    /// The rate before warm-up and decay; only a plateau changes it.
    pub lr: f64,
    /// The best metric so far.
    pub best: Option<f64>,
    /// Epochs since then, or since the last reduction.
    pub wait: u32,
    /// Epochs in which nothing is counted yet.
    pub cooldown: u32,
}

/// What an early stop remembers between epochs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EarlyStopState {
    /// The best metric so far.
    pub best: Option<f64>,
    /// Epochs since then.
    pub wait: u32,
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
            network: None,
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

/// Who wrote a file, and in which format: what every version can read of every other's.
#[derive(Deserialize)]
pub(super) struct Version {
    format_version: u64,
    #[serde(default)]
    written_by: String,
}

impl Version {
    /// The refusal of a newer version's file, if the text says that it is one's.
    pub fn newer(text: &str) -> Option<Refusal> {
        let Self { format_version: format, written_by } = serde_json::from_str(text).ok()?;
        (format > u64::from(FORMAT_VERSION)).then_some(Refusal::Newer { format, written_by })
    }
}

impl Meta {
    /// The metadata of a file: of this version, or of an older one, brought to this one. The version is looked at first, so that
    /// a newer file is told by its version and not by a member it has gained.
    pub(super) fn parse(text: &str) -> Result<Self, Refusal> {
        let unreadable = |error| Refusal::Foreign(format!("its metadata is not what this version writes: {error}"));
        if let Some(newer) = Version::newer(text) {
            return Err(newer);
        }
        let mut meta: Self = serde_json::from_str(text).map_err(unreadable)?;
        match meta.format_version {
            FORMAT_VERSION => {}
            1 => {
                meta.format_version = FORMAT_VERSION;
                let run = meta.configuration.get_mut("run").and_then(Value::as_object_mut);
                let network = run.and_then(|run| run.remove("network"));
                meta.network = network.map(serde_json::from_value).transpose().map_err(unreadable)?;
            }
            format => {
                let cause = format!("checkpoint format {format}, this version of gyrus reads 1 to {FORMAT_VERSION}");
                return Err(Refusal::Foreign(cause));
            }
        }
        Ok(meta)
    }
}
