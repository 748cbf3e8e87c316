//! The geometric quantities of a case and how they spread over a dataset.

use crate::{data::fingerprint::CaseFingerprint, evaluate::metrics::percentile};

/// A number that every case has one of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantity {
    /// Voxels along the file's first axis.
    Height,
    /// Voxels along the second axis.
    Width,
    /// Voxels along the third axis.
    Depth,
    /// Spacing along the first axis, in mm.
    SpacingX,
    /// Spacing along the second axis, in mm.
    SpacingY,
    /// Spacing along the third axis, in mm.
    SpacingZ,
}

impl Quantity {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Height, Self::Width, Self::Depth, Self::SpacingX, Self::SpacingY, Self::SpacingZ];

    /// Its key in JSON.
    pub fn key(self) -> &'static str {
        ["height", "width", "depth", "spacing_x_mm", "spacing_y_mm", "spacing_z_mm"][self as usize]
    }

    /// Its name for people.
    pub fn name(self) -> &'static str {
        ["height (x)", "width (y)", "depth (z)", "spacing x", "spacing y", "spacing z"][self as usize]
    }

    /// Its unit.
    pub fn unit(self) -> &'static str {
        if (self as usize) < 3 { "voxels" } else { "mm" }
    }

    /// Its value in a case.
    pub fn of(self, case: &CaseFingerprint) -> f64 {
        let axis = self as usize;
        if axis < 3 { case.extents[axis] as f64 } else { case.spacing[axis - 3] }
    }
}

/// How values spread. All zero without values.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spread {
    /// The smallest.
    pub minimum: f64,
    /// The median.
    pub median: f64,
    /// The largest.
    pub maximum: f64,
    /// The mean.
    pub mean: f64,
}

impl Spread {
    /// The spread of some values.
    pub fn of(values: &[f64]) -> Self {
        if values.is_empty() {
            return Self::default();
        }
        let mut values = values.to_vec();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let [minimum, median, maximum] = [0.0, 0.5, 1.0].map(|quantile| percentile(&mut values, quantile));
        Self { minimum, median, maximum, mean }
    }
}
