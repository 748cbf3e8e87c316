//! Recipes: everything that a run is asked for, as plain data that a TOML file can hold.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    Error, Result,
    data::{
        augment::Augmentation,
        preprocess::{Fit, Normalization},
    },
    files::{self, Existing},
    fuse::Fuse,
    nn::{Architecture, Precision, UNetConfig},
    ops::{dice::LossKind, optimizer::Rule},
    plan::budget::{Offload, Rematerialise},
    serial,
    session::Device,
    train::{
        config,
        schedule::{Decay, EarlyStop, Plateau, Schedule},
    },
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

/// Where cases come from and how they are prepared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataRecipe {
    /// Dataset folder: the decathlon's layout, or images and masks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dataset: Option<PathBuf>,
    /// Which fold of it validates, counted from 0.
    pub fold: usize,
    /// Number of folds that its cases are dealt into by the seed.
    pub folds: usize,
    /// Folds from a file in nnU-Net's `splits_final.json` format instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub splits: Option<PathBuf>,
    /// Instead of `dataset`: a folder of training cases.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train_data_dir: Option<PathBuf>,
    /// Beside `train_data_dir`: a folder of validation cases.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub val_data_dir: Option<PathBuf>,
    /// How intensities are made comparable.
    pub normalization: Normalization,
    /// How volumes come to the network's extents.
    pub fit: Fit,
    /// Threads that prepare batches; 0: none beside the computing ones.
    pub num_workers: usize,
    /// Folder that keeps prepared cases between epochs and runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<PathBuf>,
    /// Changes drawn anew each epoch; axes are D, H, W of tensors.
    pub augmentation: Augmentation,
}

impl Default for DataRecipe {
    fn default() -> Self {
        Self {
            dataset: None,
            fold: 0,
            folds: 5,
            splits: None,
            train_data_dir: None,
            val_data_dir: None,
            normalization: Normalization::default(),
            fit: Fit::default(),
            num_workers: 1,
            cache: None,
            augmentation: Augmentation::default(),
        }
    }
}

/// The network and its extents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkRecipe {
    /// One of four U-Nets.
    pub model_architecture: Architecture,
    /// Divides all numbers of filters.
    pub unet_resize_factor: usize,
    /// Share of the elements that the dropout architectures drop.
    pub unet_dropout_rate: f32,
    /// Filters before the output; 0: the output directly.
    pub head_filters: usize,
    /// Classes, background included; none: the dataset's, else 4.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_classes: Option<usize>,
    /// Channels; none: the dataset's, else 4.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_channels: Option<usize>,
    /// Extent along the file's first axis.
    pub mri_height: usize,
    /// Extent along the file's second axis.
    pub mri_width: usize,
    /// Extent along the file's third axis.
    pub mri_depth: usize,
}

impl Default for NetworkRecipe {
    fn default() -> Self {
        let UNetConfig { architecture, resize_factor, dropout_rate, head_filters, .. } = UNetConfig::default();
        Self {
            model_architecture: architecture,
            unet_resize_factor: resize_factor,
            unet_dropout_rate: dropout_rate,
            head_filters,
            num_classes: None,
            num_channels: None,
            mri_height: 240,
            mri_width: 240,
            mri_depth: 160,
        }
    }
}

impl NetworkRecipe {
    /// The network in this precision, for this many channels and classes unless the recipe says otherwise.
    pub fn config(&self, precision: Option<Precision>, channels: Option<usize>, classes: Option<usize>) -> UNetConfig {
        UNetConfig {
            architecture: self.model_architecture,
            resize_factor: self.unet_resize_factor,
            dropout_rate: self.unet_dropout_rate,
            channels: self.num_channels.or(channels).unwrap_or(4),
            classes: self.num_classes.or(classes).unwrap_or(4),
            head_filters: self.head_filters,
            precision: precision.unwrap_or_default(),
        }
    }

    /// Extents [D, H, W]: the file's axes in memory order.
    pub fn extent(&self) -> [usize; 3] {
        [self.mri_depth, self.mri_width, self.mri_height]
    }
}

/// An optimizer by its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptimizerName {
    /// Stochastic gradient descent with momentum.
    Sgd,
    /// Adam.
    #[default]
    Adam,
    /// Adam with Nesterov momentum.
    Nadam,
}

