//! From files to batches: datasets, statistics, normalisation, sampling, augmentation, loading.

pub mod augment;
pub mod dataset;
pub mod fingerprint;
pub mod loader;
pub mod memory;
pub mod preprocess;
pub mod sampler;
pub mod validate;
