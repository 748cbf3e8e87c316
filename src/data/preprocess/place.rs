//! Brings a volume to the network's extents, and what the network says back to the volume's grid.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::{Result, volume::Shared};

/// How a volume comes to the network's extents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fit {
    /// Keep the voxels; pad with zeros, or crop, on both sides alike.
    #[default]
    Pad,
    /// Stretch each axis: images by trilinear interpolation, labels by the nearest voxel.
    Resize,
}

/// The way from a volume's grid to the network's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The network sees the box that begins at this voxel, D H W, which may lie outside the volume.
    Region([isize; 3]),
    /// The network sees all of the volume, stretched.
    Stretch,
}

/// A volume's grid and the network's, D H W, and the way between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The volume's extents.
    pub source: [usize; 3],
    /// The network's extents.
    pub target: [usize; 3],
    /// The way.
    pub way: Way,
}

impl Placement {
    /// The whole volume, as far as it fits: centred, with an odd voxel at the far end, or stretched.
    pub fn whole(source: [usize; 3], target: [usize; 3], fit: Fit) -> Self {
        let half = |axis: usize| match (source[axis], target[axis]) {
            (source, target) if source < target => -(((target - source) / 2) as isize),
            (source, target) => ((source - target) / 2) as isize,
        };
        let way = match fit {
            Fit::Pad => Way::Region([0, 1, 2].map(half)),
            Fit::Resize => Way::Stretch,
        };
        Self { source, target, way }
    }

    /// The axial slices of the volume that the network sees something of.
    pub fn slices(&self) -> Range<usize> {
        match self.way {
            Way::Stretch => 0..self.source[0],
            Way::Region(start) => {
                let Shared { source, length, .. } = Shared::of(self.source[0], start[0], self.target[0]);
                source..source + length
            }
        }
    }

    /// The same way for a volume of which only these slices are at hand.
    pub fn of_slices(&self, slices: &Range<usize>) -> Self {
        let mut shifted = Self { source: [slices.len(), self.source[1], self.source[2]], ..*self };
        if let Way::Region(start) = &mut shifted.way {
            start[0] -= slices.start as isize;
        }
        shifted
    }

    /// Spacing on the network's grid, by the volume's spacing; any order of axes, as long as it is that of the extents.
    pub fn spacing(&self, spacing: [f64; 3]) -> [f64; 3] {
        match self.way {
            Way::Region(_) => spacing,
            Way::Stretch => [0, 1, 2].map(|axis| spacing[axis] * self.source[axis] as f64 / self.target[axis] as f64),
        }
    }

    /// An image `[C, D, H, W]` on the volume's grid to `[D, H, W, C]` on the network's.
    ///
    /// # Panics
    /// When a slice does not have its grid's extents.
    pub fn fit_planar(&self, image: &[f32], channels: usize, out: &mut [f32]) {
        let voxels = elements(self.source);
        assert_eq!((image.len(), out.len()), (voxels * channels, elements(self.target) * channels));
        match self.way {
            Way::Region(start) => {
                out.fill(0.0);
                self.rows(start, |from, to, length| {
                    for channel in 0..channels {
                        let row = &image[channel * voxels + from..][..length];
                        let out = out[to * channels..][..length * channels].iter_mut().skip(channel).step_by(channels);
                        out.zip(row).for_each(|(out, value)| *out = *value);
                    }
                });
            }
            Way::Stretch => {
                let plane = self.source[1] * self.source[2];
                let mut next = 0;
                let read = |slice: &mut [f32]| {
                    let channels = slice.chunks_exact_mut(plane).enumerate();
                    channels.for_each(|(c, slice)| slice.copy_from_slice(&image[c * voxels + next..][..plane]));
                    next += plane;
                    Ok(())
                };
                self.stretch_slices(channels, read, out).expect("memory can be read");
            }
        }
    }

