//! Copies a window of a volume, with its halo, into a dense buffer that stays in the second-level cache.
//!
//! The staged layout is `[plane][row][channel block][x][block]`: a tap is then a constant offset for every voxel of a
//! tile, zero padding is ordinary data, and the microkernels need no branch at an edge. Everything that can be done to an
//! input while it is loaded (two tensors instead of their concatenation, the phases of a stride-2 grid) is
//! done here, once per voxel, and not 27 times.

use std::ops::Range;

use crate::cpu::simd::{Isa, Kernel, Simd, dispatch};

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
    /// `x * scale + shift` per channel, applied inside the volume only: the padding stays zero.
    pub affine: Option<[&'a [f32]; 2]>,
    /// A tensor of the same layout: elements count as zero where it is not positive (the backward pass of a ReLU).
    pub mask: Option<&'a [f32]>,
}

impl<'a> Segment<'a> {
    /// A dense N D H W C tensor.
    pub(super) fn dense(data: &'a [f32], extents: [usize; 3], channels: usize) -> Self {
        Self { data, offset: 0, strides: dense_strides(extents, channels), channels, affine: None, mask: None }
    }

    /// The voxel pairs `(2 d + pd, 2 h + ph, 2 w)` and `(.., 2 w + 1)` of a dense tensor of twice the `extents`, as one
    /// voxel of `2 * channels` channels each: the two lie side by side. `phase = 2 pd + ph`.
    pub(super) fn phase(data: &'a [f32], extents: [usize; 3], channels: usize, phase: usize) -> Self {
        Self {
            data,
            offset: phase_offset(extents, channels, phase),
            strides: phase_strides(extents, channels),
            channels: 2 * channels,
            affine: None,
            mask: None,
        }
    }

    /// `count` voxels from element `from` on, `take` channels each, to `staged`, `block` elements apart.
    #[inline(always)]
    fn copy<S: Simd>(&self, [from, channel]: [usize; 2], [count, take, block]: [usize; 3], staged: &mut [f32]) {
        let stride = self.strides[3];
        let need = |stride: usize| (count - 1) * stride + take;
        let source = &self.data[from..][..need(stride)];
        let mask = self.mask.map(|mask| &mask[from..][..need(stride)]);
        let affine = self.affine.map(|both| both.map(|values| &values[channel..channel + take]));
        let staged = &mut staged[..need(block)];
        for lane in (0..take).step_by(S::LANES) {
            let lanes = S::LANES.min(take - lane);
            let whole = lanes == S::LANES;
            // SAFETY: `need` covers the last voxel's last lane in all slices; the machine runs S.
            unsafe {
                let run = Run { source: source.as_ptr().add(lane), stride, count, lanes, block };
                let staged = staged.as_mut_ptr().add(lane);
                match (whole, affine, mask) {
                    (true, None, None) => run.copy::<S, true>(staged, |x, _| x),
                    (false, None, None) => run.copy::<S, false>(staged, |x, _| x),
                    (_, Some([scale, shift]), None) => {
                        let a = S::load_partial(scale.as_ptr().add(lane), lanes);
                        let b = S::load_partial(shift.as_ptr().add(lane), lanes);
                        let apply = |x, _| S::fma(x, a, b);
                        if whole { run.copy::<S, true>(staged, apply) } else { run.copy::<S, false>(staged, apply) }
                    }
                    (_, affine, Some(mask)) => {
                        assert!(affine.is_none(), "no computation masks a normalised tensor");
                        let mask = mask.as_ptr().add(lane);
                        let apply = |x, at: usize| {
                            let y = if whole { S::load(mask.add(at)) } else { S::load_partial(mask.add(at), lanes) };
                            S::keep_where_greater(y, S::zero(), x)
                        };
                        if whole { run.copy::<S, true>(staged, apply) } else { run.copy::<S, false>(staged, apply) }
                    }
                }
            }
        }
    }
}

/// Voxels `stride` elements apart, of which up to one vector of channels is copied.
struct Run {
    source: *const f32,
    stride: usize,
    count: usize,
    lanes: usize,
    block: usize,
}

impl Run {
    /// Copies through `apply(vector, element)`.
    #[inline(always)]
    unsafe fn copy<S: Simd, const WHOLE: bool>(&self, staged: *mut f32, apply: impl Fn(S::V, usize) -> S::V) {
        for voxel in 0..self.count {
            let (from, to) = (voxel * self.stride, voxel * self.block);
            // SAFETY: the caller's promise: the run exists in both.
            unsafe {
                if WHOLE {
                    S::store(staged.add(to), apply(S::load(self.source.add(from)), from));
                } else {
                    let x = S::load_partial(self.source.add(from), self.lanes);
                    S::store_partial(staged.add(to), apply(x, from), self.lanes);
                }
            }
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
        dispatch(isa, Stage { source: self, window, channels, block, staged });
    }
}

struct Stage<'a> {
    source: &'a Source<'a>,
    window: Window,
    channels: Range<usize>,
    block: usize,
    staged: &'a mut [f32],
}

impl Kernel for Stage<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { source, window, channels, block, staged } = self;
        let blocks = channels.len().div_ceil(block);
        let [planes, rows, width] = window.extents;
        let row_len = blocks * width * block;
        // The part of a row that lies inside the volume.
        let begin = (-window.start[2]).clamp(0, width as isize) as usize;
        let end = (source.extents[2] as isize - window.start[2]).clamp(begin as isize, width as isize) as usize;
        for plane in 0..planes {
            let d = inside(window.start[0] + plane as isize, source.extents[0]);
            for row in 0..rows {
                let h = inside(window.start[1] + row as isize, source.extents[1]);
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
                for segment in source.segments.iter().flatten() {
                    let last = first + segment.channels;
                    let (from, to) = (channels.start.max(first), channels.end.min(last));
                    if from < to {
                        let [sn, sd, sh, sw] = segment.strides;
                        let row = segment.offset + window.sample * sn + d * sd + h * sh + x * sw;
                        let mut channel = from;
                        while channel < to {
                            // The part of this segment that lies in one block.
                            let at = channel - channels.start;
                            let take = (block - at % block).min(to - channel);
                            let place = (at / block * width + begin) * block + at % block;
                            let source = [row + channel - first, channel - first];
                            segment.copy::<S>(source, [end - begin, take, block], &mut staged[place..]);
                            channel += take;
                        }
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
