//! What a run keeps between its steps: its whole state as a checkpoint, and the way back.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{super::TrainConfig, Trainer};
use crate::{
    Error, Result,
    checkpoint::{Checkpoint, Label, Meta, state},
    optim::OptimizerState,
    train::{figures::Figures, loss_scale::LossScale},
};

/// The member of the run's configuration that a checkpoint holds apart.
const NETWORK: &str = "network";

/// The configuration entry of a checkpoint. The network, which `run` has as well, stands apart in the file.
#[derive(Debug, Serialize, Deserialize)]
struct Configuration {
    run: TrainConfig,
    class_weights: Vec<f32>,
    /// What the epoch under way has added up to.
    partial: Figures,
    /// Where the precision asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    loss_scale: Option<LossScale>,
}

impl Trainer {
    /// Continues from a checkpoint: weights, optimizer, schedule and position.
    ///
    /// # Errors
    /// If the checkpoint is damaged, of another network, or of a run with other settings.
    pub fn resume(&mut self, path: &Path) -> Result<()> {
        let checkpoint = Checkpoint::load(path)?;
        let configuration = Configuration::of(&checkpoint, path)?;
        configuration.run.continues_as(&self.config)?;
        let preprocessing = serde_json::to_value(&self.preprocessing).expect("plain data");
        if preprocessing != checkpoint.meta.preprocessing || configuration.class_weights != self.class_weights {
            let cause = "the run was trained on other data";
            return Err(Error::input(path, cause, "resume with the dataset and the split of that run"));
        }
        state::from_tensors(&mut *self.program, &self.saved, &checkpoint, path)?;
        let meta = checkpoint.meta;
        self.position = meta.position;
        self.schedule = meta.schedule.unwrap_or_else(|| self.config.schedule.start());
        self.early_stop = meta.early_stop.unwrap_or_default();
        self.best = meta.best_metric.zip(meta.best_epoch);
        self.partial = configuration.partial;
        if let Some(mine) = &mut self.loss_scale {
            *mine = configuration.loss_scale.ok_or_else(|| {
                let cause = "does not say how the loss was scaled";
                Error::input(path, cause, "give a checkpoint that `gyrus train` wrote")
            })?;
        }
        let skipped = self.loss_scale.map_or(0, |state| state.skipped());
        self.optimizer = OptimizerState::after(&self.config.rule, meta.position.global_step.saturating_sub(skipped));
        Ok(())
    }

    /// Writes the whole state.
    ///
    /// # Errors
    /// What the operating system says; a machine that fails.
    pub fn save(&mut self, path: &Path) -> Result<()> {
        let labels = self.labels.iter().enumerate();
        let configuration = Configuration {
            run: self.config.clone(),
            class_weights: self.class_weights.clone(),
            partial: self.partial.clone(),
            loss_scale: self.loss_scale,
        };
        let meta = Meta {
            position: self.position,
            seed: self.config.seed,
            order_seed: self.config.seed,
            schedule: Some(self.schedule.clone()),
            early_stop: Some(self.early_stop.clone()),
            best_metric: self.best.map(|(metric, _)| metric),
            best_epoch: self.best.map(|(_, epoch)| epoch),
            labels: labels.map(|(value, name)| Label { value: value as u16, name: name.clone() }).collect(),
            preprocessing: serde_json::to_value(&self.preprocessing).expect("plain data"),
            configuration: configuration.without_network(),
            network: Some(self.config.network),
            ..Meta::default()
        };
        Checkpoint { tensors: state::to_tensors(&mut *self.program, &self.saved)?, meta }.save(path)
    }
}

impl Configuration {
    /// The entry of a checkpoint, the network put back.
    fn of(checkpoint: &Checkpoint, path: &Path) -> Result<Self> {
        let network = checkpoint.network(path)?;
        let mut entry = checkpoint.meta.configuration.clone();
        if let Some(run) = entry.get_mut("run").and_then(Value::as_object_mut) {
            run.insert(NETWORK.to_owned(), serde_json::to_value(network).expect("plain data"));
        }
        serde_json::from_value(entry)
            .map_err(|error| Error::input(path, error, "give a checkpoint that `gyrus train` wrote"))
    }

    fn without_network(&self) -> Value {
        let mut entry = serde_json::to_value(self).expect("plain data");
        entry["run"].as_object_mut().expect("a struct becomes an object").remove(NETWORK);
        entry
    }
}

/// The configuration of the run that wrote a checkpoint.
///
/// # Errors
/// If the checkpoint was not written by a training run.
pub fn configuration_of(checkpoint: &Checkpoint, path: &Path) -> Result<TrainConfig> {
    Ok(Configuration::of(checkpoint, path)?.run)
}