    /// Stretches an image that comes slice by slice to the network's grid, `[D, H, W, C]`. `read` fills in the next slice
    /// `[C, H, W]` of the volume; two of them are kept.
    ///
    /// # Errors
    /// What `read` returns.
    ///
    /// # Panics
    /// When `out` does not have its grid's extents.
    pub fn stretch_slices(
        &self,
        channels: usize,
        mut read: impl FnMut(&mut [f32]) -> Result<()>,
        out: &mut [f32],
    ) -> Result<()> {
        let ([_, h, w], plane) = (self.source, self.source[1] * self.source[2]);
        assert_eq!(out.len(), elements(self.target) * channels);
        let layout = Layout { voxel: 1, channel: plane };
        let mut two = [vec![0.0; plane * channels], vec![0.0; plane * channels]];
        let mut have = 0;
        let slices = out.chunks_exact_mut(out.len() / self.target[0]);
        for (tap, out) in taps(self.source[0], self.target[0]).into_iter().zip(slices) {
            while have <= tap.high {
                read(&mut two[have % 2])?;
                have += 1;
            }
            let pair = [&two[tap.low % 2][..], &two[tap.high % 2][..]];
            interpolate_slice(pair, tap.weight, [h, w], layout, channels, [self.target[1], self.target[2]], out);
        }
        // The rest is read too: only a file read to its end is a verified one.
        (have..self.source[0]).try_for_each(|slice| read(&mut two[slice % 2]))
    }

    /// One slice of values `[D, H, W, C]` on the network's grid, stretched back to the volume's.
    ///
    /// # Panics
    /// When `values` or `out` do not have their grid's extents.
    pub fn stretch_back_slice(&self, values: &[f32], channels: usize, slice: usize, out: &mut [f32]) {
        assert_eq!(values.len(), elements(self.target) * channels);
        let tap = taps(self.target[0], self.source[0])[slice];
        let plane = values.len() / self.target[0];
        let pair = [tap.low, tap.high].map(|z| &values[z * plane..][..plane]);
        let layout = Layout { voxel: channels, channel: 1 };
        let [extent, to] = [self.target, self.source].map(|[_, h, w]| [h, w]);
        interpolate_slice(pair, tap.weight, extent, layout, channels, to, out);
    }

    /// Labels below 256 on the volume's grid to the network's.
    ///
    /// # Panics
    /// When a slice does not have its grid's extents.
    pub fn fit_labels(&self, labels: &[u16], out: &mut [u8]) {
        assert_eq!((labels.len(), out.len()), (elements(self.source), elements(self.target)));
        match self.way {
            Way::Region(start) => {
                out.fill(0);
                self.rows(start, |from, to, length| {
                    let rows = out[to..][..length].iter_mut().zip(&labels[from..][..length]);
                    rows.for_each(|(out, label)| *out = *label as u8);
                });
            }
            Way::Stretch => nearest(self.source, self.target, |to, from| out[to] = labels[from] as u8),
        }
    }

    /// Labels on the network's grid back to the volume's; what was cropped away is background.
    ///
    /// # Panics
    /// When `labels` does not have the network's extents.
    pub fn unfit_labels(&self, labels: &[u8]) -> Vec<u8> {
        assert_eq!(labels.len(), elements(self.target));
        let mut out = vec![0; elements(self.source)];
        match self.way {
            Way::Region(start) => {
                self.rows(start, |to, from, length| out[to..][..length].copy_from_slice(&labels[from..][..length]));
            }
            Way::Stretch => nearest(self.target, self.source, |to, from| out[to] = labels[from]),
        }
        out
    }

    /// Values `[D, H, W, C]` on the network's grid back to the volume's, C being the length of `outside`: the value of
    /// voxels that were cropped away (for probabilities: 1 for the background).
    ///
    /// # Panics
    /// When `values` does not have the network's extents times C.
    pub fn unfit_values(&self, values: &[f32], outside: &[f32]) -> Vec<f32> {
        let channels = outside.len();
        assert_eq!(values.len(), elements(self.target) * channels);
        match self.way {
            Way::Region(start) => {
                let mut out = outside.repeat(elements(self.source));
                self.rows(start, |to, from, length| {
                    out[to * channels..][..length * channels]
                        .copy_from_slice(&values[from * channels..][..length * channels]);
                });
                out
            }
            Way::Stretch => {
                let mut out = vec![0.0; elements(self.source) * channels];
                let slices = out.chunks_exact_mut(self.source[1] * self.source[2] * channels);
                slices.enumerate().for_each(|(z, out)| self.stretch_back_slice(values, channels, z, out));
                out
            }
        }
    }

