//! Copies a window of a volume, with its halo, into a dense buffer that stays in the second-level cache.
//!
//! The staged layout is `[plane][row][channel block][x][block]`: a tap is then a constant offset for every voxel of a
//! tile, zero padding is ordinary data, and the microkernels need no branch at an edge. Everything that can be done to an
//! input while it is loaded (two tensors instead of their concatenation, the phases of a stride-2 grid) is
//! done here, once per voxel, and not 27 times.

use std::ops::Range;

use crate::cpu::{elementwise::vectorised, simd::Isa};

/// Channels of one block of a staged input.
pub(super) const BLOCK: usize = 16;

/// Consecutive channels that lie in one tensor.
#[derive(Clone, Copy)]
pub(super) struct Segment<'a> {
    pub data: &'a [f32],
    /// Element of voxel (0, 0, 0, 0).
    pub offset: usize,
    /// Elements from one sample, plane, row and voxel to the next.
    pub strides: [usize; 4],
    pub channels: usize,
}

impl<'a> Segment<'a> {
    /// A dense N D H W C tensor.
    pub(super) fn dense(data: &'a [f32], extents: [usize; 3], channels: usize) -> Self {
        Self { data, offset: 0, strides: dense_strides(extents, channels), channels }
    }

    /// The voxel pairs `(2 d + pd, 2 h + ph, 2 w)` and `(.., 2 w + 1)` of a dense tensor of twice the `extents`, as one
    /// voxel of `2 * channels` channels each: the two lie side by side. `phase = 2 pd + ph`.
    pub(super) fn phase(data: &'a [f32], extents: [usize; 3], channels: usize, phase: usize) -> Self {
        Self {
            data,
            offset: phase_offset(extents, channels, phase),
            strides: phase_strides(extents, channels),
            channels: 2 * channels,
        }
    }
}

/// The most tensors that one source can be made of: the phases of a 2x2x2 stride-2 grid.
pub(super) const PHASES: usize = 4;

/// Elements from one sample, plane, row and voxel pair of a phase to the next.
pub(super) fn phase_strides(extents: [usize; 3], channels: usize) -> [usize; 4] {
    let [n, d, h, w] = dense_strides(extents.map(|extent| 2 * extent), channels);
    [n, 2 * d, 2 * h, 2 * w]
}

/// First element of phase `2 pd + ph` in a dense tensor of twice the `extents`.
pub(super) fn phase_offset(extents: [usize; 3], channels: usize, phase: usize) -> usize {
    let [_, d, h, _] = dense_strides(extents.map(|extent| 2 * extent), channels);
    phase / 2 * d + phase % 2 * h
}

/// Elements from one sample, plane, row and voxel to the next in a dense tensor.
pub(super) fn dense_strides([d, h, w]: [usize; 3], channels: usize) -> [usize; 4] {
    [d * h * w * channels, h * w * channels, w * channels, channels]
}

/// What a convolution reads: segments side by side in the channel direction.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    segments: [Option<Segment<'a>>; PHASES],
    pub extents: [usize; 3],
}

/// Where a staged buffer lies in the volume; voxels outside are zero.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub sample: usize,
    /// First plane, row and voxel; may be negative.
    pub start: [isize; 3],
    /// Planes, rows and voxels.
    pub extents: [usize; 3],
}

impl<'a> Source<'a> {
    pub(super) fn new(segments: impl IntoIterator<Item = Segment<'a>>, extents: [usize; 3]) -> Self {
        let mut source = Self { segments: [None; PHASES], extents };
        for (slot, segment) in source.segments.iter_mut().zip(segments) {
            *slot = Some(segment);
        }
        source
    }

    /// Copies `channels` (from a multiple of `block` on) of the window into `staged`, and zeros outside the volume
    /// and in the unused channels of the last block.
    pub(super) fn stage(&self, isa: Isa, window: Window, channels: Range<usize>, block: usize, staged: &mut [f32]) {
        vectorised(isa, || self.copy(window, channels, block, staged));
    }

