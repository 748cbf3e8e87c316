//! Blends overlapping windows into slices.

use super::{Sink, windows::overlap};
use crate::{Error, Result};

/// One finished slice of the volume, across D.
#[derive(Clone, Copy, Debug)]
pub struct Slice<'a> {
    /// Its position along D.
    pub d: usize,
    /// The most probable class of each voxel `[H, W]`, the lowest of equals. With a single class, 1 where its
    /// probability exceeds one half.
    pub labels: &'a [u8],
    /// Probabilities `[H, W, classes]`.
    pub probabilities: &'a [f32],
}

/// Weights along one axis of a window: a Gaussian of standard deviation patch / 8 about the middle, as in nnU-Net.
///
/// The ends are at most four deviations out, so the smallest weight is exp(-8) and the smallest product of three
/// exp(-24) = 4e-11: far from zero in fp32, so that every voxel has a weight to divide by.
pub fn gaussian(patch: usize) -> Vec<f32> {
    let (middle, sigma) = ((patch as f64 - 1.0) / 2.0, patch as f64 / 8.0);
    (0..patch).map(|i| (-0.5 * ((i as f64 - middle) / sigma).powi(2)).exp() as f32).collect()
}

/// The weighted mean of windows that come in order of D, for as many slices as a window is deep.
///
/// It is kept as a running mean, `mean += (p - mean) w / sum(w)`, rather than as two sums: windows that agree on a
/// voxel then leave exactly what they agree on.
#[derive(Debug)]
pub struct Accumulator {
    extent: [usize; 3],
    patch: [usize; 3],
    classes: usize,
    weights: [Vec<f32>; 3],
    /// A ring of slices: slice `d` of the volume lies at `d % slices`.
    slices: usize,
    mean: Vec<f32>,
    total: Vec<f32>,
    labels: Vec<u8>,
    /// The first slice that has not left.
    next: usize,
}

impl Accumulator {
    /// For a volume of extents D, H, W and windows of extents `patch`.
    pub fn new(extent: [usize; 3], patch: [usize; 3], classes: usize) -> Self {
        let slices = patch[0].min(extent[0]);
        let plane = extent[1] * extent[2];
        Self {
            extent,
            patch,
            classes,
            weights: patch.map(gaussian),
            slices,
            mean: vec![0.0; slices * plane * classes],
            total: vec![0.0; slices * plane],
            labels: vec![0; plane],
            next: 0,
        }
    }

    /// Bytes that the slices take: independent of the volume's extent along D once a window fits.
    pub fn bytes(&self) -> usize {
        (self.mean.len() + self.total.len()) * size_of::<f32>() + self.labels.len()
    }

    /// [`Self::bytes`] of one that is yet to be made.
    pub fn bytes_for(extent: [usize; 3], patch: [usize; 3], classes: usize) -> usize {
        let plane = extent[1] * extent[2];
        patch[0].min(extent[0]) * plane * (classes + 1) * size_of::<f32>() + plane
    }

    /// Blends in the probabilities `[D, H, W, classes]` of the window at `start` of the padded volume.
    ///
    /// # Errors
    /// [`Error::Shape`] that names the voxel when a probability is not finite.
    ///
    /// # Panics
    /// When the window begins before a slice that has left.
    pub fn add(&mut self, start: [usize; 3], probabilities: &[f32]) -> Result<()> {
        assert_eq!(probabilities.len(), self.patch.iter().product::<usize>() * self.classes);
        let [d, h, w] = [0, 1, 2].map(|axis| overlap(self.extent[axis], self.patch[axis], start[axis]));
        assert!(d.volume >= self.next && d.volume + d.count <= self.next + self.slices, "windows in order of D");
        let [_, height, width] = self.extent;
        let classes = self.classes;
        let weights_w = &self.weights[2][w.window..w.window + w.count];
        for z in 0..d.count {
            let slot = (d.volume + z) % self.slices;
            for y in 0..h.count {
                let row = (slot * height + h.volume + y) * width + w.volume;
                let from = ((d.window + z) * self.patch[1] + h.window + y) * self.patch[2] + w.window;
                let weight = self.weights[0][d.window + z] * self.weights[1][h.window + y];
                let means = self.mean[row * classes..].chunks_exact_mut(classes);
                let news = probabilities[from * classes..].chunks_exact(classes);
                let totals = &mut self.total[row..row + w.count];
                for (x, (((total, mean), new), weight_w)) in
                    totals.iter_mut().zip(means).zip(news).zip(weights_w).enumerate()
                {
                    let weight = weight * weight_w;
                    *total += weight;
                    let share = weight / *total;
                    for (mean, &p) in mean.iter_mut().zip(new) {
                        if !p.is_finite() {
                            return Err(not_finite(p, [d.volume + z, h.volume + y, w.volume + x]));
                        }
                        *mean += (p - *mean) * share;
                    }
                }
            }
        }
        Ok(())
    }

