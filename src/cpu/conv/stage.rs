//! Copies a window of a volume, with its halo, into a dense buffer that stays in the second-level cache.
//!
//! The staged layout is `[plane][row][block of words][x][block]`, a word being an fp32 channel or a pair of bfloat16 channels: a tap is
//! then a constant offset for every voxel of a tile, zero padding is ordinary data, and the microkernels need no branch at an edge.
//! Everything that can be done to an input while it is loaded (two tensors instead of their concatenation, batch norm's scale and shift,
//! the mask of a ReLU, the phases of a stride-2 grid, widening) is done here, once per voxel, and not 27 times.

#![allow(unsafe_code)]

use std::ops::Range;

use half::bf16;

use super::{
    source::{Piece, Row, Source, Window},
    word::Word,
};
use crate::cpu::{
    Element, Isa,
    simd::{Kernel, Simd, dispatch, prefetch},
};

/// Words of one block of channels: a cache line.
pub(super) const BLOCK: usize = 16;

/// Words of one block of staged channels where words are pairs: 16 channels, so that as many fill a block.
pub(super) const PAIR_BLOCK: usize = 8;

impl<E: Element> Source<'_, E> {
    /// Copies `channels` of the window into `staged`, in blocks of `block` words, and zeros outside the volume. Of the last
    /// block's unused channels those below `defined` become zero; the others keep what was there.
    pub(super) fn stage(
        &self,
        (isa, word): (Isa, Word),
        window: Window,
        channels: Range<usize>,
        block: usize,
        defined: usize,
        staged: &mut [f32],
    ) {
        let stage = Stage { source: self, window, channels, defined, block: block * word.elements() };
        match word {
            Word::Single => dispatch(isa, Into { stage, staged }),
            Word::Pair => dispatch(isa, Into { stage, staged: bytemuck::cast_slice_mut::<f32, bf16>(staged) }),
        }
    }
}

/// What is staged.
struct Stage<'a, E> {
    source: &'a Source<'a, E>,
    window: Window,
    channels: Range<usize>,
    defined: usize,
    /// Elements of a block.
    block: usize,
}

/// Where it is staged, and in which type.
struct Into<'a, E, T> {
    stage: Stage<'a, E>,
    staged: &'a mut [T],
}

impl<E: Element, T: Element> Kernel for Into<'_, E, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { stage: Stage { source, window, channels, defined, block }, staged } = self;
        let blocks = channels.len().div_ceil(block);
        let [planes, rows, width] = window.extents;
        let row_len = blocks * width * block;
        let undefined = channels.len().min(defined)..defined;
        for plane in 0..planes {
            for row in 0..rows {
                let start = (plane * rows + row) * row_len;
                let (staged, later) = staged[start..].split_at_mut(row_len);
                prefetch::<T, true>(&later[..row_len.min(later.len())]);
                let row = source.row(&window, plane, row);
                if row.inside.is_empty() {
                    staged.fill(T::zeroed());
                    continue;
                }
                for part in staged.chunks_exact_mut(width * block) {
                    part[..row.inside.start * block].fill(T::zeroed());
                    part[row.inside.end * block..].fill(T::zeroed());
                }
                if !undefined.is_empty() {
                    // Less than a block, and in the last one.
                    let first = ((blocks - 1) * width + row.inside.start) * block + undefined.start % block;
                    // SAFETY: the machine runs S.
                    unsafe { zero::<S, T>(&mut staged[first..], row.inside.len(), block, undefined.len()) };
                }
                for piece in source.pieces(&channels, block) {
                    let place = (piece.place / block * width + row.inside.start) * block + piece.place % block;
                    piece.copy::<S, T>(&row, block, &mut staged[place..]);
                }
            }
        }
    }
}

/// Zeros `channels` of `count` voxels, `block` elements apart.
#[inline(always)]
unsafe fn zero<S: Simd, T: Element>(staged: &mut [T], count: usize, block: usize, channels: usize) {
    let staged = &mut staged[..(count - 1) * block + channels];
    for first in (0..channels).step_by(S::LANES) {
        for voxel in 0..count {
            // SAFETY: the last voxel's last channel lies inside, as the slice's length shows; the machine runs S.
            unsafe {
                let to = staged.as_mut_ptr().add(voxel * block + first);
                T::store_partial::<S>(to, S::zero(), S::LANES.min(channels - first));
            }
        }
    }
}

impl<E: Element> Piece<'_, E> {
    /// Copies a row to `staged`, voxels `block` elements apart.
    #[inline(always)]
    fn copy<S: Simd, T: Element>(&self, row: &Row, block: usize, staged: &mut [T]) {
        let (segment, take, count) = (self.segment, self.count, row.inside.len());
        let from = self.element(row);
        let stride = segment.strides[3];
        let need = |stride: usize| (count - 1) * stride + take;
        let source = &segment.data[from..][..need(stride)];
        let mask = segment.mask.map(|mask| &mask[from..][..need(stride)]);
        let channels = self.channel..self.channel + take;
        let affine = segment.affine.map(|both| both.map(|values| &values[channels.clone()]));
        let staged = &mut staged[..need(block)];
        let run = Run { source: source.as_ptr(), staged: staged.as_mut_ptr(), stride, count, block };
        // SAFETY: `need` covers the last voxel's last lane in all slices; the machine runs S. A copy of one type to itself
        // may as well move words, two elements each.
        unsafe {
            if E::DTYPE == T::DTYPE && size_of::<E>() == 2 && affine.is_none() && mask.is_none() {
                return run.copy_halves::<S>(take);
            }
            for lane in (0..take).step_by(S::LANES) {
                let lanes = lane..take.min(lane + S::LANES);
                match (affine, mask) {
                    (None, None) => run.copy::<S>(lanes, AsItIs),
                    (Some([scale, shift]), None) => {
                        let at = |values: &[f32]| S::load_partial(values.as_ptr().add(lane), lanes.len());
                        // In the type that the normalised tensor would have; a store in that type rounds by itself.
                        let (scale, shift, rounds) = (at(scale), at(shift), E::DTYPE != T::DTYPE);
                        run.copy::<S>(lanes, Normalised::<S> { scale, shift, rounds });
                    }
                    (affine, Some(mask)) => {
                        assert!(affine.is_none(), "no computation masks a normalised tensor");
                        run.copy::<S>(lanes, Masked { y: mask.as_ptr() });
                    }
                }
            }
        }
    }
}

