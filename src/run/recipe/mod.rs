//! Recipes: everything that a run is asked for, as plain data that a TOML file can hold.

mod network;
mod training;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub use self::{
    network::{DataRecipe, NetworkRecipe},
    training::{LearningRate, OptimizerName, OptimizerRecipe, TrainingRecipe},
};
use crate::{
    Error, Result,
    files::{self, Existing},
    nn::Precision,
    plan::budget::{Offload, Rematerialise},
    serial,
    session::Device,
};

/// What can be written to a TOML file and read back. A setting that is left out has its default; one that is unknown is an
/// error that lists those there are.
pub trait Recipe: Serialize + DeserializeOwned {
    /// Reads a recipe.
    ///
    /// # Errors
    /// If the file cannot be read, is no TOML, or holds a setting that does not exist or cannot have that value.
    fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|error| Error::io(path, error))?;
        Self::parse(&text).map_err(|cause| Error::input(path, cause, "mend that line, or leave the setting out"))
    }

    /// Reads a recipe from text.
    ///
    /// # Errors
    /// A sentence that names line and setting.
    fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| {
            let line = error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            let cause = error.message().replace('\n', " ");
            line.map_or_else(|| cause.clone(), |line| format!("line {line}: {cause}"))
        })
    }

    /// The recipe as TOML, every setting spelt out.
    fn to_toml(&self) -> String {
        toml::to_string(self).expect("settings are plain data")
    }

    /// Writes the recipe.
    ///
    /// # Errors
    /// If the file cannot be written, or is there and may not be replaced.
    fn write(&self, path: &Path, existing: Existing) -> Result<()> {
        files::write(path, existing, |file| file.write_all(self.to_toml().as_bytes()))
    }
}

/// Everything that training is asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainRecipe {
    /// Cases, and how they are prepared.
    pub data: DataRecipe,
    /// The network.
    pub network: NetworkRecipe,
    /// How weights are updated.
    pub optimizer: OptimizerRecipe,
    /// The loop.
    pub training: TrainingRecipe,
    /// Where to compute.
    pub device: DeviceRecipe,
    /// What may be used.
    pub memory: MemoryRecipe,
    /// What stays.
    pub output: OutputRecipe,
}

impl Recipe for TrainRecipe {}

impl TrainRecipe {
    /// The defaults, for a dataset.
    pub fn for_dataset(root: impl Into<PathBuf>) -> Self {
        Self { data: DataRecipe { dataset: Some(root.into()), ..DataRecipe::default() }, ..Self::default() }
    }
}

/// Where to compute.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeviceRecipe {
    /// The device.
    #[serde(with = "serial::text")]
    pub device: Device,
    /// Number format of activations; none: what the network was trained in, else fp32.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub precision: Option<Precision>,
    /// Threads of the CPU device and of the emulated GPU; 0: one per core.
    pub threads: usize,
}

impl Default for DeviceRecipe {
    fn default() -> Self {
        Self { device: Device::Auto, precision: None, threads: 0 }
    }
}

/// What may be used. Results do not depend on it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MemoryRecipe {
    /// Bytes for all values of a step; none: what the device has left.
    #[serde(with = "serial::optional_bytes", skip_serializing_if = "Option::is_none")]
    pub memory_budget: Option<usize>,
    /// How much is forgotten and computed again.
    #[serde(with = "serial::text")]
    pub rematerialise: Rematerialise,
    /// What may live on the host.
    pub offload: Offload,
    /// Bytes of host memory for data on its way; none: what the machine has left.
    #[serde(with = "serial::optional_bytes", skip_serializing_if = "Option::is_none")]
    pub host_memory_budget: Option<usize>,
}

/// What stays.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OutputRecipe {
    /// Folder for checkpoints, history and curves.
    pub model_path: PathBuf,
    /// Continue the run that is there from its last checkpoint.
    pub resume_train: bool,
    /// Replace the run that is there.
    pub overwrite: bool,
}

impl Default for OutputRecipe {
    fn default() -> Self {
        Self { model_path: "model".into(), resume_train: false, overwrite: false }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_recipe_survives_its_file() {
        let mut recipe = TrainRecipe::for_dataset("Task04");
        recipe.training.time_budget = Some(Duration::from_secs(90));
        recipe.memory.memory_budget = Some(6 << 30);
        recipe.memory.rematerialise = Rematerialise::Fraction(0.5);
        recipe.device.device = Device::Cuda(1);
        recipe.data.augmentation.rotation = 10.0;
        assert_eq!(TrainRecipe::parse(&recipe.to_toml()), Ok(recipe.clone()));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recipe.toml");
        recipe.write(&path, Existing::Keep).unwrap();
        assert_eq!(TrainRecipe::read(&path).unwrap(), recipe);
        assert!(recipe.write(&path, Existing::Keep).is_err(), "nothing is replaced unasked");
    }

    #[test]
    fn what_is_left_out_has_its_default_and_units_are_understood() {
        let text =
            "[data]\ndataset = \"Task04\"\n[memory]\nmemory_budget = \"6GiB\"\n[training]\ntime_budget = \"45m\"\n";
        let recipe = TrainRecipe::parse(text).unwrap();
        assert_eq!(
            (recipe.memory.memory_budget, recipe.training.time_budget),
            (Some(6 << 30), Some(Duration::from_secs(2700)))
        );
        let mut rest = recipe;
        (rest.memory.memory_budget, rest.training.time_budget) = (None, None);
        assert_eq!(rest, TrainRecipe::for_dataset("Task04"));
    }

    #[test]
    fn a_setting_that_does_not_exist_is_an_error_that_lists_those_there_are() {
        let message = TrainRecipe::parse("[training]\nlearning_rate = 1\n").unwrap_err();
        assert!(message.starts_with("line 2: ") && message.contains("`learning_rate`"), "{message}");
        assert!(message.contains("`lr`"), "{message}");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recipe.toml");
        for text in [
            "[training]\nlr = \"fast\"\n",
            "[training\n",
            "[device]\ndevice = \"gpu\"\n",
            "[memory]\noffload = \"all\"\n",
        ] {
            std::fs::write(&path, text).unwrap();
            let error = TrainRecipe::read(&path).unwrap_err();
            assert_eq!((error.exit_code(), error.to_string().lines().count()), (2, 1), "{error}");
        }
    }
}
