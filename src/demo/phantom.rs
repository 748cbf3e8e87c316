//! Draws one synthetic volume: shapes in mm, contrast, bias field, noise, and an affine that is not the identity.

use std::f64::consts::{PI, TAU};

use crate::{formats::Header, random::Stream, volume::Grid};

/// Extents D, H, W.
pub(super) const EXTENTS: [usize; 3] = [32, 48, 32];

/// Voxel spacing along x, y, z in mm.
const SPACING: [f64; 3] = [1.0, 0.8, 1.4];

/// Mean intensity of the background; the rest is relative to it. The numbers resemble those of an MR scanner.
const BACKGROUND: f64 = 400.0;

/// How much brighter the body is, and how much darker the bite.
const CONTRAST: [f64; 2] = [0.28, -0.26];

/// Standard deviation of the noise: over a third of the contrast, so that a voxel alone is ambiguous.
const NOISE: f64 = 0.10;

/// Amplitude of the bias field's exponent, per wave.
const BIAS: f64 = 0.05;

/// A volume with its truth.
pub(super) struct Phantom {
    pub header: Header,
    /// Whole numbers, `[D, H, W]`.
    pub image: Vec<f32>,
    /// 0, 1 or 2, `[D, H, W]`.
    pub labels: Vec<u8>,
}

type Point = [f64; 3];

impl Phantom {
    /// The volume number `case` under this seed.
    pub fn draw(seed: u64, case: usize) -> Self {
        let mut stream = Stream::new(seed, &format!("demo/{case}"));
        let middle: Point = std::array::from_fn(|axis| 0.5 * SPACING[axis] * (extent(axis) - 1) as f64);
        let jitter = |stream: &mut Stream, by: f64| -> Point { std::array::from_fn(|_| stream.between(-by, by)) };

        let shift = jitter(&mut stream, 4.0);
        let body = Blob::draw(&mut stream, add(middle, shift), 9.0, 13.0);
        // The bite sits near the body's surface, on any side.
        let towards = direction(&mut stream);
        let reach = stream.between(6.0, 9.0);
        let bite = Blob::draw(&mut stream, add(body.centre, towards.map(|part| part * reach)), 6.5, 8.5);
        let bias: Vec<Wave> = (0..4).map(|_| Wave::draw(&mut stream, 45.0, 90.0)).collect();
        let gain = stream.between(0.8, 1.25);
        let contrast = CONTRAST.map(|contrast| contrast * stream.between(0.9, 1.1));
        let header = header(&mut stream);

        let [depth, height, width] = EXTENTS;
        let mut image = Vec::with_capacity(depth * height * width);
        let mut labels = Vec::with_capacity(depth * height * width);
        for z in 0..depth {
            for y in 0..height {
                for x in 0..width {
                    let place = [x as f64 * SPACING[0], y as f64 * SPACING[1], z as f64 * SPACING[2]];
                    let (body, bite) = (body.level(place), bite.level(place));
                    labels.push(if bite > 0.0 { 2 } else { u8::from(body > 0.0) });
                    let bite_share = share(bite);
                    let tissue = 1.0 + contrast[0] * share(body) * (1.0 - bite_share) + contrast[1] * bite_share;
                    let bias = bias.iter().map(|wave| BIAS * wave.height(place)).sum::<f64>().exp();
                    let value = BACKGROUND * gain * (tissue * bias + NOISE * stream.normal());
                    image.push(value.round().max(0.0) as f32);
                }
            }
        }
        Self { header, image, labels }
    }
}

/// An ellipsoid of random pose whose surface three waves bend.
struct Blob {
    centre: Point,
    /// Unit axes, each divided by its radius in mm.
    axes: [Point; 3],
    waves: [Wave; 3],
}

impl Blob {
    fn draw(stream: &mut Stream, centre: Point, smallest_radius: f64, largest_radius: f64) -> Self {
        let axes = rotation(stream, PI).map(|axis| {
            let radius = stream.between(smallest_radius, largest_radius);
            axis.map(|part| part / radius)
        });
        let waves = std::array::from_fn(|_| Wave::draw(stream, 14.0, 22.0));
        Self { centre, axes, waves }
    }

    /// Roughly the depth in mm below the surface, negative outside.
    fn level(&self, place: Point) -> f64 {
        let offset: Point = std::array::from_fn(|axis| place[axis] - self.centre[axis]);
        let radius = self.axes.iter().map(|axis| dot(*axis, offset).powi(2)).sum::<f64>().sqrt();
        let bend: f64 = self.waves.iter().map(|wave| 0.06 * wave.height(offset)).sum();
        let mean_radius = self.axes.iter().map(|axis| 1.0 / dot(*axis, *axis).sqrt()).sum::<f64>() / 3.0;
        mean_radius * (1.0 + bend - radius)
    }
}

/// A plane cosine wave.
struct Wave {
    /// Radians per mm.
    vector: Point,
    phase: f64,
}

impl Wave {
    fn draw(stream: &mut Stream, shortest: f64, longest: f64) -> Self {
        let wavelength = stream.between(shortest, longest);
        Self { vector: direction(stream).map(|part| TAU * part / wavelength), phase: stream.between(0.0, TAU) }
    }

    fn height(&self, place: Point) -> f64 {
        (dot(self.vector, place) + self.phase).cos()
    }
}