/// What is done to a vector of elements of type E on its way. Not closures: the compiler may leave those apart, without the
/// instruction set of their surroundings.
trait OnTheWay<S: Simd, E: Element> {
    /// The vector of `lanes` lanes that was loaded from element `at`.
    ///
    /// # Safety
    /// The machine runs S, and these elements exist.
    unsafe fn pass(&self, x: S::V, at: usize, lanes: usize) -> S::V;
}

/// Nothing.
struct AsItIs;

impl<S: Simd, E: Element> OnTheWay<S, E> for AsItIs {
    #[inline(always)]
    unsafe fn pass(&self, x: S::V, _at: usize, _lanes: usize) -> S::V {
        x
    }
}

/// Batch norm.
struct Normalised<S: Simd> {
    scale: S::V,
    shift: S::V,
    rounds: bool,
}

impl<S: Simd, E: Element> OnTheWay<S, E> for Normalised<S> {
    #[inline(always)]
    unsafe fn pass(&self, x: S::V, _at: usize, _lanes: usize) -> S::V {
        let mut lanes = [E::zeroed(); 16];
        // SAFETY: the machine runs S, whose vectors have at most 16 lanes.
        unsafe {
            let x = S::fma(x, self.scale, self.shift);
            if !self.rounds {
                return x;
            }
            E::store::<S>(lanes.as_mut_ptr(), x);
            E::load::<S>(lanes.as_ptr())
        }
    }
}

/// The backward pass of a ReLU.
struct Masked<E> {
    /// The ReLU's result.
    y: *const E,
}

impl<S: Simd, E: Element> OnTheWay<S, E> for Masked<E> {
    #[inline(always)]
    unsafe fn pass(&self, x: S::V, at: usize, lanes: usize) -> S::V {
        // SAFETY: the caller's promise: the ReLU's result has the same elements.
        unsafe {
            let y = self.y.add(at);
            let y = if lanes == S::LANES { E::load::<S>(y) } else { E::load_partial::<S>(y, lanes) };
            S::keep_where_greater(y, S::zero(), x)
        }
    }
}

/// A row of voxels.
struct Run<E, T> {
    source: *const E,
    staged: *mut T,
    stride: usize,
    count: usize,
    block: usize,
}

impl<E: Element, T: Element> Run<E, T> {
    /// Copies up to one vector of channels.
    #[inline(always)]
    unsafe fn copy<S: Simd>(&self, channels: Range<usize>, way: impl OnTheWay<S, E>) {
        let lanes = channels.len();
        for voxel in 0..self.count {
            let (from, to) = (voxel * self.stride + channels.start, voxel * self.block + channels.start);
            // SAFETY: the caller's promise: the run exists in both.
            unsafe {
                if lanes == S::LANES {
                    let x = E::load::<S>(self.source.add(from));
                    T::store::<S>(self.staged.add(to), way.pass(x, from, lanes));
                } else {
                    let x = E::load_partial::<S>(self.source.add(from), lanes);
                    T::store_partial::<S>(self.staged.add(to), way.pass(x, from, lanes), lanes);
                }
            }
        }
    }

    /// Copies 16-bit elements as they are: by words, and the last one of an odd number.
    #[inline(always)]
    unsafe fn copy_halves<S: Simd>(&self, channels: usize) {
        let (source, staged) = (self.source.cast::<u16>(), self.staged.cast::<u16>());
        let words = channels / 2;
        // SAFETY: the caller's promise: the run exists in both; loads and stores of vectors need no alignment.
        unsafe {
            for word in (0..words).step_by(S::LANES) {
                for voxel in 0..self.count {
                    let from = source.add(voxel * self.stride + 2 * word).cast();
                    let to = staged.add(voxel * self.block + 2 * word).cast();
                    match words - word {
                        left if left < S::LANES => S::store_partial(to, S::load_partial(from, left), left),
                        _ => S::store(to, S::load(from)),
                    }
                }
            }
            if channels % 2 == 1 {
                for voxel in 0..self.count {
                    let last = channels - 1;
                    *staged.add(voxel * self.block + last) = *source.add(voxel * self.stride + last);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::source::Segment, *};

    #[test]
    fn a_window_over_the_corner_holds_zeros_outside_and_the_concatenation_inside() {
        let extents = [2, 3, 4];
        let a: Vec<f32> = (0..2 * 24 * 5).map(|i| i as f32 + 1.0).collect();
        let b: Vec<f32> = (0..2 * 24 * 30).map(|i| -(i as f32) - 1.0).collect();
        let source = Source::new([Segment::dense(&a, extents, 5), Segment::dense(&b, extents, 30)], extents);
        let window = Window { sample: 1, start: [-1, -2, -1], extents: [4, 6, 7] };
        let mut staged = vec![9.0; 4 * 6 * 3 * 7 * BLOCK];
        source.stage((Isa::best(), Word::Single), window, 0..35, BLOCK, 3 * BLOCK, &mut staged);
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
