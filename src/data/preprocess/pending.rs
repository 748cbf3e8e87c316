//! Images that are placed but not normalised: what is left to do, as numbers for who does it.

use std::{ops::Range, path::Path};

use super::{Fit, Placement, Preprocessing, Score, Scores, Way};
use crate::{Result, formats::Image, volume::Shared};

/// What is left to do to a placed image `[D, H, W, C]`: inside `bounds` each value is limited and scored; outside there is
/// no image, and the result is 0.
#[derive(Clone, Debug, PartialEq)]
pub struct Pending {
    /// Where the image is, D H W.
    pub bounds: [Range<usize>; 3],
    /// The least and the greatest value of each channel that pass.
    pub limits: Vec<[f32; 2]>,
    /// `[D, C]`.
    pub scores: Vec<Score>,
}

impl Pending {
    /// Nothing is left to do: for images that are normalised.
    pub fn nothing(extent: [usize; 3], channels: usize) -> Self {
        let limits = vec![[f32::NEG_INFINITY, f32::INFINITY]; channels];
        Self { bounds: extent.map(|extent| 0..extent), limits, scores: vec![Score::NONE; extent[0] * channels] }
    }

    /// What is left to do to this volume `[C, D, H, W]` of these extents.
    fn of(scores: &Scores, volume: &[f32], extent: [usize; 3], channels: usize) -> Self {
        let [depth, h, w] = extent;
        let slice = |d: usize, channel: usize| &volume[(channel * depth + d) * h * w..][..h * w];
        let of_slice = |row: usize| scores.of_slice(row % channels, slice(row / channels, row % channels));
        Self {
            bounds: extent.map(|extent| 0..extent),
            limits: (0..channels).map(|channel| scores.limits(channel)).collect(),
            scores: (0..depth * channels).map(of_slice).collect(),
        }
    }

    /// What is left to do where a placement puts it. Stretching mixes voxels, so nothing may be left before.
    pub fn placed(&self, placement: &Placement) -> Self {
        let channels = self.limits.len();
        let Way::Region(start) = placement.way else { return Self::nothing(placement.target, channels) };
        let shared = placement.shared(start);
        let mut placed = Self::nothing(placement.target, channels);
        placed.bounds = shared.map(|shared| shared.target..shared.target + shared.length);
        placed.limits.clone_from(&self.limits);
        let [Shared { source, target, length }, ..] = shared;
        let rows = length * channels;
        placed.scores[target * channels..][..rows].copy_from_slice(&self.scores[source * channels..][..rows]);
        placed
    }
}

impl Preprocessing {
    /// Says what is left to do to an image, whose voxels stay as they are. Where placing mixes voxels ([`Fit::Resize`]),
    /// they are normalised, and nothing is left.
    ///
    /// # Errors
    /// As [`Self::image`].
    pub fn pending(&self, image: &mut Image, path: &Path) -> Result<Pending> {
        self.check_image(image, path)?;
        let extent = image.header.grid.shape();
        match self.fit {
            Fit::Pad => {
                let volume = &image.voxels;
                let play = |visit: &mut super::Visit<'_>| {
                    let channels = volume.chunks_exact(volume.len() / self.channels).enumerate();
                    channels.for_each(|(channel, values)| visit(channel, values));
                    Ok(())
                };
                let scores = Scores::of(self.normalization, &self.ct, self.channels, play)?;
                Ok(Pending::of(&scores, volume, extent, self.channels))
            }
            Fit::Resize => {
                self.normalize(image, path)?;
                Ok(Pending::nothing(extent, self.channels))
            }
        }
    }

    /// Places the image as `[D, H, W, C]` into `out` and says what is left to do.
    ///
    /// # Errors
    /// As [`Self::image`].
    ///
    /// # Panics
    /// As [`Self::image`].
    pub fn place_image(&self, image: &mut Image, path: &Path, out: &mut [f32]) -> Result<(Placement, Pending)> {
        let pending = self.pending(image, path)?;
        let placement = self.placement(&image.header.grid);
        placement.fit_planar(&image.voxels, self.channels, out);
        Ok((placement, pending.placed(&placement)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        data::preprocess::{CtStatistics, Normalization},
        formats::Header,
    };

    /// Two channels whose values are large beside their deviation, with zeros; one slice without contrast.
    fn image() -> Image {
        let mut header = Header::new([7, 6, 5], [1.0; 3]);
        header.channels = 2;
        let voxel =
            |i: usize| if i.is_multiple_of(5) || i / 42 == 3 { 0.0 } else { 1000.0 + ((i * 7919) % 101) as f32 / 8.0 };
        Image { voxels: (0..2 * header.voxels()).map(voxel).collect(), header }
    }

    #[test]
    fn placing_and_then_scoring_gives_what_normalising_and_then_placing_gives() {
        let ct = vec![CtStatistics { low: 1001.0, high: 1010.0, mean: 1005.0, deviation: 3.0 }; 2];
        for normalization in [Normalization::Volume, Normalization::Slice, Normalization::Ct, Normalization::None] {
            for (fit, extent) in [(Fit::Pad, [8, 4, 7]), (Fit::Pad, [2, 9, 6]), (Fit::Resize, [4, 5, 9])] {
                let preprocessing = Preprocessing { extent, channels: 2, normalization, fit, ct: ct.clone() };
                let voxels: usize = extent.iter().product();
                let (mut ready, mut raw) = (vec![f32::NAN; 2 * voxels], vec![f32::NAN; 2 * voxels]);
                let path = Path::new("image.nii");
                let placement = preprocessing.image(&mut image(), path, &mut ready).unwrap();
                let (other, pending) = preprocessing.place_image(&mut image(), path, &mut raw).unwrap();
                assert_eq!(placement, other);
                for (index, (raw, ready)) in raw.iter().zip(&ready).enumerate() {
                    let (channel, voxel) = (index % 2, index / 2);
                    let at = [voxel / (extent[1] * extent[2]), voxel / extent[2] % extent[1], voxel % extent[2]];
                    let is_inside = pending.bounds.iter().zip(at).all(|(bounds, at)| bounds.contains(&at));
                    let [low, high] = pending.limits[channel];
                    let score = pending.scores[at[0] * 2 + channel];
                    let value = if is_inside { score.of(raw.max(low).min(high)) } else { 0.0 };
                    // A rounding of the difference and one of the scale, which host arithmetic in double precision lacks.
                    let tolerance = 3.0 * f32::EPSILON * ready.abs();
                    assert!(
                        (value - ready).abs() <= tolerance,
                        "{normalization:?} {fit:?} {at:?}: {value} for {ready}"
                    );
                    assert_eq!(value == 0.0, *ready == 0.0, "{normalization:?} {fit:?} {at:?}");
                }
            }
        }
    }
}
