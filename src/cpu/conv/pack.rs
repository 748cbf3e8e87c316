//! Filters in the order in which the microkernels read them: contiguous, and padded to whole vectors.

#![allow(unsafe_code)]

use std::ops::Range;

use super::{stage::BLOCK, word::Word};
use crate::{
    cpu::{
        Element, Isa,
        simd::{Kernel, PairKernel, Pairs, Simd, dispatch, dispatch_pairs},
    },
    tensor::DType,
};

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

    #[inline(always)]
    pub(super) fn at(&self, channel: usize) -> usize {
        if self.outer_stride == 0 {
            return channel * self.inner_stride;
        }
        channel / self.inner * self.outer_stride + channel % self.inner * self.inner_stride
    }

    /// Channels from `channel` on that lie `inner_stride` apart.
    #[inline(always)]
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
    pub word: Word,
    pub groups: usize,
    /// Of one group.
    pub channels_out: usize,
    /// Output channels of one block.
    pub width: usize,
    /// Output channels of the last block of each group, if it is packed for fewer.
    pub last: Option<usize>,
    /// Taps side by side for each word: a divisor of the kernel's width.
    pub taps: usize,
    /// Words of a block of the staged input.
    pub staged_block: usize,
    /// `[16 words][tap][output channel][word]` instead of
    /// `[16 words][taps side by side][word][tap][output channel]`.
    pub dot: bool,
}

impl Packing {
    /// Output blocks of one group.
    pub(super) fn blocks(&self) -> usize {
        self.channels_out.div_ceil(self.width)
    }

    /// Output channels that a block is packed for.
    pub(super) fn block_width(&self, block: usize) -> usize {
        let is_last = block % self.blocks() + 1 == self.blocks();
        self.last.filter(|_| is_last).unwrap_or(self.width)
    }

    /// Elements, at most, of one output block and a chunk of `words` of input channels.
    pub(super) fn len(&self, taps: usize, words: usize) -> usize {
        taps * self.width * if self.dot { words.next_multiple_of(BLOCK) } else { words }
    }

    /// Packs one output block and the input channels of one chunk, which begins with a whole block of words.
    pub(super) fn pack<E: Element>(
        &self,
        isa: Isa,
        (filter, layout): (&[E], &FilterLayout),
        block: usize,
        channels: Range<usize>,
        packed: &mut [f32],
    ) {
        let (group, first_out) = (block / self.blocks(), block % self.blocks() * self.width);
        let width = self.block_width(block);
        let valid = width.min(self.channels_out - first_out);
        let pack = Pack { packing: self, filter, layout, group, first_out, width, valid };
        let blocks = Blocks { pack, channels, packed };
        match self.word {
            Word::Single => dispatch(isa, blocks),
            Word::Pair => dispatch_pairs(isa, blocks),
        }
    }
}

/// One output block.
struct Pack<'a, E> {
    packing: &'a Packing,
    filter: &'a [E],
    layout: &'a FilterLayout,
    group: usize,
    first_out: usize,
    width: usize,
    /// Output channels of the block that exist.
    valid: usize,
}

/// All its blocks of words.
struct Blocks<'a, E> {
    pack: Pack<'a, E>,
    channels: Range<usize>,
    packed: &'a mut [f32],
}

/// One tap of some input channels: whole blocks of words but the last.
struct Tap {
    /// Element of the filter at the group's tap.
    base: usize,
    first: usize,
    count: usize,
}

impl<E> Blocks<'_, E> {
    /// Calls `pack` for every tap of every block of words, with its part of the packed filter: from its first row on.
    #[inline(always)]
    fn for_each(self, pack: impl Fn(&Pack<'_, E>, Tap, &mut [f32])) {
        let Self { pack: each, channels, mut packed } = self;
        let elements = each.packing.word.elements();
        let packing = Packing { width: each.width, ..*each.packing };
        for first in channels.clone().step_by(BLOCK * elements) {
            let count = (BLOCK * elements).min(channels.end - first);
            let side_by_side = each.packing.taps;
            for taps in (0..each.layout.taps).step_by(side_by_side) {
                let (part, rest) = packed.split_at_mut(packing.len(side_by_side, count.div_ceil(elements)));
                packed = rest;
                for tap in 0..side_by_side {
                    let base = each.layout.base(each.group, taps + tap);
                    pack(&each, Tap { base, first, count }, &mut part[tap * each.width..]);
                }
            }
        }
    }
}

