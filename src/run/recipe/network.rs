//! What a run trains: its cases, and its network.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{
    data::{
        augment::Augmentation,
        preprocess::{Fit, Normalization},
    },
    nn::{Architecture, Precision, UNetConfig},
};

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
