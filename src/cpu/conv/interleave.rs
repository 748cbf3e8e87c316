//! Stages a window with pairs of neighbouring voxels as words: what wgrad reads, whose sums run over voxels.
//!
//! The layout is `[plane][row][channel block][word][block]`, one word per channel. Word `i` of a row holds the voxels `2 i` and `2 i + 1`
//! of the window, or `i` and `i + 1`, so that a pair begins at every voxel.

#![allow(unsafe_code)]

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
                for piece in source.pieces(&channels, block) {
                    let place = piece.place / block * words * block + piece.place % block;
                    // SAFETY: the machine runs S.
                    unsafe { piece.interleave::<S>(&row, begin, words, block, &mut staged[place..]) };
                }
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
                let from = Strided { data: source, stride, lanes };
                match (segment.affine, mask) {
                    (None, None) if lanes == S::LANES => words.write::<S>(from.whole()),
                    (None, None) => words.write::<S>(from),
                    (Some([scale, shift]), None) => {
                        let at = |values: &[f32]| S::load_partial(values[self.channel + lane..].as_ptr(), lanes);
                        let (scale, shift) = (at(scale), at(shift));
                        match lanes == S::LANES {
                            true => words.write::<S>(Normalised::<S, _> { x: from.whole(), scale, shift }),
                            false => words.write::<S>(Normalised::<S, _> { x: from, scale, shift }),
                        }
                    }
                    (affine, Some(mask)) => {
                        assert!(affine.is_none(), "no computation masks a normalised tensor");
                        let y = Strided { data: mask.as_ptr().add(lane), stride, lanes };
                        match lanes == S::LANES {
                            true => words.write::<S>(Masked { x: from.whole(), y: y.whole() }),
                            false => words.write::<S>(Masked { x: from, y }),
                        }
                    }
                }
            }
        }
    }
}

/// Where a vector of channels of a voxel comes from. Not closures: those that are called in several places are compiled apart,
/// without the instruction set of their surroundings, which made normalised sources twice as slow as plain ones.
trait Voxels<S: Pairs> {
    /// The vector of a voxel, counted among those inside the volume.
    ///
    /// # Safety
    /// The voxel exists, and the machine runs `S`.
    unsafe fn load(&self, voxel: usize) -> S::V;
}

/// Some channels of voxels `stride` elements apart.
#[derive(Clone, Copy)]
struct Strided<E> {
    data: *const E,
    stride: usize,
    lanes: usize,
}

/// The same where the channels fill a vector.
#[derive(Clone, Copy)]
struct Whole<E>(Strided<E>);

impl<E> Strided<E> {
    fn whole(self) -> Whole<E> {
        Whole(self)
    }
}

impl<S: Pairs, E: Element> Voxels<S> for Strided<E> {
    #[inline(always)]
    unsafe fn load(&self, voxel: usize) -> S::V {
        // SAFETY: the caller's promise.
        unsafe { E::load_partial::<S>(self.data.add(voxel * self.stride), self.lanes) }
    }
}

impl<S: Pairs, E: Element> Voxels<S> for Whole<E> {
    #[inline(always)]
    unsafe fn load(&self, voxel: usize) -> S::V {
        // SAFETY: the caller's promise.
        unsafe { E::load::<S>(self.0.data.add(voxel * self.0.stride)) }
    }
}

/// Batch norm applied, rounded to what the normalised tensor would hold.
struct Normalised<S: Pairs, X> {
    x: X,
    scale: S::V,
    shift: S::V,
}

impl<S: Pairs, X: Voxels<S>> Voxels<S> for Normalised<S, X> {
    #[inline(always)]
    unsafe fn load(&self, voxel: usize) -> S::V {
        // SAFETY: the caller's promise.
        unsafe { S::round(S::fma(self.x.load(voxel), self.scale, self.shift)) }
    }
}

/// Zero where the result of a ReLU is not positive.
struct Masked<X> {
    x: X,
    y: X,
}

impl<S: Pairs, X: Voxels<S>> Voxels<S> for Masked<X> {
    #[inline(always)]
    unsafe fn load(&self, voxel: usize) -> S::V {
        // SAFETY: the caller's promise.
        unsafe { S::keep_where_greater(self.y.load(voxel), S::zero(), self.x.load(voxel)) }
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
    /// Writes the words of these voxels.
    #[inline(always)]
    unsafe fn write<S: Pairs>(&self, voxels: impl Voxels<S>) {
        let Range { start, end } = self.inside;
        let step = self.begin.step();
        // Between these all voxels are inside, and the loops need not ask.
        let first = start.div_ceil(step).min(self.words);
        let last = if end < 2 { 0 } else { (end - 2) / step + 1 };
        let last = last.clamp(first, self.words);
        // SAFETY: the caller's promise: these words exist, and the voxels inside can be loaded.
        unsafe {
            for word in (0..first).chain(last..self.words) {
                let [a, b] = [self.at::<S>(&voxels, step * word), self.at::<S>(&voxels, step * word + 1)];
                self.store::<S>(word, S::pair(a, b));
            }
            if self.begin == Begin::Second {
                for word in first..last {
                    let [a, b] = [voxels.load(2 * word - start), voxels.load(2 * word + 1 - start)];
                    self.store::<S>(word, S::pair(a, b));
                }
                return;
            }
            let mut a = self.at::<S>(&voxels, first);
            for word in first..last {
                let b = voxels.load(word + 1 - start);
                self.store::<S>(word, S::pair(a, b));
                a = b;
            }
        }
    }

    /// A voxel of the window: zero outside the volume.
    #[inline(always)]
    unsafe fn at<S: Pairs>(&self, voxels: &impl Voxels<S>, voxel: usize) -> S::V {
        // SAFETY: the caller's promise: the voxels inside can be loaded.
        unsafe { if self.inside.contains(&voxel) { voxels.load(voxel - self.inside.start) } else { S::zero() } }
    }

    #[inline(always)]
    unsafe fn store<S: Pairs>(&self, word: usize, pair: S::V) {
        // SAFETY: the caller's promise: the word exists.
        unsafe {
            let to = self.staged.add(word * self.block);
            match self.lanes == S::LANES {
                true => S::store(to, pair),
                false => S::store_partial(to, pair, self.lanes),
            }
        }
    }
}
