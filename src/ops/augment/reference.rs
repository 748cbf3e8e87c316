//! The definition.

use super::{Augment, layout, volume};
use crate::{
    data::augment::{Changes, numbers::Row},
    graph::reference::{Dense, Real},
    random::{philox, unit},
    tensor::{Spec, Volume},
};

/// Where a result comes from: the voxel before it along each axis, and the share of the way to the next one.
struct Source {
    at: [i64; 3],
    fraction: [f32; 3],
}

/// The voxels of a case: no index is out of range.
struct Grid([i64; 3]);

impl Grid {
    fn index(&self, at: [i64; 3]) -> Option<usize> {
        let is_inside = at.iter().zip(self.0).all(|(&at, extent)| (0..extent).contains(&at));
        is_inside.then(|| ((at[0] * self.0[1] + at[1]) * self.0[2] + at[2]) as usize)
    }

    fn position(&self, voxel: usize) -> [i64; 3] {
        let voxel = voxel as i64;
        [voxel / (self.0[1] * self.0[2]), voxel / self.0[2] % self.0[1], voxel % self.0[2]]
    }

    /// In single precision whatever the reference's precision is: that is the definition.
    fn source(&self, matrix: [[f32; 3]; 3], target: [i64; 3]) -> Source {
        let centre = self.0.map(|extent| (extent as f32 - 1.0) * 0.5);
        let offset = [0, 1, 2].map(|axis| target[axis] as f32 - centre[axis]);
        let place = [0, 1, 2].map(|axis| {
            let row = matrix[axis];
            row[0] * offset[0] + row[1] * offset[1] + centre[axis] + row[2] * offset[2]
        });
        Source { at: place.map(|x| x.floor() as i64), fraction: place.map(|x| x - x.floor()) }
    }
}

impl Augment {
    pub(super) fn reference<T: Real>(&self, inputs: &[Dense<T>], outputs: &[Spec]) -> Vec<Dense<T>> {
        let shape = volume(&outputs[0]);
        let voxels: usize = shape.extent.iter().product();
        let grid = Grid(shape.extent.map(|extent| extent as i64));
        let numbers: Vec<f32> = inputs[inputs.len() - 1].data.iter().map(|x| x.f64() as f32).collect();
        let mut results: Vec<Dense<T>> = outputs.iter().map(|spec| Dense::zeros(spec.shape)).collect();
        for (case, numbers) in numbers.chunks_exact(layout(shape).row()).enumerate() {
            let row = Row::new(layout(shape), numbers);
            let matrix = row.changes().matrix;
            let image = &inputs[0].data[case * voxels * shape.c..][..voxels * shape.c];
            let result = &mut results[0].data[case * voxels * shape.c..][..voxels * shape.c];
            for (index, value) in result.iter_mut().enumerate() {
                let source = grid.source(matrix, grid.position(index / shape.c));
                *value = interpolated(&grid, row, image, &source, index % shape.c, shape.c);
            }
            intensity(row.changes(), result, shape);
            if self.labels {
                for voxel in 0..voxels {
                    let Source { at, fraction } = grid.source(matrix, grid.position(voxel));
                    let nearest = [0, 1, 2].map(|axis| at[axis] + i64::from(fraction[axis] >= 0.5));
                    if let Some(from) = grid.index(nearest) {
                        results[1].data[case * voxels + voxel] = inputs[1].data[case * voxels + from];
                    }
                }
            }
        }
        results
    }
}

/// The eight voxels around a place, weighted by what is left of one on each axis.
fn interpolated<T: Real>(
    grid: &Grid,
    row: Row<'_>,
    image: &[T],
    source: &Source,
    channel: usize,
    channels: usize,
) -> T {
    let one = T::of(1.0);
    let mut sum = T::of(0.0);
    for corner in 0..8 {
        let bits = [corner >> 2 & 1, corner >> 1 & 1, corner & 1];
        let at = [0, 1, 2].map(|axis| source.at[axis] + bits[axis]);
        let Some(voxel) = grid.index(at) else { continue };
        let weight = |axis: usize| {
            let fraction = T::of(f64::from(source.fraction[axis]));
            if bits[axis] == 1 { fraction } else { one - fraction }
        };
        let value = scored(row, image[voxel * channels + channel], at.map(|at| at as usize), channel);
        sum += weight(0) * weight(1) * weight(2) * value;
    }
    sum
}

fn scored<T: Real>(row: Row<'_>, value: T, at: [usize; 3], channel: usize) -> T {
    let zero = T::of(0.0);
    if !row.bounds().iter().zip(at).all(|(bounds, at)| bounds.contains(&at)) {
        return zero;
    }
    let [low, high] = row.limits(channel).map(|x| T::of(f64::from(x)));
    let score = row.score(at[0], channel);
    let value = value.max(low).min(high);
    if score.keeps_zero != 0.0 && value == zero {
        return zero;
    }
    let [mean, rest, scale] = [score.mean, score.rest, score.scale].map(|x| T::of(f64::from(x)));
    (value - mean - rest) * scale
}

fn intensity<T: Real>(changes: Changes<'_>, image: &mut [T], Volume { c, .. }: Volume) {
    let zero = T::of(0.0);
    for (channel, point) in changes.channels.iter().enumerate() {
        let [gamma, scale, shift] = [point.gamma, point.scale, point.shift].map(|x| T::of(f64::from(x)));
        let values = || image.iter().skip(channel).step_by(c).copied().filter(|value| *value != zero);
        let low = values().fold(T::of(f64::INFINITY), Real::min);
        let range = values().fold(T::of(f64::NEG_INFINITY), Real::max) - low;
        let is_bent = point.gamma != 1.0;
        // Nothing, or nothing but one value, has no range.
        let has_range = range > zero;
        if is_bent && !has_range {
            continue;
        }
        for value in image.iter_mut().skip(channel).step_by(c).filter(|value| **value != zero) {
            let bent = |value: T| low + range * (gamma * ((value - low) / range).ln()).exp();
            *value = if is_bent { bent(*value) } else { *value } * scale + shift;
        }
    }
    if changes.noise > 0.0 {
        let deviation = T::of(f64::from(changes.noise));
        for (element, value) in image.iter_mut().enumerate().filter(|(_, value)| **value != zero) {
            let block = (element / 4) as u64;
            let words = philox(changes.noise_key, [block as u32, (block >> 32) as u32, 0, 0]);
            let lane = element % 4;
            *value += deviation * normal(words[lane & !1], words[lane | 1], lane % 2);
        }
    }
}

/// One of two standard normal numbers (Box-Muller): the one along the cosine or the one along the sine.
fn normal<T: Real>(radius: u32, angle: u32, which: usize) -> T {
    let number = |word| T::of(f64::from(unit(word)));
    let radius = (T::of(-2.0) * (T::of(1.0) - number(radius)).ln()).sqrt();
    let angle = T::of(std::f64::consts::TAU) * number(angle);
    radius * if which == 0 { angle.cos() } else { angle.sin() }
}
