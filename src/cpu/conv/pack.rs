//! Filters in the order in which the microkernels read them: aligned, contiguous, padded to whole vectors.

use super::stage::BLOCK;
use crate::cpu::threads::{SharedMut, Threads};

/// A filter as (group, tap, input channel a, output channel b) of the convolution at hand, which may be a transposed view.
#[derive(Clone, Copy)]
pub(super) struct FilterView<'a> {
    pub data: &'a [f32],
    pub group_stride: usize,
    pub tap_stride: usize,
    /// Taps in reverse order, as dgrad needs them.
    pub flipped: bool,
    /// Input channel `a` lies at `a / inner * outer_stride + a % inner * inner_stride`.
    pub inner: usize,
    pub outer_stride: usize,
    pub inner_stride: usize,
    pub out_stride: usize,
}

/// Extents of a packed filter `[group][output block][input block][tap][input channel][width]`.
#[derive(Clone, Copy)]
pub(super) struct Packing {
    pub groups: usize,
    pub taps: usize,
    pub channels_in: usize,
    pub channels_out: usize,
    /// Output channels of one block: whole vectors.
    pub width: usize,
}

impl Packing {
    /// Output blocks of one group.
    pub(super) fn blocks(&self) -> usize {
        self.channels_out.div_ceil(self.width)
    }

    /// Elements of one output block.
    pub(super) fn block_len(&self) -> usize {
        self.taps * self.channels_in * self.width
    }

    /// Elements in all.
    pub(super) fn len(&self) -> usize {
        self.groups * self.blocks() * self.block_len()
    }

    /// Packs `filter` into the first [`Packing::len`] elements of `packed`.
    pub(super) fn pack(&self, threads: &Threads, filter: FilterView<'_>, packed: &mut [f32]) {
        let input_blocks = self.channels_in.div_ceil(BLOCK);
        let shared = SharedMut::new(&mut packed[..self.len()]);
        threads.run(self.groups * self.blocks() * input_blocks, &|task| {
            let (block, input_block) = (task / input_blocks, task % input_blocks);
            let first = input_block * BLOCK;
            let count = BLOCK.min(self.channels_in - first);
            let start = block * self.block_len() + first * self.taps * self.width;
            // SAFETY: tasks own disjoint parts: (block, input block) determines the range, and ranges are laid end to end.
            let part = unsafe { shared.slice(start, count * self.taps * self.width) };
            self.pack_part(&filter, block, first, count, part);
        });
    }

    fn pack_part(&self, filter: &FilterView<'_>, block: usize, first: usize, count: usize, part: &mut [f32]) {
        let (group, b0) = (block / self.blocks(), block % self.blocks() * self.width);
        let valid = self.width.min(self.channels_out - b0);
        for (tap, rows) in part.chunks_exact_mut(count * self.width).enumerate() {
            let tap = if filter.flipped { self.taps - 1 - tap } else { tap };
            let base = group * filter.group_stride + tap * filter.tap_stride + b0 * filter.out_stride;
            let at = |a: usize| base + a / filter.inner * filter.outer_stride + a % filter.inner * filter.inner_stride;
            for (i, row) in rows.chunks_exact_mut(self.width).enumerate() {
                let from = at(first + i);
                if filter.out_stride == 1 {
                    row[..valid].copy_from_slice(&filter.data[from..from + valid]);
                } else {
                    for (b, value) in row[..valid].iter_mut().enumerate() {
                        *value = filter.data[from + b * filter.out_stride];
                    }
                }
                row[valid..].fill(0.0);
            }
        }
    }
}
