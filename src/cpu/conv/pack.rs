//! Filters in the order in which the microkernels read them: contiguous, and padded to whole vectors.

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
    pub word: Word,
    pub groups: usize,
    /// Of one group.
    pub channels_out: usize,
    /// Output channels of one block.
    pub width: usize,
    /// `[block of words][tap][output channel][16 words]` instead of `[block of words][tap][word][output channel]`.
    pub dot: bool,
}

impl Packing {
    /// Output blocks of one group.
    pub(super) fn blocks(&self) -> usize {
        self.channels_out.div_ceil(self.width)
    }

    /// Elements of one output block and a chunk of `words` of input channels.
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
        let valid = self.width.min(self.channels_out - first_out);
        let pack = Pack { packing: self, filter, layout, group, first_out, valid };
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
    /// Calls `pack` for every tap of every block of words, with its part of the packed filter.
    #[inline(always)]
    fn for_each(self, pack: impl Fn(&Pack<'_, E>, Tap, &mut [f32])) {
        let Self { pack: each, channels, mut packed } = self;
        let elements = each.packing.word.elements();
        for first in channels.clone().step_by(BLOCK * elements) {
            let count = (BLOCK * elements).min(channels.end - first);
            for tap in 0..each.layout.taps {
                let base = each.layout.base(each.group, tap);
                let (part, rest) = packed.split_at_mut(each.packing.len(1, count.div_ceil(elements)));
                packed = rest;
                pack(&each, Tap { base, first, count }, part);
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
                pack.copy_rows(tap, part);
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
    fn element(&self, tap: &Tap, channel_in: usize, channel_out: usize) -> E {
        let input = self.layout.input.at(tap.first + channel_in);
        self.filter[tap.base + input + self.layout.output.at(self.first_out + channel_out)]
    }

    /// Calls `copy(output channel of the block, how many, element of their first in the first row)` for every contiguous run of output
    /// channels.
    #[inline(always)]
    fn for_runs(&self, tap: &Tap, mut copy: impl FnMut(usize, usize, usize)) {
        let mut b = 0;
        while b < self.valid {
            let run = self.layout.output.run(self.first_out + b).min(self.valid - b);
            copy(b, run, tap.base + self.layout.output.at(self.first_out + b));
            b += run;
        }
    }

    /// Output channels lie side by side.
    #[inline(always)]
    fn copy_rows(&self, tap: Tap, part: &mut [f32]) {
        self.for_runs(&tap, |b, run, from| {
            for (a, row) in part.chunks_exact_mut(self.packing.width).enumerate() {
                let from = &self.filter[from + self.layout.input.at(tap.first + a)..][..run];
                copy_row(from, &mut row[b..]);
            }
        });
    }

    /// Output channels lie side by side, and two input channels go into a row of words.
    #[inline(always)]
    unsafe fn pair_rows<S: Pairs>(&self, tap: &Tap, part: &mut [f32]) {
        part.fill(0.0);
        self.for_runs(tap, |b, run, from| {
            for (word, row) in part.chunks_exact_mut(self.packing.width).enumerate() {
                let source = |a: usize| match a < tap.count {
                    true => &self.filter[from + self.layout.input.at(tap.first + a)..][..run],
                    false => &[],
                };
                let (first, second) = (source(2 * word), source(2 * word + 1));
                for lane in (0..run).step_by(S::LANES) {
                    let lanes = S::LANES.min(run - lane);
                    // SAFETY: both sources hold `run` elements if any, and the row has room for them from `b` on; the machine
                    // runs S.
                    unsafe {
                        let load = |source: &[E]| match source.get(lane) {
                            Some(from) => E::load_partial::<S>(from, lanes),
                            None => S::zero(),
                        };
                        let words = S::pair(load(first), load(second));
                        S::store_partial(row[b + lane..][..lanes].as_mut_ptr(), words, lanes);
                    }
                }
            }
        });
    }

    /// Whether all words of a whole block are filled from words that lie side by side for each output channel.
    fn transposes(&self, tap: &Tap) -> bool {
        let (input, output) = (&self.layout.input, &self.layout.output);
        let elements = self.packing.word.elements();
        !self.packing.dot
            && input.inner_stride == 1
            && output.outer_stride == 0
            && output.inner_stride.is_multiple_of(elements)
            && self.valid == self.packing.width
            && tap.count == BLOCK * elements
            && (input.outer_stride == 0 || input.inner.is_multiple_of(BLOCK * elements))
    }

    /// Turns rows of words into columns; see [`Self::transposes`].
    ///
    /// # Safety
    /// The machine runs S; elements have half the size of a word if words are pairs, and its size if not.
    #[inline(always)]
    unsafe fn transpose<S: Simd>(&self, tap: &Tap, part: &mut [f32]) {
        let (width, elements) = (self.packing.width, self.packing.word.elements());
        let stride = self.layout.output.inner_stride;
        let from = tap.base + self.layout.input.at(tap.first) + self.first_out * stride;
        let from = &self.filter[from..][..(width - 1) * stride + BLOCK * elements];
        for b in (0..width).step_by(S::LANES) {
            for a in (0..BLOCK).step_by(S::LANES) {
                // SAFETY: words `a..a + LANES` of rows `b..b + LANES` of `from` exist and so do rows `a..a + LANES` of `part`.
                unsafe {
                    let (from, to) = (from[b * stride + a * elements..].as_ptr(), &mut part[a * width + b..]);
                    S::transpose(from.cast(), stride / elements, to.as_mut_ptr(), width);
                }
            }
        }
    }

    /// One element after the other.
    fn copy_elements(&self, tap: &Tap, part: &mut [f32]) {
        let elements = self.packing.word.elements();
        let words = tap.count.div_ceil(elements);
        part.fill(0.0);
        for word in 0..words {
            for b in 0..self.valid {
                let value = match self.packing.word {
                    Word::Single => self.element(tap, word, b).widen(),
                    Word::Pair => {
                        let bits = |a: usize| match a < tap.count {
                            true => self.element(tap, a, b).widen().to_bits(),
                            false => 0,
                        };
                        f32::from_bits(bits(2 * word) >> 16 | bits(2 * word + 1))
                    }
                };
                part[if self.packing.dot { b * BLOCK + word } else { word * self.packing.width + b }] = value;
            }
        }
    }
}

/// Widens a row and fills what is left of its place with zeros.
#[inline(always)]
fn copy_row<E: Element>(from: &[E], to: &mut [f32]) {
    let (to, rest) = to.split_at_mut(from.len());
    for (to, from) in to.iter_mut().zip(from) {
        *to = from.widen();
    }
    rest.fill(0.0);
}
