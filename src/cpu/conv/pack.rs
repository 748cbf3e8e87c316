//! Filters in the order in which the microkernels read them: contiguous, and padded to whole vectors.

use super::stage::BLOCK;
use crate::cpu::simd::{Isa, Kernel, Simd, dispatch};

/// Where a channel lies in a filter: `channel / inner * outer_stride + channel % inner * inner_stride`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    pub inner: usize,
    pub outer_stride: usize,
    pub inner_stride: usize,
}

impl Axis {
    /// Channels `stride` elements apart.
    pub(super) fn strided(stride: usize) -> Self {
        Self { inner: usize::MAX, outer_stride: 0, inner_stride: stride }
    }

    pub(super) fn at(&self, channel: usize) -> usize {
        if self.outer_stride == 0 {
            return channel * self.inner_stride;
        }
        channel / self.inner * self.outer_stride + channel % self.inner * self.inner_stride
    }

    /// Channels from `channel` on that lie `inner_stride` apart.
    pub(super) fn run(&self, channel: usize) -> usize {
        if self.outer_stride == 0 { usize::MAX } else { self.inner - channel % self.inner }
    }
}

/// How a filter in memory looks to the computation at hand, which may exchange its channels or turn its taps round:
/// element (group, tap, input channel, output channel).
#[derive(Clone, Copy, Debug)]
pub(super) struct FilterLayout {
    pub group_stride: usize,
    pub tap_stride: usize,
    /// Taps in reverse order.
    pub flipped: bool,
    pub taps: usize,
    pub input: Axis,
    pub output: Axis,
}

impl FilterLayout {
    /// First element of a group and tap.
    pub(super) fn base(&self, group: usize, tap: usize) -> usize {
        let tap = if self.flipped { self.taps - 1 - tap } else { tap };
        group * self.group_stride + tap * self.tap_stride
    }
}

/// Extents of packed filter blocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packing {
    pub groups: usize,
    /// Of one group.
    pub channels_out: usize,
    /// Output channels of one block.
    pub width: usize,
    /// `[input block][tap][output channel][16 input channels]` instead of `[input block][tap][input channel][output channel]`.
    pub dot: bool,
}

impl Packing {
    /// Output blocks of one group.
    pub(super) fn blocks(&self) -> usize {
        self.channels_out.div_ceil(self.width)
    }

    /// Elements of one output block and a chunk of `channels` input channels.
    pub(super) fn len(&self, taps: usize, channels: usize) -> usize {
        taps * self.width * if self.dot { channels.next_multiple_of(BLOCK) } else { channels }
    }

    /// Packs one output block and the input channels of one chunk.
    pub(super) fn pack(
        &self,
        isa: Isa,
        (filter, layout): (&[f32], &FilterLayout),
        block: usize,
        channels: std::ops::Range<usize>,
        packed: &mut [f32],
    ) {
        let (group, first_out) = (block / self.blocks(), block % self.blocks() * self.width);
        let valid = self.width.min(self.channels_out - first_out);
        dispatch(isa, Pack { packing: self, filter, layout, group, first_out, valid, channels, packed });
    }
}

struct Pack<'a> {
    packing: &'a Packing,
    filter: &'a [f32],
    layout: &'a FilterLayout,
    group: usize,
    first_out: usize,
    /// Output channels of the block that exist.
    valid: usize,
    channels: std::ops::Range<usize>,
    packed: &'a mut [f32],
}

impl Kernel for Pack<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let (layout, width) = (self.layout, self.packing.width);
        let mut packed = self.packed;
        for first in self.channels.clone().step_by(BLOCK) {
            let count = BLOCK.min(self.channels.end - first);
            for tap in 0..layout.taps {
                let base = layout.base(self.group, tap);
                let (part, rest) = packed.split_at_mut(self.packing.len(1, count));
                packed = rest;
                if self.packing.dot {
                    part.fill(0.0);
                    for (b, row) in part.chunks_exact_mut(BLOCK).take(self.valid).enumerate() {
                        for (a, value) in row[..count].iter_mut().enumerate() {
                            *value =
                                self.filter[base + layout.input.at(first + a) + layout.output.at(self.first_out + b)];
                        }
                    }
                } else if layout.output.inner_stride == 1 {
                    // Output channels in as many contiguous runs as the axis has within the block.
                    let mut b = 0;
                    while b < self.valid {
                        let run = layout.output.run(self.first_out + b).min(self.valid - b);
                        let from = base + layout.output.at(self.first_out + b);
                        for (a, row) in part.chunks_exact_mut(width).enumerate() {
                            copy_row(&self.filter[from + layout.input.at(first + a)..][..run], &mut row[b..]);
                        }
                        b += run;
                    }
                } else if layout.input.inner_stride == 1
                    && layout.output.outer_stride == 0
                    && self.valid == width
                    && count == BLOCK
                    && (layout.input.outer_stride == 0 || layout.input.inner % BLOCK == 0)
                {
                    let stride = layout.output.inner_stride;
                    let from = base + layout.input.at(first) + self.first_out * stride;
                    let from = &self.filter[from..][..(width - 1) * stride + BLOCK];
                    for b in (0..width).step_by(S::LANES) {
                        for a in (0..BLOCK).step_by(S::LANES) {
                            // SAFETY: rows `b..b + LANES` of `from` and rows `a..a + LANES` of `part` exist; the machine runs S.
                            unsafe {
                                let (from, to) = (&from[b * stride + a..], &mut part[a * width + b..]);
                                S::transpose(from.as_ptr(), stride, to.as_mut_ptr(), width);
                            }
                        }
                    }
                } else {
                    for (a, row) in part.chunks_exact_mut(width).enumerate() {
                        let from = base + layout.input.at(first + a);
                        row[self.valid..].fill(0.0);
                        for (b, value) in row[..self.valid].iter_mut().enumerate() {
                            *value = self.filter[from + layout.output.at(self.first_out + b)];
                        }
                    }
                }
            }
        }
    }
}

/// Copies a row and fills what is left of its place with zeros.
#[inline(always)]
fn copy_row(from: &[f32], to: &mut [f32]) {
    match (from.len(), to.len()) {
        (32, 32) => to[..32].copy_from_slice(&from[..32]),
        (16, 16) => to[..16].copy_from_slice(&from[..16]),
        (valid, _) => {
            to[..valid].copy_from_slice(from);
            to[valid..].fill(0.0);
        }
    }
}
