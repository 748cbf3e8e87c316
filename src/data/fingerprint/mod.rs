//! What a training set looks like, in numbers: extents, spacing, intensities, label shares.
//!
//! Made in one pass over the files, together with their validation ([`super::validate`]), and kept in checkpoints: a
//! model must see new images through the statistics that it was trained with.

mod histogram;
mod statistics;

use serde::{Deserialize, Serialize};

pub(super) use statistics::{CaseCollector, Totals};
pub use statistics::{Intensity, PERCENTILES};

/// The statistics of a training set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// One entry per training case, in the order given.
    pub cases: Vec<CaseFingerprint>,
    /// Per channel, over all training cases.
    pub channels: Vec<ChannelFingerprint>,
    /// Voxels of each label value over all training cases.
    pub label_voxels: Vec<u64>,
}

/// The statistics of one case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CaseFingerprint {
    /// The case's name.
    pub name: String,
    /// Extents x, y, z, in voxels.
    pub extents: [usize; 3],
    /// Spacing along x, y, z, in mm.
    pub spacing: [f64; 3],
    /// Per channel, over the voxels that are not zero.
    pub nonzero: Vec<Intensity>,
    /// Per channel, over the voxels whose label is not 0.
    pub foreground: Vec<Intensity>,
    /// Voxels of each label value; as long as the highest value that occurs needs.
    pub label_voxels: Vec<u64>,
}

/// The statistics of one channel over a training set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChannelFingerprint {
    /// Over the voxels that are not zero.
    pub nonzero: Intensity,
    /// Over the voxels whose label is not 0.
    pub foreground: Intensity,
    /// Counts of the non-zero voxels in bins of equal width between their 0.5 and 99.5 percentiles; what lies outside is in the
    /// first and the last bin.
    pub histogram: Vec<u64>,
}

impl Fingerprint {
    /// Class weights `w_c = total / (classes * voxels_c)`. Every class occurs: a set in which one is absent is refused
    /// when it is validated.
    pub fn class_weights(&self) -> Vec<f64> {
        let total = self.label_voxels.iter().sum::<u64>() as f64;
        let classes = self.label_voxels.len() as f64;
        self.label_voxels.iter().map(|voxels| total / (classes * *voxels as f64)).collect()
    }

    /// The middle case's spacing along x, y, z, each axis on its own, in mm.
    pub fn median_spacing(&self) -> [f64; 3] {
        [0, 1, 2].map(|axis| middle(self.cases.iter().map(|case| case.spacing[axis]).collect(), f64::total_cmp))
    }

    /// The middle case's extents along x, y, z, each axis on its own.
    pub fn median_extents(&self) -> [usize; 3] {
        [0, 1, 2].map(|axis| middle(self.cases.iter().map(|case| case.extents[axis]).collect(), usize::cmp))
    }
}

fn middle<T: Copy + Default>(mut values: Vec<T>, order: impl Fn(&T, &T) -> std::cmp::Ordering) -> T {
    values.sort_by(order);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
