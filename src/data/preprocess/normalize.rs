//! Makes intensities comparable between scanners and cases.

use serde::{Deserialize, Serialize};

use crate::data::fingerprint::{Intensity, PERCENTILES};

/// How intensities are made comparable. A region without contrast becomes 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Normalization {
    /// Z-score of each channel over its non-zero voxels; zeros (background) stay zero.
    #[default]
    Volume,
    /// Z-score of each axial slice of each channel over all its voxels.
    Slice,
    /// Clip to the training set's 0.5 and 99.5 foreground percentiles, then z-score with the foreground's mean and
    /// deviation: for images whose values have a unit.
    Ct,
    /// Values as they are.
    None,
}

/// The training set's foreground in one channel.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CtStatistics {
    /// The 0.5 percentile.
    pub low: f32,
    /// The 99.5 percentile.
    pub high: f32,
    /// The mean.
    pub mean: f64,
    /// The standard deviation.
    pub deviation: f64,
}

impl CtStatistics {
    /// What clipping and z-scoring need of a summary.
    pub fn of(foreground: &Intensity) -> Self {
        let [low, .., high] = foreground.percentiles;
        const { assert!(PERCENTILES[0] == 0.5 && PERCENTILES[PERCENTILES.len() - 1] == 99.5) }
        Self { low, high, mean: foreground.mean, deviation: foreground.deviation }
    }
}

/// Normalises an image `[channel, D, H, W]` of finite values in place; D is the axial axis.
///
/// # Panics
/// When `ct` is needed and has no entry for a channel.
pub fn normalize(image: &mut [f32], [d, h, w]: [usize; 3], normalization: Normalization, ct: &[CtStatistics]) {
    let channels = image.chunks_exact_mut(d * h * w);
    match normalization {
        Normalization::None => {}
        Normalization::Volume => channels.for_each(|channel| {
            let score = ZScore::over(channel.iter().copied().filter(|value| *value != 0.0));
            channel.iter_mut().filter(|value| **value != 0.0).for_each(|value| *value = score.of(*value));
        }),
        Normalization::Slice => channels.flat_map(|channel| channel.chunks_exact_mut(h * w)).for_each(|slice| {
            let score = ZScore::over(slice.iter().copied());
            slice.iter_mut().for_each(|value| *value = score.of(*value));
        }),
        Normalization::Ct => channels.enumerate().for_each(|(index, channel)| {
            let CtStatistics { low, high, mean, deviation } = ct[index];
            let score = ZScore::new(mean, deviation);
            // Not `clamp`, which panics when low > high: a fingerprint comes from a file.
            channel.iter_mut().for_each(|value| *value = score.of(value.max(low).min(high)));
        }),
    }
}

struct ZScore {
    mean: f64,
    scale: f64,
}

impl ZScore {
    fn new(mean: f64, deviation: f64) -> Self {
        // Without contrast there is nothing to scale: everything is the mean, which becomes 0.
        let scale = if deviation > 0.0 && deviation.is_finite() { 1.0 / deviation } else { 0.0 };
        Self { mean, scale }
    }

    /// Mean and deviation in double precision and two passes. Equal values can leave a deviation of rounding errors,
    /// which would blow these errors up to 1, so they are recognised as equal.
    fn over(values: impl Iterator<Item = f32> + Clone) -> Self {
        let (mut count, mut sum) = (0u64, 0.0);
        let (mut minimum, mut maximum) = (f32::INFINITY, f32::NEG_INFINITY);
        for value in values.clone() {
            count += 1;
            sum += f64::from(value);
            minimum = minimum.min(value);
            maximum = maximum.max(value);
        }
        if minimum >= maximum {
            return Self { mean: 0.0, scale: 0.0 };
        }
        let mean = sum / count as f64;
        let squares: f64 = values.map(|value| (f64::from(value) - mean).powi(2)).sum();
        Self::new(mean, (squares / count as f64).sqrt())
    }

    fn of(&self, value: f32) -> f32 {
        ((f64::from(value) - self.mean) * self.scale) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(values: &[f32]) -> (f64, f64) {
        let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / values.len() as f64;
        let variance = values.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / values.len() as f64;
        (mean, variance.sqrt())
    }

    #[test]
    fn each_channel_is_scored_over_its_non_zero_voxels() {
        let mut image: Vec<f32> = (0..48).map(|i| if i % 3 == 0 { 0.0 } else { 500.0 + (i * i) as f32 }).collect();
        normalize(&mut image, [2, 3, 4], Normalization::Volume, &[]);
        for channel in image.chunks_exact(24) {
            let inside: Vec<f32> = channel.iter().copied().filter(|v| *v != 0.0).collect();
            assert_eq!(inside.len(), 16);
            let (mean, deviation) = moments(&inside);
            assert!(mean.abs() < 1e-6 && (deviation - 1.0).abs() < 1e-6);
        }
        assert!(image.iter().step_by(3).all(|value| *value == 0.0));
    }

    #[test]
    fn each_axial_slice_is_scored_alone() {
        let mut image: Vec<f32> = (0..24).map(|i| (i * i) as f32).collect();
        normalize(&mut image, [3, 2, 4], Normalization::Slice, &[]);
        for slice in image.chunks_exact(8) {
            let (mean, deviation) = moments(slice);
            assert!(mean.abs() < 1e-6 && (deviation - 1.0).abs() < 1e-6);
        }
    }

    #[test]
    fn no_contrast_gives_zeros_and_never_nan() {
        // 0.1 in single precision, summed: the mean is off by a rounding error.
        for normalization in [Normalization::Volume, Normalization::Slice] {
            let mut image = vec![0.1; 1000];
            normalize(&mut image, [10, 10, 10], normalization, &[]);
            assert!(image.iter().all(|value| *value == 0.0), "{normalization:?}");
        }
        let mut image = vec![3.0; 8];
        let ct = CtStatistics { low: 1.0, high: 0.0, mean: 3.0, deviation: 0.0 };
        normalize(&mut image, [2, 2, 2], Normalization::Ct, &[ct]);
        assert!(image.iter().all(|value| *value == 0.0));
    }

    #[test]
    fn ct_is_clipped_and_scored_with_the_training_sets_foreground() {
        let mut image = vec![-2000.0, -100.0, 40.0, 3000.0];
        let ct = CtStatistics { low: -100.0, high: 200.0, mean: 50.0, deviation: 10.0 };
        normalize(&mut image, [1, 1, 4], Normalization::Ct, &[ct]);
        assert_eq!(image, [-15.0, -15.0, -1.0, 15.0]);
    }
}
