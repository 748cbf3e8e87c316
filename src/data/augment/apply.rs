//! Does to a case what its recipe says, on the CPU.

use super::recipe::{Changes, PointWise, Recipe};
use crate::random::{philox, unit};

impl Recipe {
    /// Changes an image `[D, H, W, C]` and its labels `[D, H, W]`; the changed ones go to `image_out`, `labels_out`.
    ///
    /// # Panics
    /// When a slice does not have these extents.
    pub fn apply(
        &self,
        extents: [usize; 3],
        image: &[f32],
        labels: &[u8],
        image_out: &mut [f32],
        labels_out: &mut [u8],
    ) {
        self.changes().apply(extents, image, labels, image_out, labels_out);
    }
}

impl Changes<'_> {
    /// As [`Recipe::apply`].
    pub(crate) fn apply(
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
        let grid = Grid { extents, row: w * channels, plane: h * w * channels };
        let step = [m[0][2], m[1][2], m[2][2]];
        let mut values = image_out.chunks_exact_mut(channels);
        let mut marks = labels_out.iter_mut();
        for z in 0..d {
            for y in 0..h {
                let (z, y) = (z as f32 - centre[0], y as f32 - centre[1]);
                let start = [0, 1, 2].map(|axis| m[axis][0] * z + m[axis][1] * y + centre[axis]);
                let inside = grid.inside(start, step, centre[2]);
                for x in 0..w {
                    let along = x as f32 - centre[2];
                    let place = [0, 1, 2].map(|axis| start[axis] + step[axis] * along);
                    let (value, mark) = (values.next().expect("one per voxel"), marks.next().expect("one per voxel"));
                    match inside.contains(&x) {
                        true => grid.sample_inside(image, labels, place, value, mark),
                        false => grid.sample_anywhere(image, labels, place, value, mark),
                    }
                }
            }
        }
    }
}

/// Extents, and elements of the image from row to row and from plane to plane.
struct Grid {
    extents: [usize; 3],
    row: usize,
    plane: usize,
}

impl Grid {
    /// The part of a row whose places `start + step * (x - centre)` surely have eight neighbours. The margin is many
    /// times the rounding of a place; voxels in it take the careful way, which gives the same.
    fn inside(&self, start: [f32; 3], step: [f32; 3], centre: f32) -> std::ops::Range<usize> {
        let (mut first, mut last) = (0.0f32, self.extents[2] as f32 - 1.0);
        for axis in 0..3 {
            let extent = self.extents[axis] as f32;
            let margin = 1e-3 + 1e-6 * extent;
            let (low, high) = (margin - start[axis], extent - 1.0 - margin - start[axis]);
            if step[axis].abs() < 1e-9 {
                // The place hardly moves along the row: all or nothing.
                if low > 0.0 || high < 0.0 {
                    return 0..0;
                }
                continue;
            }
            let ends = [low / step[axis] + centre, high / step[axis] + centre];
            first = first.max(ends[0].min(ends[1]).ceil());
            last = last.min(ends[0].max(ends[1]).floor());
        }
        if first <= last { first as usize..last as usize + 1 } else { 0..0 }
    }

    /// Each channel, and the label, at a place between eight voxels.
    #[inline(always)]
    fn sample_inside(&self, image: &[f32], labels: &[u8], place: [f32; 3], value: &mut [f32], mark: &mut u8) {
        let channels = value.len();
        let [z, y, x] = place.map(|place| place as i32 as usize);
        let [fz, fy, fx] = [place[0] - z as i32 as f32, place[1] - y as i32 as f32, place[2] - x as i32 as f32];
        let first = z * self.plane + y * self.row + x * channels;
        let rows =
            [0, self.row, self.plane, self.plane + self.row].map(|offset| &image[first + offset..][..2 * channels]);
        for (channel, value) in value.iter_mut().enumerate() {
            let [a, b, c, d] = rows.map(|row| row[channel] + (row[channels + channel] - row[channel]) * fx);
            let (near, far) = (a + (b - a) * fy, c + (d - c) * fy);
            *value = near + (far - near) * fz;
        }
        let up = |fraction: f32| usize::from(fraction >= 0.5);
        let [_, h, w] = self.extents;
        *mark = labels[((z + up(fz)) * h + y + up(fy)) * w + x + up(fx)];
    }

    /// The same for any place; neighbours outside count as 0.
    #[inline(never)]
    fn sample_anywhere(&self, image: &[f32], labels: &[u8], place: [f32; 3], value: &mut [f32], mark: &mut u8) {
        let (channels, [d, h, w]) = (value.len(), self.extents);
        let is_in = |at: [i32; 3]| at.into_iter().zip([d, h, w]).all(|(at, extent)| at >= 0 && (at as usize) < extent);
        value.fill(0.0);
        *mark = 0;
        if place.into_iter().zip([d, h, w]).any(|(place, extent)| place <= -1.0 || place >= extent as f32) {
            return;
        }
        let floor = place.map(f32::floor);
        let [fz, fy, fx] = [0, 1, 2].map(|axis| place[axis] - floor[axis]);
        let [z, y, x] = floor.map(|place| place as i32);
        for corner in 0..8 {
            let at = [z + (corner >> 2), y + (corner >> 1 & 1), x + (corner & 1)];
            if is_in(at) {
                let weight = |bit: i32, fraction: f32| if corner >> bit & 1 == 1 { fraction } else { 1.0 - fraction };
                let weight = weight(2, fz) * weight(1, fy) * weight(0, fx);
                let first = at[0] as usize * self.plane + at[1] as usize * self.row + at[2] as usize * channels;
                value.iter_mut().zip(&image[first..]).for_each(|(value, voxel)| *value += weight * voxel);
            }
        }
        let up = |fraction: f32| i32::from(fraction >= 0.5);
        let at = [z + up(fz), y + up(fy), x + up(fx)];
        if is_in(at) {
            *mark = labels[(at[0] as usize * h + at[1] as usize) * w + at[2] as usize];
        }
    }
}

/// Copies a volume with some axes reversed.
fn mirror<T: Copy>([d, h, w]: [usize; 3], flip: [bool; 3], from: &[T], channels: usize, to: &mut [T]) {
    let row = w * channels;
    for (index, out) in to.chunks_exact_mut(row).enumerate() {
        let (z, y) = (index / h, index % h);
        let (z, y) = (if flip[0] { d - 1 - z } else { z }, if flip[1] { h - 1 - y } else { y });
        let from = &from[(z * h + y) * row..][..row];
        if flip[2] && channels == 1 {
            out.iter_mut().zip(from.iter().rev()).for_each(|(out, voxel)| *out = *voxel);
        } else if flip[2] {
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
                recipe.changes().gather::<0>(EXTENTS, &image, &labels, &mut gathered, &mut labels_gathered);
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
