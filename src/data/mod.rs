//! From files to batches: NIfTI, datasets, statistics, normalisation, augmentation, loading.

pub mod augment;
pub mod dataset;
pub mod fingerprint;
pub mod loader;
pub mod memory;
pub mod nifti;
pub mod preprocess;
pub mod validate;
