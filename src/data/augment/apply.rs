//! Does to a case what its recipe says, on the CPU.

use super::recipe::{PointWise, Recipe};
use crate::random::{philox, unit};

impl Recipe {
    /// Changes an image `[D, H, W, C]` and its labels `[D, H, W]`; the changed ones go to `image_out`, `labels_out`.
    ///
    /// # Panics
    /// When a slice does not have these extents.
    pub fn apply(
        &self,
        [d, h, w]: [usize; 3],
        image: &[f32],
        labels: &[u8],
        image_out: &mut [f32],
        labels_out: &mut [u8],
    ) {
        let (voxels, channels) = (d * h * w, self.channels.len());
        assert_eq!((image.len(), labels.len()), (voxels * channels, voxels));
        assert_eq!((image_out.len(), labels_out.len()), (voxels * channels, voxels));
        match self.only_flips() {
            Some(flip) => {
                mirror([d, h, w], flip, image, channels, image_out);
                mirror([d, h, w], flip, labels, 1, labels_out);
            }
            None if channels == 1 => self.gather::<1>([d, h, w], image, labels, image_out, labels_out),
            None if channels == 4 => self.gather::<4>([d, h, w], image, labels, image_out, labels_out),
            None => self.gather::<0>([d, h, w], image, labels, image_out, labels_out),
        }
        for (channel, change) in self.channels.iter().enumerate() {
            change.apply(image_out, channel, channels);
        }
        if self.noise > 0.0 {
            add_noise(image_out, self.noise, self.noise_key);
        }
    }

    /// Trilinear interpolation of the image, nearest voxel of the labels; 0 from outside. `C` is the number of
    /// channels, or 0 for any: with a known number the inner loop unrolls.
    fn gather<const C: usize>(
        &self,
        extents: [usize; 3],
        image: &[f32],
        labels: &[u8],
        image_out: &mut [f32],
        labels_out: &mut [u8],
    ) {
        let channels = if C == 0 { self.channels.len() } else { C };
        let [d, h, w] = extents;
        let centre = extents.map(|extent| (extent as f32 - 1.0) * 0.5);
        let m = &self.matrix;
        let mut values = image_out.chunks_exact_mut(channels);
        let mut marks = labels_out.iter_mut();
        for z in 0..d {
            for y in 0..h {
                let (z, y) = (z as f32 - centre[0], y as f32 - centre[1]);
                let start = [0, 1, 2].map(|axis| m[axis][0] * z + m[axis][1] * y + centre[axis]);
                for x in 0..w {
                    let x = x as f32 - centre[2];
                    let place = [0, 1, 2].map(|axis| start[axis] + m[axis][2] * x);
                    let value = values.next().expect("one per voxel");
                    interpolate(image, extents, place, value);
                    *marks.next().expect("one per voxel") = nearest(labels, extents, place);
                }
            }
        }
    }
}

/// The image's value at a place, each channel; taps outside count as 0.
#[inline(always)]
fn interpolate(image: &[f32], extents: [usize; 3], place: [f32; 3], out: &mut [f32]) {
    let channels = out.len();
    let floor = place.map(f32::floor);
    let [fz, fy, fx] = [0, 1, 2].map(|axis| place[axis] - floor[axis]);
    out.fill(0.0);
    // Saturating casts: a place far outside stays outside.
    let [z, y, x] = floor.map(|place| place as i32);
    let [row, plane] = [extents[2] * channels, extents[1] * extents[2] * channels];
    let is_inside = [z, y, x].into_iter().zip(extents).all(|(low, extent)| low >= 0 && (low as usize) + 1 < extent);
    if is_inside {
        let first = z as usize * plane + y as usize * row + x as usize * channels;
        let corners = &image[first..first + plane + row + 2 * channels];
        for (channel, out) in out.iter_mut().enumerate() {
            let along = |at: usize| {
                let (low, high) = (corners[at + channel], corners[at + channels + channel]);
                low + (high - low) * fx
            };
            let near = along(0) + (along(row) - along(0)) * fy;
            let far = along(plane) + (along(plane + row) - along(plane)) * fy;
            *out = near + (far - near) * fz;
        }
        return;
    }
    for corner in 0..8 {
        let [cz, cy, cx] = [z + (corner >> 2), y + (corner >> 1 & 1), x + (corner & 1)];
        let is_in = [cz, cy, cx].into_iter().zip(extents).all(|(at, extent)| at >= 0 && (at as usize) < extent);
        if is_in {
            let weight = |bit: i32, fraction: f32| if corner >> bit & 1 == 1 { fraction } else { 1.0 - fraction };
            let weight = weight(2, fz) * weight(1, fy) * weight(0, fx);
            let first = cz as usize * plane + cy as usize * row + cx as usize * channels;
            out.iter_mut().zip(&image[first..]).for_each(|(out, value)| *out += weight * value);
        }
    }
}

