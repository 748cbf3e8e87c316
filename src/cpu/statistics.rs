//! Batch norm's statistics from the sums that a convolution took of its results in passing.

use super::{Element, reduce, threads::Threads};

/// The variance is the mean square less the square of the mean, and loses as many digits as the two have in common. Beyond
/// this ratio of the mean's square to the variance a second look at the tensor is taken: after a ReLU the ratio is usually
/// below one, so hardly any layer ever pays for it.
const CANCELLATION: f64 = 4.0;

/// The sums of few voxels come in few parts, each with the rounding of its single-precision additions, while two plain passes
/// are accurate to the last digit. Up to here the tensor lies in the cache and a second look costs next to nothing; beyond,
/// the parts' rounding averages out.
const FEW_VOXELS: usize = 8192;

/// Sums and sums of squares per channel, in the workspace of the operation that takes them.
#[derive(Debug)]
pub struct Statistics<'a> {
    sums: &'a mut [f64],
    squares: &'a mut [f64],
}

impl<'a> Statistics<'a> {
    /// Workspace elements for an operation with a result of so many voxels and channels that itself needs `elements`.
    pub fn workspace(voxels: usize, channels: usize, elements: usize) -> usize {
        4 * channels + elements.max(reduce::sums_workspace(voxels, channels))
    }

    /// Takes its part of the workspace, and returns the rest of it.
    ///
    /// # Panics
    /// If the workspace is too short or does not begin at a multiple of 8 bytes.
    pub fn new(channels: usize, workspace: &'a mut [f32]) -> (Self, &'a mut [f32]) {
        let (own, rest) = workspace.split_at_mut(4 * channels);
        let (sums, squares) = bytemuck::cast_slice_mut(own).split_at_mut(channels);
        (Self { sums, squares }, rest)
    }

    /// Where the sums go: of the results, and of their squares.
    pub fn sums(&mut self) -> [&mut [f64]; 2] {
        [self.sums, self.squares]
    }

    /// Mean and biased variance of `y` `[voxels, channels]`, whose sums were taken.
    pub fn finish<E: Element>(
        self,
        threads: &Threads,
        y: &[E],
        mean: &mut [f32],
        variance: &mut [f32],
        workspace: &mut [f32],
    ) {
        let count = (y.len() / self.sums.len()) as f64;
        let mut unsure = y.len() <= FEW_VOXELS * self.sums.len();
        for (channel, (&sum, &square)) in self.sums.iter().zip(&*self.squares).enumerate() {
            let (centre, square) = (sum / count, square / count);
            let distance = (square - centre * centre).max(0.0);
            unsure |= centre * centre > CANCELLATION * distance;
            mean[channel] = centre as f32;
            variance[channel] = distance as f32;
        }
        if unsure {
            reduce::mean_and_variance(threads, y, mean, variance, workspace);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variances_keep_their_digits_when_the_mean_is_a_thousand_deviations_away() {
        let (voxels, channels) = (5000, 3);
        let y: Vec<f32> = (0..voxels * channels).map(|i| 1000.0 + (i as f32 * 0.7).sin()).collect();
        let threads = Threads::new(2);
        let mut workspace = vec![f32::NAN; Statistics::workspace(voxels, channels, 0) + 1];
        // Vectors of f32 may begin anywhere; arenas do not.
        let start = workspace.as_ptr().align_offset(8);
        let (mut statistics, rest) = Statistics::new(channels, &mut workspace[start..]);
        let [sums, squares] = statistics.sums();
        for c in 0..channels {
            // As a kernel with single-precision partial sums might leave them: off by a few roundings.
            let channel = || y.iter().skip(c).step_by(channels).map(|&y| f64::from(y));
            sums[c] = channel().sum::<f64>() * (1.0 + 1e-7);
            squares[c] = channel().map(|y| y * y).sum::<f64>() * (1.0 - 1e-7);
        }
        let (mut mean, mut variance) = (vec![0.0; channels], vec![0.0; channels]);
        statistics.finish(&threads, &y, &mut mean, &mut variance, rest);
        for c in 0..channels {
            let channel = || y.iter().skip(c).step_by(channels).map(|&y| f64::from(y));
            let exact = channel().sum::<f64>() / voxels as f64;
            let spread = channel().map(|y| (y - exact).powi(2)).sum::<f64>() / voxels as f64;
            assert!((f64::from(variance[c]) - spread).abs() <= 1e-6 * spread, "{} {spread}", variance[c]);
            assert!((f64::from(mean[c]) - exact).abs() <= 1e-7 * exact, "{} {exact}", mean[c]);
        }
    }
}
