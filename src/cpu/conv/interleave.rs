//! Stages a window with pairs of neighbouring voxels as words: what wgrad reads, whose sums run over voxels.
//!
//! The layout is `[plane][row][channel block][word][block]`, one word per channel. Word `i` of a row holds the voxels `2 i` and `2 i + 1`
//! of the window, or `i` and `i + 1`, so that a pair begins at every voxel.

use std::ops::Range;

use super::source::{Piece, Row, Source, Window};
use crate::cpu::{
    Element, Isa,
    simd::{PairKernel, Pairs, dispatch_pairs, prefetch},
};

/// Where a word's pair of voxels begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    /// At every second voxel: each voxel is in one word.
    Second,
    /// At every voxel: each is in two words.
    Every,
}

impl Begin {
    fn step(self) -> usize {
        if self == Self::Second { 2 } else { 1 }
    }
}

impl<E: Element> Source<'_, E> {
    /// Copies `channels` of the window into `staged`, zeros outside the volume, with `window.extents[2]` or half as many words a
    /// row. Words of channels that do not exist keep what was there.
    pub(super) fn interleave(
        &self,
        isa: Isa,
        begin: Begin,
        window: Window,
        channels: Range<usize>,
        block: usize,
        staged: &mut [f32],
    ) {
        dispatch_pairs(isa, Interleave { source: self, begin, window, channels, block, staged });
    }
}

struct Interleave<'a, E> {
    source: &'a Source<'a, E>,
    begin: Begin,
    window: Window,
    channels: Range<usize>,
    block: usize,
    staged: &'a mut [f32],
}

impl<E: Element> PairKernel for Interleave<'_, E> {
    #[inline(always)]
    unsafe fn run<S: Pairs>(self) {
        let Self { source, begin, window, channels, block, staged } = self;
        let [planes, rows, voxels] = window.extents;
        let words = voxels / begin.step();
        let row_len = channels.len().div_ceil(block) * words * block;
        for plane in 0..planes {
            for row in 0..rows {
                let start = (plane * rows + row) * row_len;
                let (staged, later) = staged[start..].split_at_mut(row_len);
                prefetch::<f32, true>(&later[..row_len.min(later.len())]);
                let row = source.row(&window, plane, row);
                if row.inside.is_empty() {
                    staged.fill(0.0);
                    continue;
                }
                source.pieces(&channels, block, |piece| {
                    let place = piece.place / block * words * block + piece.place % block;
                    // SAFETY: the machine runs S.
                    unsafe { piece.interleave::<S>(&row, begin, words, block, &mut staged[place..]) };
                });
            }
        }
    }
}

impl<E: Element> Piece<'_, E> {
    /// Writes a row of words, `block` elements apart.
    #[inline(always)]
    unsafe fn interleave<S: Pairs>(&self, row: &Row, begin: Begin, words: usize, block: usize, staged: &mut [f32]) {
        let (segment, take) = (self.segment, self.count);
        let from = self.element(row);
        let stride = segment.strides[3];
        let source = &segment.data[from..][..(row.inside.len() - 1) * stride + take];
        let mask = segment.mask.map(|mask| &mask[from..][..source.len()]);
        let staged = &mut staged[..(words - 1) * block + take];
        for lane in (0..take).step_by(S::LANES) {
            let lanes = S::LANES.min(take - lane);
            let inside = row.inside.clone();
            // SAFETY: `lanes` channels of the row's voxels and of its words exist, as the slices' lengths show; the machine runs S.
            unsafe {
                let words = Words { begin, words, block, lanes, staged: staged.as_mut_ptr().add(lane), inside };
                let source = source.as_ptr().add(lane);
                let load = |voxel: usize| E::load_partial::<S>(source.add(voxel * stride), lanes);
                match (segment.affine, mask) {
                    (None, None) if lanes == S::LANES => {
                        words.write::<S>(|voxel| E::load::<S>(source.add(voxel * stride)));
                    }
                    (None, None) => words.write::<S>(load),
                    (Some([scale, shift]), None) => {
                        let at = |values: &[f32]| S::load_partial(values[self.channel + lane..].as_ptr(), lanes);
                        let (scale, shift) = (at(scale), at(shift));
                        words.write::<S>(|voxel| S::round(S::fma(load(voxel), scale, shift)));
                    }
                    (affine, Some(mask)) => {
                        assert!(affine.is_none(), "no computation masks a normalised tensor");
                        let mask = mask.as_ptr().add(lane);
                        words.write::<S>(|voxel| {
                            let y = E::load_partial::<S>(mask.add(voxel * stride), lanes);
                            S::keep_where_greater(y, S::zero(), load(voxel))
                        });
                    }
                }
            }
        }
    }
}

/// One vector of channels of a row of words.
struct Words {
    begin: Begin,
    words: usize,
    block: usize,
    lanes: usize,
    staged: *mut f32,
    /// The voxels of the row that are not zero.
    inside: Range<usize>,
}

impl Words {
    /// Writes the words of voxels that `load` makes, given their number among those inside.
    #[inline(always)]
    unsafe fn write<S: Pairs>(&self, load: impl Fn(usize) -> S::V) {
        let Range { start, end } = self.inside;
        let step = self.begin.step();
        // Between these all voxels are inside, and loops need not ask.
        let first = start.div_ceil(step).min(self.words);
        let last = if end < 2 { 0 } else { (end - 2) / step + 1 };
        let last = last.clamp(first, self.words);
        // SAFETY: the caller's promise: these words exist, and the voxels inside can be loaded.
        unsafe {
            let at = |voxel: usize| if voxel >= start && voxel < end { load(voxel - start) } else { S::zero() };
            let store = |word: usize, pair: S::V| match self.lanes == S::LANES {
                true => S::store(self.staged.add(word * self.block), pair),
                false => S::store_partial(self.staged.add(word * self.block), pair, self.lanes),
            };
            for word in (0..first).chain(last..self.words) {
                store(word, S::pair(at(step * word), at(step * word + 1)));
            }
            if self.begin == Begin::Second {
                for word in first..last {
                    store(word, S::pair(load(2 * word - start), load(2 * word + 1 - start)));
                }
                return;
            }
            let mut here = at(first);
            for word in first..last {
                let next = load(word + 1 - start);
                store(word, S::pair(here, next));
                here = next;
            }
        }
    }
}