#[inline(always)]
fn nearest(labels: &[u8], extents: [usize; 3], place: [f32; 3]) -> u8 {
    let [z, y, x] = place.map(|place| (place + 0.5).floor() as i32);
    let is_in = [z, y, x].into_iter().zip(extents).all(|(at, extent)| at >= 0 && (at as usize) < extent);
    if is_in { labels[(z as usize * extents[1] + y as usize) * extents[2] + x as usize] } else { 0 }
}

/// Copies a volume with some axes reversed.
fn mirror<T: Copy>([d, h, w]: [usize; 3], flip: [bool; 3], from: &[T], channels: usize, to: &mut [T]) {
    let row = w * channels;
    for (index, out) in to.chunks_exact_mut(row).enumerate() {
        let (z, y) = (index / h, index % h);
        let (z, y) = (if flip[0] { d - 1 - z } else { z }, if flip[1] { h - 1 - y } else { y });
        let from = &from[(z * h + y) * row..][..row];
        if flip[2] {
            let voxels = out.chunks_exact_mut(channels).zip(from.chunks_exact(channels).rev());
            voxels.for_each(|(out, voxel)| out.copy_from_slice(voxel));
        } else {
            out.copy_from_slice(from);
        }
    }
}

impl PointWise {
    fn apply(&self, image: &mut [f32], channel: usize, channels: usize) {
        if *self == Self::NONE {
            return;
        }
        let Self { gamma, scale, shift } = *self;
        if gamma == 1.0 {
            image
                .iter_mut()
                .skip(channel)
                .step_by(channels)
                .for_each(|value| *value = unless_zero(*value, *value * scale + shift));
            return;
        }
        let inside = image.iter().skip(channel).step_by(channels).copied().filter(|value| *value != 0.0);
        let (low, high) = inside.fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        let range = high - low;
        if range <= 0.0 || !range.is_finite() {
            return;
        }
        let inverse = 1.0 / range;
        for value in image.iter_mut().skip(channel).step_by(channels).filter(|value| **value != 0.0) {
            let bent = low + range * ((*value - low) * inverse).powf(gamma);
            *value = bent * scale + shift;
        }
    }
}

fn unless_zero(value: f32, changed: f32) -> f32 {
    if value == 0.0 { 0.0 } else { changed }
}

/// Adds normal noise to what is not 0: element `e` by lane `e % 4` of block `e / 4`.
fn add_noise(image: &mut [f32], deviation: f32, key: [u32; 2]) {
    for (block, values) in image.chunks_mut(4).enumerate() {
        if values.iter().all(|value| *value == 0.0) {
            continue; // each block stands alone, so it may be left out
        }
        let block = block as u64;
        let [a, b, c, d] = philox(key, [block as u32, (block >> 32) as u32, 0, 0]);
        let ([first, second], [third, fourth]) = (normals(a, b), normals(c, d));
        for (value, normal) in values.iter_mut().zip([first, second, third, fourth]) {
            *value = unless_zero(*value, *value + deviation * normal);
        }
    }
}