    #[inline(always)]
    fn copy(&self, window: Window, channels: Range<usize>, block: usize, staged: &mut [f32]) {
        let blocks = channels.len().div_ceil(block);
        let [planes, rows, width] = window.extents;
        let row_len = blocks * width * block;
        // The part of a row that lies inside the volume.
        let begin = (-window.start[2]).clamp(0, width as isize) as usize;
        let end = (self.extents[2] as isize - window.start[2]).clamp(begin as isize, width as isize) as usize;
        for plane in 0..planes {
            let d = inside(window.start[0] + plane as isize, self.extents[0]);
            for row in 0..rows {
                let h = inside(window.start[1] + row as isize, self.extents[1]);
                let start = (plane * rows + row) * row_len;
                let staged = &mut staged[start..start + row_len];
                let (Some(d), Some(h), true) = (d, h, begin < end) else {
                    staged.fill(0.0);
                    continue;
                };
                for part in staged.chunks_exact_mut(width * block) {
                    part[..begin * block].fill(0.0);
                    part[end * block..].fill(0.0);
                }
                if !channels.len().is_multiple_of(block) {
                    staged[(blocks - 1) * width * block..].fill(0.0);
                }
                let x = (window.start[2] + begin as isize) as usize;
                let mut first = 0;
                for segment in self.segments.iter().flatten() {
                    let last = first + segment.channels;
                    let (from, to) = (channels.start.max(first), channels.end.min(last));
                    if from < to {
                        let [sn, sd, sh, sw] = segment.strides;
                        let source = segment.offset + window.sample * sn + d * sd + h * sh + x * sw + from - first;
                        let run = Run { count: end - begin, stride: sw, channels: to - from };
                        run.copy(&segment.data[source..], staged, begin, width, block, from - channels.start);
                    }
                    first = last;
                }
            }
        }
    }
}

/// `index` if it lies in `0..extent`.
fn inside(index: isize, extent: usize) -> Option<usize> {
    usize::try_from(index).ok().filter(|&index| index < extent)
}

/// Voxels of a row, `stride` elements apart, of which `channels` are copied.
struct Run {
    count: usize,
    stride: usize,
    channels: usize,
}

impl Run {
    /// Copies the run to voxels `begin..` of a staged row, from channel `at` on.
    #[inline(always)]
    fn copy(&self, source: &[f32], staged: &mut [f32], begin: usize, width: usize, block: usize, at: usize) {
        let mut done = 0;
        while done < self.channels {
            let channel = at + done;
            let lane = channel % block;
            let take = (block - lane).min(self.channels - done);
            let to = (channel / block * width + begin) * block + lane;
            let (source, staged) = (&source[done..], &mut staged[to..]);
            match take {
                // Lengths known to the compiler: a call of `memcpy` per voxel would cost more than the copy.
                1 => self.copy_block::<1>(source, staged, block),
                2 => self.copy_block::<2>(source, staged, block),
                3 => self.copy_block::<3>(source, staged, block),
                4 => self.copy_block::<4>(source, staged, block),
                8 => self.copy_block::<8>(source, staged, block),
                16 => self.copy_block::<16>(source, staged, block),
                32 => self.copy_block::<32>(source, staged, block),
                _ => {
                    for voxel in 0..self.count {
                        let (from, to) = (voxel * self.stride, voxel * block);
                        staged[to..to + take].copy_from_slice(&source[from..from + take]);
                    }
                }
            }
            done += take;
        }
    }

    #[inline(always)]
    fn copy_block<const N: usize>(&self, source: &[f32], staged: &mut [f32], block: usize) {
        for voxel in 0..self.count {
            let (from, to) = (voxel * self.stride, voxel * block);
            staged[to..to + N].copy_from_slice(&source[from..from + N]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_over_the_corner_holds_zeros_outside_and_the_concatenation_inside() {
        let extents = [2, 3, 4];
        let a: Vec<f32> = (0..2 * 24 * 5).map(|i| i as f32 + 1.0).collect();
        let b: Vec<f32> = (0..2 * 24 * 30).map(|i| -(i as f32) - 1.0).collect();
        let source = Source::new([Segment::dense(&a, extents, 5), Segment::dense(&b, extents, 30)], extents);
        let window = Window { sample: 1, start: [-1, -2, -1], extents: [4, 6, 7] };
        let mut staged = vec![9.0; 4 * 6 * 3 * 7 * BLOCK];
        source.stage(Isa::best(), window, 0..35, BLOCK, &mut staged);
        for plane in 0..4 {
            for row in 0..6 {
                for x in 0..7 {
                    for c in 0..3 * BLOCK {
                        let (d, h, w) = (plane as isize - 1, row as isize - 2, x as isize - 1);
                        let inside = (0..2).contains(&d) && (0..3).contains(&h) && (0..4).contains(&w) && c < 35;
                        let voxel = 24 + (d * 12 + h * 4 + w);
                        let expected = match inside {
                            false => 0.0,
                            true if c < 5 => a[voxel as usize * 5 + c],
                            true => b[voxel as usize * 30 + c - 5],
                        };
                        let got = staged[(((plane * 6 + row) * 3 + c / BLOCK) * 7 + x) * BLOCK + c % BLOCK];
                        assert_eq!(got, expected, "{d} {h} {w} {c}");
                    }
                }
            }
        }
    }
}