/// How weights are updated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OptimizerRecipe {
    /// The rule.
    pub optimizer: OptimizerName,
    /// SGD looks ahead.
    pub use_nesterov_sgd: bool,
    /// Adam's second moment may only grow.
    pub use_amsgrad_adam: bool,
    /// Momentum of SGD.
    pub momentum: f64,
    /// Added to the root of the second moment in Adam and Nadam.
    pub epsilon: f64,
    /// Bound of each element of the gradients; 0: none.
    pub clip_value: f32,
}

impl Default for OptimizerRecipe {
    fn default() -> Self {
        Self {
            optimizer: OptimizerName::Adam,
            use_nesterov_sgd: false,
            use_amsgrad_adam: false,
            momentum: 0.9,
            epsilon: 1e-7,
            clip_value: 50.0,
        }
    }
}

impl OptimizerRecipe {
    /// The update rule.
    pub fn rule(&self) -> Rule {
        let (beta1, beta2, epsilon) = (0.9, 0.999, self.epsilon);
        match self.optimizer {
            OptimizerName::Sgd => Rule::Sgd { momentum: self.momentum, nesterov: self.use_nesterov_sgd },
            OptimizerName::Adam => Rule::Adam { beta1, beta2, epsilon, amsgrad: self.use_amsgrad_adam },
            OptimizerName::Nadam => Rule::Nadam { beta1, beta2, epsilon },
        }
    }

    /// Checks the numbers.
    ///
    /// # Errors
    /// Naming the setting that does not work.
    pub fn check(&self) -> Result<()> {
        config::check_optimizer(&self.rule(), self.clip_value)
    }
}

/// How the learning rate falls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LearningRate {
    /// To a tenth after 20 epochs without improvement, not below 1e-6.
    #[default]
    Plateau,
    /// Half a cosine to zero over the whole run.
    Cosine,
    /// (1 - share of the run)^0.9, as nnU-Net does.
    Polynomial,
    /// Not at all.
    Constant,
}

/// The loop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainingRecipe {
    /// The loss.
    pub loss: LossKind,
    /// Weight classes by the inverse of their share of the training voxels.
    pub weighted_classes: bool,
    /// Epochs of the whole run.
    pub training_epochs: usize,
    /// Learning rate.
    pub lr: f64,
    /// How it falls.
    pub lr_schedule: LearningRate,
    /// Steps over which it rises at first.
    pub warmup_steps: u64,
    /// End after so many epochs without improvement.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub early_stop: Option<u32>,
    /// End after this time, ready to be resumed.
    #[serde(with = "serial::seconds", skip_serializing_if = "Option::is_none")]
    pub time_budget: Option<Duration>,
    /// Samples per training step.
    pub train_batch_size: usize,
    /// Samples per validation pass.
    pub val_batch_size: usize,
    /// Of initial weights, folds, order, augmentation and dropout.
    pub seed: u64,
    /// Whether operations are merged.
    pub fuse: Fuse,
}

impl Default for TrainingRecipe {
    fn default() -> Self {
        Self {
            loss: LossKind::LogDice,
            weighted_classes: true,
            training_epochs: 100,
            lr: 1e-4,
            lr_schedule: LearningRate::default(),
            warmup_steps: 0,
            early_stop: None,
            time_budget: None,
            train_batch_size: 1,
            val_batch_size: 1,
            seed: 0,
            fuse: Fuse::default(),
        }
    }
}

impl TrainingRecipe {
    /// The learning rate over a run of so many steps.
    pub(super) fn schedule(&self, steps: u64) -> Schedule {
        let rule = match self.lr_schedule {
            LearningRate::Plateau => Decay::Plateau(Plateau::default()),
            LearningRate::Cosine => Decay::Cosine { end: 0.0, steps },
            LearningRate::Polynomial => Decay::Polynomial { power: 0.9, end: 0.0, steps },
            LearningRate::Constant => Decay::Constant,
        };
        Schedule { lr: self.lr, warmup_steps: self.warmup_steps, rule }
    }

    pub(super) fn early_stop(&self) -> Option<EarlyStop> {
        self.early_stop.map(|patience| EarlyStop { patience, min_delta: 1e-4 })
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
