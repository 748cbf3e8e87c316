//! Makes intensities comparable between scanners and cases.

use serde::{Deserialize, Serialize};

use crate::{
    Result,
    data::fingerprint::{Intensity, PERCENTILES},
};

/// How intensities are made comparable. A region without contrast becomes 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    let channels = image.len() / (d * h * w);
    let play = |visit: &mut Visit<'_>| {
        image.chunks_exact(d * h * w).enumerate().for_each(|(channel, values)| visit(channel, values));
        Ok(())
    };
    let scores = Scores::of(normalization, ct, channels, play).expect("memory can be read");
    for (channel, values) in image.chunks_exact_mut(d * h * w).enumerate() {
        values.chunks_exact_mut(h * w).for_each(|slice| scores.apply(channel, slice));
    }
}

/// Takes values of a channel.
pub type Visit<'a> = dyn FnMut(usize, &[f32]) + 'a;

/// How one image's values are to be changed. Made from the image's values as they pass by, so that memory need not hold
/// them, and applied slice by slice.
#[derive(Clone, Debug)]
pub struct Scores {
    normalization: Normalization,
    ct: Vec<CtStatistics>,
    /// Per channel; for [`Normalization::Volume`] and [`Normalization::Ct`].
    channels: Vec<ZScore>,
}

impl Scores {
    /// The scores of an image. `play` hands all values, all of them finite, to its argument, each channel's in the file's
    /// order. It is called as often as it takes: twice for [`Normalization::Volume`], else never.
    ///
    /// # Errors
    /// What `play` returns.
    ///
    /// # Panics
    /// When `ct` is needed and has no entry for a channel.
    pub fn of(
        normalization: Normalization,
        ct: &[CtStatistics],
        channels: usize,
        mut play: impl FnMut(&mut Visit<'_>) -> Result<()>,
    ) -> Result<Self> {
        let channels = match normalization {
            Normalization::None | Normalization::Slice => Vec::new(),
            Normalization::Ct => ct[..channels].iter().map(|ct| ZScore::new(ct.mean, ct.deviation)).collect(),
            Normalization::Volume => {
                let mut moments = vec![Moments::default(); channels];
                play(&mut |channel, values| moments[channel].add(non_zero(values)))?;
                let mut spreads: Vec<Spread> = moments.into_iter().map(Spread::about).collect();
                play(&mut |channel, values| spreads[channel].add(non_zero(values)))?;
                spreads.iter().map(Spread::score).collect()
            }
        };
        Ok(Self { normalization, ct: ct.to_vec(), channels })
    }

    /// Changes the values of an axial slice of a channel.
    pub fn apply(&self, channel: usize, slice: &mut [f32]) {
        match self.normalization {
            Normalization::None => {}
            Normalization::Volume => {
                let score = &self.channels[channel];
                slice.iter_mut().filter(|value| **value != 0.0).for_each(|value| *value = score.of(*value));
            }
            Normalization::Slice => {
                let score = ZScore::of_values(|| slice.iter().copied());
                slice.iter_mut().for_each(|value| *value = score.of(*value));
            }
            Normalization::Ct => {
                let (score, CtStatistics { low, high, .. }) = (&self.channels[channel], self.ct[channel]);
                // Not `clamp`, which panics when low > high: a fingerprint comes from a file.
                slice.iter_mut().for_each(|value| *value = score.of(value.max(low).min(high)));
            }
        }
    }
}

impl Scores {
    /// What [`Self::apply`] does to this axial slice of a channel, as numbers.
    pub fn of_slice(&self, channel: usize, slice: &[f32]) -> Score {
        match self.normalization {
            Normalization::None => Score::NONE,
            Normalization::Volume => Score { keeps_zero: 1.0, ..self.channels[channel].rounded() },
            Normalization::Slice => ZScore::of_values(|| slice.iter().copied()).rounded(),
            Normalization::Ct => self.channels[channel].rounded(),
        }
    }

    /// The least and the greatest value of a channel that [`Self::apply`] lets pass.
    pub fn limits(&self, channel: usize) -> [f32; 2] {
        match self.normalization {
            Normalization::Ct => [self.ct[channel].low, self.ct[channel].high],
            _ => [f32::NEG_INFINITY, f32::INFINITY],
        }
    }
}

/// One z-score in single precision: `((value - mean) - rest) * scale`. The mean comes in two parts, so that next to
/// nothing is lost where values are large beside their deviation.
#[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct Score {
    /// The mean, rounded.
    pub mean: f32,
    /// What rounding took from the mean.
    pub rest: f32,
    /// One over the deviation.
    pub scale: f32,
    /// 1: what is exactly 0 stays 0; 0: it is a value like any other.
    pub keeps_zero: f32,
}

impl Score {
    /// Values as they are.
    pub const NONE: Self = Self { mean: 0.0, rest: 0.0, scale: 1.0, keeps_zero: 0.0 };

    /// A value that was limited before.
    pub fn of(self, value: f32) -> f32 {
        if value == 0.0 && self.keeps_zero != 0.0 { 0.0 } else { ((value - self.mean) - self.rest) * self.scale }
    }
}

fn non_zero(values: &[f32]) -> impl Iterator<Item = f32> {
    values.iter().copied().filter(|value| *value != 0.0)
}

/// What a first pass over values finds, in double precision.
#[derive(Clone, Debug)]
struct Moments {
    count: u64,
    sum: f64,
    minimum: f32,
    maximum: f32,
}

impl Default for Moments {
    fn default() -> Self {
        Self { count: 0, sum: 0.0, minimum: f32::INFINITY, maximum: f32::NEG_INFINITY }
    }
}

impl Moments {
    fn add(&mut self, values: impl Iterator<Item = f32>) {
        for value in values {
            self.count += 1;
            self.sum += f64::from(value);
            self.minimum = self.minimum.min(value);
            self.maximum = self.maximum.max(value);
        }
    }
}

/// What a second pass adds: squares about the mean.
#[derive(Clone, Debug)]
struct Spread {
    moments: Moments,
    mean: f64,
    squares: f64,
}

impl Spread {
    fn about(moments: Moments) -> Self {
        Self { mean: moments.sum / moments.count as f64, moments, squares: 0.0 }
    }

    fn add(&mut self, values: impl Iterator<Item = f32>) {
        values.for_each(|value| self.squares += (f64::from(value) - self.mean).powi(2));
    }

    /// Equal values can leave a deviation of rounding errors, which would blow these errors up to 1, so they are recognised
    /// as equal.
    fn score(&self) -> ZScore {
        if self.moments.minimum >= self.moments.maximum {
            return ZScore { mean: 0.0, scale: 0.0 };
        }
        ZScore::new(self.mean, (self.squares / self.moments.count as f64).sqrt())
    }
}

#[derive(Clone, Debug)]
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

    /// The score of these values, which are read twice.
    fn of_values<I: Iterator<Item = f32>>(values: impl Fn() -> I) -> Self {
        let mut moments = Moments::default();
        moments.add(values());
        let mut spread = Spread::about(moments);
        spread.add(values());
        spread.score()
    }

    fn of(&self, value: f32) -> f32 {
        ((f64::from(value) - self.mean) * self.scale) as f32
    }

    fn rounded(&self) -> Score {
        let mean = self.mean as f32;
        let scale = self.scale.min(f64::from(f32::MAX)) as f32;
        Score { mean, rest: (self.mean - f64::from(mean)) as f32, scale, keeps_zero: 0.0 }
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