    /// Hands over the slices that no window from `start` (along D of the padded volume) on touches.
    ///
    /// # Errors
    /// What `sink` returns.
    pub fn finish_before(&mut self, start: usize, sink: &mut Sink) -> Result<()> {
        let end = overlap(self.extent[0], self.patch[0], start).volume;
        self.hand_over(end, sink)
    }

    /// Hands over all that is left.
    ///
    /// # Errors
    /// What `sink` returns.
    pub fn finish(mut self, sink: &mut Sink) -> Result<()> {
        self.hand_over(self.extent[0], sink)
    }

    fn hand_over(&mut self, end: usize, sink: &mut Sink) -> Result<()> {
        let plane = self.labels.len();
        while self.next < end {
            let voxels = self.next % self.slices * plane..(self.next % self.slices + 1) * plane;
            let totals = &mut self.total[voxels.clone()];
            assert!(totals.iter().all(|&total| total > 0.0), "slice {} left before a window reached it", self.next);
            let mean = &mut self.mean[voxels.start * self.classes..voxels.end * self.classes];
            for (label, probabilities) in self.labels.iter_mut().zip(mean.chunks_exact(self.classes)) {
                *label = decide(probabilities);
            }
            sink(Slice { d: self.next, labels: &self.labels, probabilities: mean })?;
            totals.fill(0.0);
            mean.fill(0.0);
            self.next += 1;
        }
        Ok(())
    }
}

/// The most probable class, the lowest of equals; with one probability, whether it exceeds one half.
pub(super) fn decide(probabilities: &[f32]) -> u8 {
    if let &[p] = probabilities {
        return u8::from(p > 0.5);
    }
    let mut best = 0;
    for (class, &p) in probabilities.iter().enumerate() {
        if p > probabilities[best] {
            best = class;
        }
    }
    best as u8
}

pub(super) fn not_finite(p: f32, voxel: [usize; 3]) -> Error {
    let cause = format!("a probability is {p} at voxel {voxel:?} (D, H, W): the weights have diverged");
    Error::shape("network", cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_symmetric_peaked_and_never_zero() {
        for patch in [1, 2, 3, 16, 17, 160, 1000] {
            let weights = gaussian(patch);
            assert!(weights.iter().rev().eq(&weights));
            assert!(weights.iter().all(|&w| w.powi(3) >= (-24.0f32).exp() * 0.999 && w <= 1.0), "{patch}");
            assert!(weights[..patch.div_ceil(2)].is_sorted());
        }
        // One deviation from the middle: exp(-1/2).
        approx::assert_relative_eq!(gaussian(17)[8 - 2], (-0.5f32 * (16.0 / 17.0f32).powi(2)).exp(), epsilon = 1e-7);
    }

    #[test]
    fn ties_go_to_the_lowest_class_and_one_class_needs_more_than_half() {
        assert_eq!(decide(&[0.25, 0.375, 0.375]), 1);
        assert_eq!([decide(&[0.5]), decide(&[0.50001])], [0, 1]);
    }

    #[test]
    fn memory_does_not_grow_with_the_depth_of_the_volume() {
        let bytes = |depth| Accumulator::new([depth, 30, 20], [16; 3], 4).bytes();
        assert_eq!(bytes(16), bytes(1_000_000));
        assert_eq!(bytes(16), Accumulator::bytes_for([16, 30, 20], [16; 3], 4));
        assert!(bytes(15) < bytes(16));
    }

    #[test]
    fn a_diverged_network_is_named_with_the_voxel() {
        let mut accumulator = Accumulator::new([2, 2, 2], [2; 3], 1);
        let mut probabilities = vec![0.5; 8];
        probabilities[6] = f32::NAN;
        let error = accumulator.add([0; 3], &probabilities).unwrap_err().to_string();
        assert!(error.contains("NaN at voxel [1, 1, 0]"), "{error}");
    }
}
