//! From files to batches: NIfTI, datasets, statistics, normalisation, augmentation, loading.