/// Two standard normal numbers of two words (Box-Muller).
fn normals(radius: u32, angle: u32) -> [f32; 2] {
    let radius = (-2.0 * (1.0 - unit(radius)).ln()).sqrt();
    let (sine, cosine) = (std::f32::consts::TAU * unit(angle)).sin_cos();
    [radius * cosine, radius * sine]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        data::augment::{Augment, Augmentation},
        random::Stream,
    };

    const EXTENTS: [usize; 3] = [5, 6, 7];

    fn volume(channels: usize) -> (Vec<f32>, Vec<u8>) {
        let mut stream = Stream::new(2, "volume");
        let image = (0..210 * channels).map(|_| stream.between(0.5, 2.0) as f32).collect();
        (image, (0..210).map(|_| stream.below(4) as u8).collect())
    }

    fn apply(recipe: &Recipe, image: &[f32], labels: &[u8]) -> (Vec<f32>, Vec<u8>) {
        let (mut out, mut labels_out) = (vec![f32::NAN; image.len()], vec![255; labels.len()]);
        recipe.apply(EXTENTS, image, labels, &mut out, &mut labels_out);
        (out, labels_out)
    }

    #[test]
    fn mirroring_is_exact_and_its_own_inverse_and_the_gather_agrees() {
        for channels in [1, 2, 4] {
            let (image, labels) = volume(channels);
            for flips in 0..8 {
                let mut recipe = Recipe::identity(channels);
                (0..3).filter(|axis| flips >> axis & 1 == 1).for_each(|axis| recipe.matrix[axis][axis] = -1.0);
                let (once, labels_once) = apply(&recipe, &image, &labels);
                assert_eq!(apply(&recipe, &once, &labels_once), (image.clone(), labels.clone()));
                let (mut gathered, mut labels_gathered) = (vec![0.0; image.len()], vec![0; labels.len()]);
                recipe.gather::<0>(EXTENTS, &image, &labels, &mut gathered, &mut labels_gathered);
                assert_eq!((gathered, labels_gathered), (once, labels_once), "{flips}");
            }
        }
    }

    #[test]
    fn a_gather_is_the_definition_of_trilinear_interpolation() {
        let (image, labels) = volume(3);
        let settings = Augmentation { rotation: 40.0, zoom: 0.4, ..Augmentation::default() };
        let mut worst = 0.0f64;
        for epoch in 0..12 {
            let recipe = Recipe::draw(&settings, 9, epoch, "a", [2.0, 1.0, 1.0], 3);
            let (out, labels_out) = apply(&recipe, &image, &labels);
            for index in 0..210 {
                let target = [index / 42, index / 7 % 6, index % 7];
                let centre = EXTENTS.map(|extent| (extent as f64 - 1.0) / 2.0);
                let place: [f64; 3] = std::array::from_fn(|row| {
                    (0..3).map(|c| f64::from(recipe.matrix[row][c]) * (target[c] as f64 - centre[c])).sum::<f64>()
                        + centre[row]
                });
                for channel in 0..3 {
                    // The definition: every voxel, weighted by a tent.
                    let mut expected = 0.0;
                    for source in 0..210 {
                        let at = [source / 42, source / 7 % 6, source % 7];
                        let tent = |axis: usize| (1.0 - (place[axis] - at[axis] as f64).abs()).max(0.0);
                        expected += f64::from(image[source * 3 + channel]) * tent(0) * tent(1) * tent(2);
                    }
                    worst = worst.max((f64::from(out[index * 3 + channel]) - expected).abs());
                }
                // Away from the boundary between two voxels the nearest one is not in doubt.
                if place.iter().all(|p| (p + 0.5 - (p + 0.5).round()).abs() > 1e-4) {
                    let near = place.map(|p| p.round());
                    let is_in = near.iter().zip(EXTENTS).all(|(p, extent)| *p >= 0.0 && *p < extent as f64);
                    let expected = if is_in { labels[((near[0] * 6.0 + near[1]) * 7.0 + near[2]) as usize] } else { 0 };
                    assert_eq!(labels_out[index], expected);
                }
            }
        }
        // Places are rounded to single precision: below 8, that is 5e-7 per axis, times slopes of at most 1.5 a voxel.
        assert!(worst < 6e-6, "{worst}");
    }

    #[test]
    fn intensities_follow_the_recipe_and_zeros_stay_zero() {
        let (mut image, labels) = volume(2);
        image[10] = 0.0;
        let mut recipe = Recipe::identity(2);
        recipe.channels[0] = PointWise { gamma: 2.0, scale: 3.0, shift: 1.0 };
        let (out, _) = apply(&recipe, &image, &labels);
        let inside = || image.iter().step_by(2).copied().filter(|value| *value != 0.0);
        let (low, high) = (inside().fold(f32::MAX, f32::min), inside().fold(f32::MIN, f32::max));
        for (index, (value, out)) in image.iter().zip(&out).enumerate() {
            let expected = match index {
                10 => 0.0,
                i if i % 2 == 1 => *value,
                _ => (low + (high - low) * ((value - low) / (high - low)).powi(2)) * 3.0 + 1.0,
            };
            assert!((out - expected).abs() < 1e-5, "{index}: {out} for {expected}");
        }
    }

    #[test]
    fn noise_has_its_deviation_and_depends_on_its_key_alone() {
        let mut image = vec![1.0; 40_001];
        image[7] = 0.0;
        let noisy = |key| {
            let mut image = image.clone();
            add_noise(&mut image, 0.5, key);
            image
        };
        let out = noisy([3, 4]);
        assert_eq!(out, noisy([3, 4]));
        assert_ne!(out, noisy([3, 5]));
        assert_eq!(out[7], 0.0);
        let mean = out.iter().map(|v| f64::from(*v) - 1.0).sum::<f64>() / 4e4;
        let deviation = (out.iter().map(|v| (f64::from(*v) - 1.0).powi(2)).sum::<f64>() / 4e4).sqrt();
        assert!(mean.abs() < 0.0125 && (deviation - 0.5).abs() < 0.009, "{mean} {deviation}");
    }

    #[test]
    fn the_full_preset_never_makes_a_voxel_that_is_not_finite() {
        let (image, labels) = volume(2);
        for epoch in 0..60 {
            let recipe = Recipe::draw(&Augment::Full.settings(), 4, epoch, "a", [1.0, 2.0, 3.0], 2);
            let (out, labels_out) = apply(&recipe, &image, &labels);
            assert!(out.iter().all(|value| value.is_finite()) && labels_out.iter().all(|label| *label < 4));
        }
    }
}