impl<E: Element> Kernel for Blocks<'_, E> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        self.for_each(|pack, tap, part| {
            if !pack.packing.dot && pack.layout.output.inner_stride == 1 {
                // SAFETY: the machine runs S.
                unsafe { pack.copy_rows::<S>(&tap, part) }
            } else if E::DTYPE == DType::F32 && pack.transposes(&tap) {
                // SAFETY: the machine runs S, and fp32 elements are words.
                unsafe { pack.transpose::<S>(&tap, part) }
            } else {
                pack.copy_elements(&tap, part);
            }
        });
    }
}

impl<E: Element> PairKernel for Blocks<'_, E> {
    #[inline(always)]
    unsafe fn run<S: Pairs>(self) {
        self.for_each(|pack, tap, part| {
            // SAFETY: the machine runs S, and of an even number of channels a word's two are side by side.
            unsafe {
                if !pack.packing.dot && pack.layout.output.inner_stride == 1 {
                    pack.pair_rows::<S>(&tap, part);
                } else if pack.transposes(&tap) {
                    pack.transpose::<S>(&tap, part);
                } else {
                    pack.copy_elements(&tap, part);
                }
            }
        });
    }
}

impl<E: Element> Pack<'_, E> {
    /// From a row of a tap's packed filter to the next.
    #[inline(always)]
    fn row_stride(&self) -> usize {
        self.packing.taps * self.width
    }

    #[inline(always)]
    fn element(&self, tap: &Tap, channel_in: usize, channel_out: usize) -> E {
        let input = self.layout.input.at(tap.first + channel_in);
        self.filter[tap.base + input + self.layout.output.at(self.first_out + channel_out)]
    }

    /// Output channels that lie side by side: the first in the block, how many, and the element of the first in the first row.
    #[inline(always)]
    fn runs(&self, tap: &Tap) -> impl Iterator<Item = (usize, usize, usize)> {
        let (output, first_out, valid, base) = (self.layout.output, self.first_out, self.valid, tap.base);
        let mut b = 0;
        std::iter::from_fn(move || {
            let first = b;
            if first >= valid {
                return None;
            }
            let run = output.run(first_out + first).min(valid - first);
            b += run;
            Some((first, run, base + output.at(first_out + first)))
        })
    }

    /// Output channels lie side by side.
    #[inline(always)]
    unsafe fn copy_rows<S: Simd>(&self, tap: &Tap, part: &mut [f32]) {
        for (b, run, from) in self.runs(tap) {
            for (a, row) in part.chunks_mut(self.row_stride()).take(tap.count).enumerate() {
                let from = &self.filter[from + self.layout.input.at(tap.first + a)..][..run];
                let row = &mut row[b..self.width];
                for lane in (0..run).step_by(S::LANES) {
                    let lanes = S::LANES.min(run - lane);
                    // SAFETY: these lanes exist in both rows; the machine runs S.
                    unsafe {
                        let (from, to) = (from.as_ptr().add(lane), row.as_mut_ptr().add(lane));
                        if lanes == S::LANES {
                            S::store(to, E::load::<S>(from));
                        } else {
                            S::store_partial(to, E::load_partial::<S>(from, lanes), lanes);
                        }
                    }
                }
                row[run..].fill(0.0);
            }
        }
    }

    /// Output channels lie side by side, and two input channels go into a row of words.
    #[inline(always)]
    unsafe fn pair_rows<S: Pairs>(&self, tap: &Tap, part: &mut [f32]) {
        for (b, run, from) in self.runs(tap) {
            for (word, row) in part.chunks_mut(self.row_stride()).take(tap.count.div_ceil(2)).enumerate() {
                let row = &mut row[b..self.width];
                let from = |a: usize| &self.filter[from + self.layout.input.at(tap.first + a)..][..run];
                // A second channel that does not exist counts as the first, and then as zeros.
                let has_second = 2 * word + 1 < tap.count;
                let (first, second) = (from(2 * word), from(2 * word + usize::from(has_second)));
                for lane in (0..run).step_by(S::LANES) {
                    let lanes = S::LANES.min(run - lane);
                    // SAFETY: these lanes exist in all rows; the machine runs S.
                    unsafe {
                        let first = E::load_partial::<S>(first.as_ptr().add(lane), lanes);
                        let second = E::load_partial::<S>(second.as_ptr().add(lane), lanes);
                        let words = S::pair(first, if has_second { second } else { S::zero() });
                        S::store_partial(row.as_mut_ptr().add(lane), words, lanes);
                    }
                }
                row[run..].fill(0.0);
            }
        }
    }

    /// Whether words lie in the filter as they are packed, side by side for each output channel.
    fn transposes(&self, tap: &Tap) -> bool {
        let (input, output) = (&self.layout.input, &self.layout.output);
        let elements = self.packing.word.elements();
        !self.packing.dot
            && input.inner_stride == 1
            && output.outer_stride == 0
            && output.inner_stride.is_multiple_of(elements)
            && (tap.count.is_multiple_of(elements))
            && (input.outer_stride == 0 || input.inner.is_multiple_of(BLOCK * elements))
    }

    /// Turns rows of words into columns; see [`Self::transposes`].
    ///
    /// # Safety
    /// The machine runs S; elements have half the size of a word if words are pairs, and its size if not.
    #[inline(always)]
    unsafe fn transpose<S: Simd>(&self, tap: &Tap, part: &mut [f32]) {
        let (row_stride, elements) = (self.row_stride(), self.packing.word.elements());
        let (stride, words) = (self.layout.output.inner_stride, tap.count / elements);
        let from = tap.base + self.layout.input.at(tap.first) + self.first_out * stride;
        let from = &self.filter[from..][..(self.valid - 1) * stride + tap.count];
        let part = &mut part[..(words - 1) * row_stride + self.width];
        for b in (0..self.width).step_by(S::LANES) {
            for a in (0..words).step_by(S::LANES) {
                let rows = S::LANES.min(self.valid.saturating_sub(b));
                let columns = S::LANES.min(words - a);
                // SAFETY: `columns` words from `a` on of `rows` rows from `b` on exist in `from`, and `columns` rows from `a` on of
                // `part` are as wide as the block, as the slices' lengths show. Vectors need no alignment. The machine runs S.
                unsafe {
                    let from = from.as_ptr().add(b * stride + a * elements).cast::<f32>();
                    let to = part.as_mut_ptr().add(a * row_stride + b);
                    if rows == S::LANES && columns == S::LANES {
                        S::transpose(from, stride / elements, to, row_stride);
                        continue;
                    }
                    let (mut square, mut turned) = ([0.0f32; 256], [0.0f32; 256]);
                    for row in 0..rows {
                        let words = S::load_partial(from.add(row * (stride / elements)), columns);
                        S::store(square.as_mut_ptr().add(row * S::LANES), words);
                    }
                    S::transpose(square.as_ptr(), S::LANES, turned.as_mut_ptr(), S::LANES);
                    let lanes = S::LANES.min(self.width - b);
                    for column in 0..columns {
                        let row = S::load(turned.as_ptr().add(column * S::LANES));
                        S::store_partial(to.add(column * row_stride), row, lanes);
                    }
                }
            }
        }
    }

    /// One element after the other.
    #[inline(always)]
    fn copy_elements(&self, tap: &Tap, part: &mut [f32]) {
        let words = tap.count.div_ceil(self.packing.word.elements());
        // In a dot product's rows all 16 words are read.
        let (word_stride, out_stride, rows) = match self.packing.dot {
            true => (1, BLOCK, BLOCK),
            false => (self.row_stride(), 1, words),
        };
        for word in 0..rows {
            for b in 0..self.width {
                let value = match self.packing.word {
                    _ if word >= words || b >= self.valid => 0.0,
                    Word::Single => self.element(tap, word, b).widen(),
                    Word::Pair => {
                        let bits = |a: usize| match a < tap.count {
                            true => self.element(tap, a, b).widen().to_bits(),
                            false => 0,
                        };
                        f32::from_bits(bits(2 * word) >> 16 | bits(2 * word + 1))
                    }
                };
                part[word * word_stride + b * out_stride] = value;
            }
        }
    }
}