    /// What a volume and a box that begins at its voxel `start` share, D H W. All the rest of the box is padding.
    pub(super) fn shared(&self, start: [isize; 3]) -> [Shared; 3] {
        [0, 1, 2].map(|axis| Shared::of(self.source[axis], start[axis], self.target[axis]))
    }

    /// Visits the rows that both grids share: places of the first voxel, and length.
    fn rows(&self, start: [isize; 3], mut visit: impl FnMut(usize, usize, usize)) {
        let [d, h, w] = self.shared(start);
        for z in 0..d.length {
            for y in 0..h.length {
                let from = ((d.source + z) * self.source[1] + h.source + y) * self.source[2] + w.source;
                let to = ((d.target + z) * self.target[1] + h.target + y) * self.target[2] + w.target;
                visit(from, to, w.length);
            }
        }
    }
}

fn elements(extents: [usize; 3]) -> usize {
    extents.iter().product()
}

/// Steps between voxels and between channels, in elements.
#[derive(Clone, Copy)]
struct Layout {
    voxel: usize,
    channel: usize,
}

/// The two voxels around a place, and the second one's weight.
#[derive(Clone, Copy)]
struct Tap {
    low: usize,
    high: usize,
    weight: f32,
}

/// Where the centres of `target` voxels lie among `source` voxels: voxels are boxes that fill the same length, and
/// beyond the outermost centres the outermost value goes on.
fn taps(source: usize, target: usize) -> Vec<Tap> {
    let place = |index: usize| (index as f64 + 0.5) * source as f64 / target as f64 - 0.5;
    let tap = |place: f64| {
        let place = place.clamp(0.0, source as f64 - 1.0);
        let low = place as usize;
        Tap { low, high: (low + 1).min(source - 1), weight: (place - low as f64) as f32 }
    };
    (0..target).map(place).map(tap).collect()
}

/// Trilinear interpolation to one slice `[H, W, C]` between a pair of slices of extents H, W.
fn interpolate_slice(
    [low, high]: [&[f32]; 2],
    weight: f32,
    [height, width]: [usize; 2],
    layout: Layout,
    channels: usize,
    [to_height, to_width]: [usize; 2],
    out: &mut [f32],
) {
    let (h, w) = (taps(height, to_height), taps(width, to_width));
    let mut out = out.iter_mut();
    for y in &h {
        let rows = [(low, y.low), (low, y.high), (high, y.low), (high, y.high)];
        for x in &w {
            for channel in 0..channels {
                let at = |(slice, y): (&[f32], usize), x: usize| {
                    slice[(y * width + x) * layout.voxel + channel * layout.channel]
                };
                let [a, b, c, d] = rows.map(|row| mix(at(row, x.low), at(row, x.high), x.weight));
                *out.next().expect("as many as asked for") = mix(mix(a, b, y.weight), mix(c, d, y.weight), weight);
            }
        }
    }
}

fn mix(low: f32, high: f32, weight: f32) -> f32 {
    low + (high - low) * weight
}

