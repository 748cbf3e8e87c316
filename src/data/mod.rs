//! From files to batches: NIfTI, datasets, statistics, normalisation, augmentation, loading.

pub mod dataset;
pub mod files;
pub mod fingerprint;
pub mod nifti;
pub mod validate;
