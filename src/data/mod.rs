//! From files to batches: datasets, statistics, normalisation, augmentation, loading.

pub mod augment;
pub mod dataset;
pub mod fingerprint;
pub mod loader;
pub mod memory;
pub mod preprocess;
pub mod validate;
