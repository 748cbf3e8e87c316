//! The options of `gyrus train` that say where cases come from and how they are prepared.

use std::path::PathBuf;

use clap::Args;

use crate::{
    cli::{choice::choice, given::Idle, options::axes},
    data::{
        augment::{Augment, Augmentation},
        preprocess::{Fit, Normalization},
    },
    run::DataRecipe,
};

/// Where the cases come from and how they are prepared.
#[derive(Debug, Args)]
pub(super) struct DataOptions {
    /// Dataset folder, with a dataset.json (Medical Segmentation Decathlon) or with images/ and masks/ or labels/
    #[arg(long, value_name = "DIR", help_heading = "Data", required_unless_present = "train_data_dir",
          conflicts_with_all = ["train_data_dir", "val_data_dir"])]
    dataset: Option<PathBuf>,

    /// Which fold validates, counted from 0
    #[arg(long, default_value_t = 0, value_name = "K", help_heading = "Data")]
    fold: usize,

    /// Number of folds that the cases are dealt into by --seed
    #[arg(long, default_value_t = 5, value_name = "N", help_heading = "Data")]
    folds: usize,

    /// Folds from a file in nnU-Net's splits_final.json format instead
    #[arg(long, value_name = "FILE", help_heading = "Data", requires = "dataset")]
    splits: Option<PathBuf>,

    /// Training folder with images/ and masks/ or labels/
    #[arg(long, value_name = "DIR", help_heading = "Data", requires = "val_data_dir")]
    train_data_dir: Option<PathBuf>,

    /// Validation folder with images/ and masks/ or labels/
    #[arg(long, value_name = "DIR", help_heading = "Data", requires = "train_data_dir")]
    val_data_dir: Option<PathBuf>,

    /// How intensities are made comparable
    #[arg(long, value_parser = choice::<Normalization>(), default_value = "volume", help_heading = "Data")]
    normalization: Normalization,

    /// How volumes come to the network's extents
    #[arg(long, value_parser = choice::<Fit>(), default_value = "pad", help_heading = "Data")]
    fit: Fit,

    /// Changes drawn anew each epoch; the options below override single ones
    #[arg(long, value_parser = choice::<Augment>(), default_value = "none", help_heading = "Data")]
    augment: Augment,

    /// Axes to mirror in half of the cases: any of H, W, D, the file's first, second and third axis
    #[arg(long, value_name = "AXES", value_parser = axes, help_heading = "Data")]
    flip: Option<[bool; 3]>,

    /// Largest rotation in degrees
    #[arg(long, value_name = "DEGREES", help_heading = "Data")]
    rotation: Option<f64>,

    /// Largest zoom in or out, as a share
    #[arg(long, value_name = "SHARE", help_heading = "Data")]
    zoom: Option<f64>,

    /// Largest change of a channel's contrast, as a share
    #[arg(long, value_name = "SHARE", help_heading = "Data")]
    intensity_scale: Option<f64>,

    /// Largest shift of a channel's intensities
    #[arg(long, value_name = "AMOUNT", help_heading = "Data")]
    intensity_shift: Option<f64>,

    /// Largest bend of a channel's intensities
    #[arg(long, value_name = "AMOUNT", help_heading = "Data")]
    gamma: Option<f64>,

    /// Largest deviation of added noise
    #[arg(long, value_name = "AMOUNT", help_heading = "Data")]
    noise: Option<f64>,

    /// Threads that prepare batches; 0: none beside the computing ones
    #[arg(long, default_value_t = 1, value_name = "N", help_heading = "Data")]
    num_workers: usize,

    /// Folder that keeps prepared cases between epochs and runs
    #[arg(long, value_name = "DIR", help_heading = "Data")]
    cache: Option<PathBuf>,
}

impl DataOptions {
    /// The settings.
    pub(super) fn recipe(&self) -> DataRecipe {
        DataRecipe {
            dataset: self.dataset.clone(),
            fold: self.fold,
            folds: self.folds,
            splits: self.splits.clone(),
            train_data_dir: self.train_data_dir.clone(),
            val_data_dir: self.val_data_dir.clone(),
            normalization: self.normalization,
            fit: self.fit,
            num_workers: self.num_workers,
            cache: self.cache.clone(),
            augmentation: self.augmentation(),
        }
    }

    /// What has no effect beside the other options.
    pub(super) fn idle(&self) -> Vec<Idle> {
        let has_folders = self.dataset.is_none();
        let intensities = [self.intensity_scale, self.intensity_shift, self.gamma, self.noise];
        let changes = [self.rotation, self.zoom].into_iter().chain(intensities);
        let is_overridden = self.flip.is_some() && changes.into_iter().all(|change| change.is_some());
        vec![
            ("fold", has_folders, "--val-data-dir holds the cases that validate"),
            ("folds", has_folders, "--val-data-dir holds the cases that validate"),
            ("folds", self.splits.is_some(), "--splits deals the cases"),
            ("augment", is_overridden, "an option of its own says how far each change goes"),
        ]
    }

    /// The preset with what overrides it.
    fn augmentation(&self) -> Augmentation {
        let preset = self.augment.settings();
        Augmentation {
            flip: self.flip.unwrap_or(preset.flip),
            rotation: self.rotation.unwrap_or(preset.rotation),
            zoom: self.zoom.unwrap_or(preset.zoom),
            scale: self.intensity_scale.unwrap_or(preset.scale),
            shift: self.intensity_shift.unwrap_or(preset.shift),
            gamma: self.gamma.unwrap_or(preset.gamma),
            noise: self.noise.unwrap_or(preset.noise),
        }
    }
}
