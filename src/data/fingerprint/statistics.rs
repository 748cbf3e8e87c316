//! Collects intensities: moments exactly (in double precision, merged in the order of the cases), percentiles by
//! histogram (merged in any order). Neither depends on how many threads read the files.

use serde::{Deserialize, Serialize};

use super::{CaseFingerprint, ChannelFingerprint, Fingerprint, histogram::Histogram};

/// The percentiles that are kept, in percent.
pub const PERCENTILES: [f64; 7] = [0.5, 5.0, 25.0, 50.0, 75.0, 95.0, 99.5];

/// Bins of the histogram that is kept per channel.
const COARSE_BINS: usize = 64;

/// A summary of values. All zero when there were none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Intensity {
    /// How many values.
    pub count: u64,
    /// The smallest.
    pub minimum: f32,
    /// The largest.
    pub maximum: f32,
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation (dividing by the count).
    pub deviation: f64,
    /// At [`PERCENTILES`]; exact for whole numbers up to 1024, otherwise of values rounded to ten significant bits.
    pub percentiles: [f32; PERCENTILES.len()],
}

/// Summarises one case after the other, reusing its histograms.
pub(in crate::data) struct CaseCollector {
    nonzero: Vec<Histogram>,
    foreground: Vec<Histogram>,
}

/// Histograms of all training cases so far.
pub(in crate::data) struct Totals {
    nonzero: Vec<Histogram>,
    foreground: Vec<Histogram>,
}

impl CaseCollector {
    pub(in crate::data) fn new() -> Self {
        Self { nonzero: Vec::new(), foreground: Vec::new() }
    }

    /// Per channel, the summaries over non-zero and over foreground voxels. `image` is `[channel, voxel]` and finite;
    /// without labels there is no foreground.
    pub(in crate::data) fn collect(&mut self, image: &[f32], channels: usize, labels: &[u16]) -> [Vec<Intensity>; 2] {
        self.nonzero.resize_with(channels, Histogram::new);
        self.foreground.resize_with(channels, Histogram::new);
        let (mut over_nonzero, mut over_foreground) = (Vec::new(), Vec::new());
        for (channel, values) in image.chunks_exact(image.len() / channels).enumerate() {
            let nonzero = values.iter().copied().filter(|value| *value != 0.0);
            over_nonzero.push(summarise(nonzero, &mut self.nonzero[channel]));
            let foreground = values.iter().zip(labels).filter(|(_, label)| **label != 0).map(|(value, _)| *value);
            over_foreground.push(summarise(foreground, &mut self.foreground[channel]));
        }
        [over_nonzero, over_foreground]
    }
}

impl Totals {
    pub(in crate::data) fn new() -> Self {
        Self { nonzero: Vec::new(), foreground: Vec::new() }
    }

    /// Adds the case that was collected last.
    pub(in crate::data) fn add(&mut self, case: &CaseCollector) {
        for (totals, more) in [(&mut self.nonzero, &case.nonzero), (&mut self.foreground, &case.foreground)] {
            totals.resize_with(more.len().max(totals.len()), Histogram::new);
            totals.iter_mut().zip(more).for_each(|(total, more)| total.merge(more));
        }
    }

    /// The fingerprint of the cases that were added.
    pub(in crate::data) fn finish(self, cases: Vec<CaseFingerprint>, label_voxels: Vec<u64>) -> Fingerprint {
        let channels = (self.nonzero.iter().zip(&self.foreground).enumerate())
            .map(|(channel, (nonzero, foreground))| {
                let nonzero_total = merged(cases.iter().map(|case| &case.nonzero[channel]), nonzero);
                let [low, .., high] = nonzero_total.percentiles;
                ChannelFingerprint {
                    histogram: nonzero.coarse(low, high, COARSE_BINS),
                    nonzero: nonzero_total,
                    foreground: merged(cases.iter().map(|case| &case.foreground[channel]), foreground),
                }
            })
            .collect();
        Fingerprint { cases, channels, label_voxels }
    }
}

/// Two passes for the moments: the values are in memory, and sums of squares about zero would cancel.
fn summarise(values: impl Iterator<Item = f32> + Clone, histogram: &mut Histogram) -> Intensity {
    histogram.clear();
    let (mut count, mut sum) = (0u64, 0.0);
    let (mut minimum, mut maximum) = (f32::INFINITY, f32::NEG_INFINITY);
    for value in values.clone() {
        count += 1;
        sum += f64::from(value);
        minimum = minimum.min(value);
        maximum = maximum.max(value);
        histogram.add(value);
    }
    if count == 0 {
        return Intensity::default();
    }
    let mean = sum / count as f64;
    let squares: f64 = values.map(|value| (f64::from(value) - mean).powi(2)).sum();
    let deviation = (squares / count as f64).sqrt();
    let percentiles = histogram.percentiles(PERCENTILES).map(|value| value.clamp(minimum, maximum));
    Intensity { count, minimum, maximum, mean, deviation, percentiles }
}

/// Moments of the union (Chan, Golub and LeVeque's pairwise update), percentiles of the common histogram.
fn merged<'a>(cases: impl Iterator<Item = &'a Intensity>, histogram: &Histogram) -> Intensity {
    let mut total = Intensity::default();
    let mut squares = 0.0;
    for case in cases.filter(|case| case.count > 0) {
        let (before, more) = (total.count as f64, case.count as f64);
        let difference = case.mean - total.mean;
        total.minimum = if total.count == 0 { case.minimum } else { total.minimum.min(case.minimum) };
        total.maximum = if total.count == 0 { case.maximum } else { total.maximum.max(case.maximum) };
        total.count += case.count;
        total.mean += difference * more / (before + more);
        squares += case.deviation.powi(2) * more + difference.powi(2) * before * more / (before + more);
    }
    if total.count > 0 {
        total.deviation = (squares / total.count as f64).sqrt();
    }
    total.percentiles = histogram.percentiles(PERCENTILES).map(|value| value.clamp(total.minimum, total.maximum));
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    #[test]
    fn merged_cases_have_the_statistics_of_their_union() {
        let mut stream = Stream::new(1, "statistics");
        let mut collector = CaseCollector::new();
        let mut totals = Totals::new();
        let (mut all, mut cases) = (Vec::new(), Vec::new());
        for count in [10, 1, 300] {
            // A large offset, so that a sum of squares about zero would lose the deviation.
            let values: Vec<f32> = (0..count).map(|_| (1000.0 + stream.normal()) as f32).collect();
            let labels: Vec<u16> = (0..count).map(|i| i % 2).collect();
            let [nonzero, foreground] = collector.collect(&values, 1, &labels);
            totals.add(&collector);
            all.extend(values);
            cases.push(CaseFingerprint {
                name: String::new(),
                extents: [usize::from(count), 1, 1],
                spacing: [1.0; 3],
                nonzero,
                foreground,
                label_voxels: vec![],
            });
        }
        let found = totals.finish(cases, vec![6, 2]);
        let expected = summarise(all.iter().copied(), &mut Histogram::new());
        let total = &found.channels[0].nonzero;
        assert_eq!((total.count, total.percentiles, total.minimum), (311, expected.percentiles, expected.minimum));
        assert!((total.mean - expected.mean).abs() < 1e-9 && (total.deviation - expected.deviation).abs() < 1e-9);
        assert_eq!(found.channels[0].foreground.count, 5 + 150);
        assert_eq!(found.class_weights(), [8.0 / 12.0, 2.0]);
        assert_eq!(found.median_extents(), [10, 1, 1]);
    }
}