/// Visits each target voxel with the source voxel that its centre lies in.
fn nearest(source: [usize; 3], target: [usize; 3], mut visit: impl FnMut(usize, usize)) {
    // In integers, so that a centre on a boundary belongs to the same side on every machine.
    let index = |axis: usize| (0..target[axis]).map(move |i| (2 * i + 1) * source[axis] / (2 * target[axis]));
    let mut to = 0;
    for z in index(0) {
        for y in index(1) {
            for x in index(2) {
                visit(to, (z * source[1] + y) * source[2] + x);
                to += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placement(source: [usize; 3], target: [usize; 3], fit: Fit) -> Placement {
        Placement::whole(source, target, fit)
    }

    #[test]
    fn padding_and_cropping_are_centred_and_interleave_channels() {
        // D is padded (2 -> 3), H cropped (3 -> 2), W kept.
        let placement = placement([2, 3, 2], [3, 2, 2], Fit::Pad);
        let image: Vec<f32> = (1..=24).map(|i| i as f32).collect();
        let mut out = vec![-1.0; 24];
        placement.fit_planar(&image, 2, &mut out);
        #[rustfmt::skip]
        assert_eq!(out, [
            1.0, 13.0, 2.0, 14.0, 3.0, 15.0, 4.0, 16.0,
            7.0, 19.0, 8.0, 20.0, 9.0, 21.0, 10.0, 22.0,
            0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0,
        ]);
        let mut labels = vec![9; 12];
        placement.fit_labels(&(1..=12).collect::<Vec<u16>>(), &mut labels);
        assert_eq!(labels, [1, 2, 3, 4, 7, 8, 9, 10, 0, 0, 0, 0]);
    }

    #[test]
    fn what_was_padded_comes_back_and_what_was_cropped_is_background() {
        for (source, target) in [([5, 3, 7], [8, 8, 8]), ([5, 9, 7], [4, 4, 4]), ([1, 2, 3], [3, 2, 1])] {
            let placement = placement(source, target, Fit::Pad);
            let labels: Vec<u16> = (0..elements(source)).map(|i| (i % 7 + 1) as u16).collect();
            let mut fitted = vec![0; elements(target)];
            placement.fit_labels(&labels, &mut fitted);
            let back = placement.unfit_labels(&fitted);
            let kept = back.iter().filter(|label| **label != 0).count();
            assert_eq!(kept, (0..3).map(|a| source[a].min(target[a])).product::<usize>());
            assert!(back.iter().zip(&labels).all(|(back, label)| *back == 0 || u16::from(*back) == *label));

            let values: Vec<f32> = fitted.iter().flat_map(|label| [f32::from(*label), -1.0]).collect();
            let back_values = placement.unfit_values(&values, &[0.0, 5.0]);
            assert!(back_values.chunks(2).zip(&back).all(|(value, label)| value[0] == f32::from(*label)));
            assert!(back_values.chunks(2).zip(&back).all(|(value, label)| (value[1] == 5.0) == (*label == 0)));
        }
    }

    #[test]
    fn resizing_keeps_a_ramp_and_its_place() {
        let placement = placement([4, 6, 5], [8, 3, 5], Fit::Resize);
        let ramp = |i: usize| ((i / 30) * 100 + (i / 5 % 6) * 10 + i % 5) as f32;
        let image: Vec<f32> = (0..120).map(ramp).collect();
        let mut out = vec![0.0; 120];
        placement.fit_planar(&image, 1, &mut out);
        for (i, value) in out.iter().enumerate() {
            let z = ((i / 15) as f64 + 0.5) / 2.0 - 0.5;
            let y = ((i / 5 % 3) as f64 + 0.5) * 2.0 - 0.5;
            let expected = z.clamp(0.0, 3.0) * 100.0 + y * 10.0 + (i % 5) as f64;
            assert!((f64::from(*value) - expected).abs() < 1e-4, "{i}: {value} for {expected}");
        }
        assert_eq!(placement.spacing([1.0, 1.0, 1.0]), [0.5, 2.0, 1.0]);
        let same = Placement { target: [4, 6, 5], ..placement };
        assert_eq!(same.unfit_values(&image, &[0.0]), image);
    }

    #[test]
    fn labels_stretched_by_a_whole_factor_come_back_unchanged() {
        let placement = placement([3, 4, 5], [6, 12, 10], Fit::Resize);
        let labels: Vec<u16> = (0..60).map(|i| i * 3 % 5).collect();
        let mut fitted = vec![0; 720];
        placement.fit_labels(&labels, &mut fitted);
        assert!(placement.unfit_labels(&fitted).iter().zip(&labels).all(|(a, b)| u16::from(*a) == *b));
    }
}