/// How much of a voxel at this depth in mm is inside: a soft edge about one voxel wide, as the partial-volume effect
/// makes it.
fn share(level: f64) -> f64 {
    1.0 / (1.0 + (-4.0 * level).exp())
}

/// A header with spacing, a rotation of up to 20 degrees about each axis and a first axis that runs right to left.
fn header(stream: &mut Stream) -> Header {
    let mut grid = Grid::spaced([0, 1, 2].map(extent), SPACING);
    let rotation = rotation(stream, PI / 9.0);
    let direction = [-1.0, 1.0, 1.0];
    for (row, axis) in grid.affine.iter_mut().zip(rotation) {
        for column in 0..3 {
            row[column] = f64::from((axis[column] * direction[column] * SPACING[column]) as f32);
        }
        row[3] = stream.between(-80.0, 80.0).round();
    }
    Header::on(grid)
}

/// The extent along the file's axis 0 (x), 1 (y) or 2 (z).
fn extent(axis: usize) -> usize {
    EXTENTS[2 - axis]
}

/// Three orthonormal rows: the product of rotations about z, y and x by up to `most` radians each.
fn rotation(stream: &mut Stream, most: f64) -> [Point; 3] {
    let [(sx, cx), (sy, cy), (sz, cz)] = std::array::from_fn(|_| stream.between(-most, most).sin_cos());
    [
        [cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx],
        [sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx],
        [-sy, cy * sx, cy * cx],
    ]
}

/// Uniform on the unit sphere.
fn direction(stream: &mut Stream) -> Point {
    let (sine, cosine) = stream.between(0.0, TAU).sin_cos();
    let height = stream.between(-1.0, 1.0);
    let radius = (1.0 - height * height).sqrt();
    [radius * cosine, radius * sine, height]
}

fn dot(a: Point, b: Point) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

fn add(a: Point, b: Point) -> Point {
    std::array::from_fn(|axis| a[axis] + b[axis])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::Overlap;

    /// The best mean foreground Dice of labelling by intensity alone, with z-scored volumes and, for each class, the
    /// intensity window that suits the truth best.
    fn best_window_dice(volumes: &[(Vec<f32>, Vec<u8>)]) -> f64 {
        const BINS: usize = 60;
        let dice_of = |class: u8| {
            let mut histogram = [[0u64; 2]; BINS];
            for (image, labels) in volumes {
                let count = image.len() as f64;
                let mean = image.iter().map(|&v| f64::from(v)).sum::<f64>() / count;
                let variance = image.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / count;
                for (&value, &label) in image.iter().zip(labels) {
                    let bin = ((f64::from(value) - mean) / variance.sqrt() + 3.0) * BINS as f64 / 6.0;
                    histogram[(bin.max(0.0) as usize).min(BINS - 1)][usize::from(label == class)] += 1;
                }
            }
            let truth = histogram.iter().map(|bin| bin[1]).sum();
            let mut best = 0f64;
            for low in 0..BINS {
                let mut overlap = Overlap { truth, ..Overlap::default() };
                for bin in &histogram[low..] {
                    overlap += Overlap { intersection: bin[1], prediction: bin[0] + bin[1], truth: 0 };
                    best = best.max(overlap.dice().unwrap());
                }
            }
            best
        };
        (dice_of(1) + dice_of(2)) / 2.0
    }

    /// Mean over the cube of 5 voxels around each voxel, cut at the edges.
    fn smoothed(image: &[f32]) -> Vec<f32> {
        let mut image = image.to_vec();
        for (stride, extent) in [(1, EXTENTS[2]), (EXTENTS[2], EXTENTS[1]), (EXTENTS[2] * EXTENTS[1], EXTENTS[0])] {
            let source = image.clone();
            for (index, value) in image.iter_mut().enumerate() {
                let place = index / stride % extent;
                let around = place.saturating_sub(2)..(place + 3).min(extent);
                let count = around.len() as f32;
                *value = around.map(|other| source[index + other * stride - place * stride]).sum::<f32>() / count;
            }
        }
        image
    }

    #[test]
    fn no_threshold_solves_the_task_and_neighbourhoods_say_far_more() {
        let volumes: Vec<_> = (0..12).map(|case| Phantom::draw(5, case)).map(|p| (p.image, p.labels)).collect();
        let plain = best_window_dice(&volumes);
        let volumes: Vec<_> = volumes.into_iter().map(|(image, labels)| (smoothed(&image), labels)).collect();
        let smooth = best_window_dice(&volumes);
        println!("best threshold {plain:.3}, after smoothing {smooth:.3}");
        assert!(plain < 0.6 && smooth > plain + 0.1 && smooth < 0.85, "{plain} {smooth}");
    }

    #[test]
    fn both_classes_are_substantial_and_the_shapes_differ_between_cases() {
        for case in 0..12 {
            let phantom = Phantom::draw(5, case);
            for class in 1..3 {
                let share = phantom.labels.iter().filter(|&&label| label == class).count() as f64 / 49152.0;
                assert!((0.015..0.25).contains(&share), "case {case}, class {class}: {share}");
            }
            assert!(phantom.image.iter().all(|value| value.is_finite() && *value >= 0.0));
        }
        assert_ne!(Phantom::draw(5, 0).labels, Phantom::draw(5, 1).labels);
        assert_ne!(Phantom::draw(5, 0).labels, Phantom::draw(6, 0).labels);
    }
}
