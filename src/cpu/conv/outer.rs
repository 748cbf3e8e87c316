//! The microkernel of wgrad: `dfilter[tap][ci][co] += sum over voxels of input[x + tap][ci] * dy[x][co]`.
//!
//! It walks the input voxels of some rows and keeps the sums of all taps along a row, some input channels and some output channels
//! in registers: a broadcast input serves every tap and vector, so 4 broadcasts and 6 loads feed 24 multiply-adds
//! (3 taps, 4 input channels, 2 vectors). Every position of the input counts once; `dy` has zero margins instead.
//!
//! Pairs are neighbouring voxels: the input's words hold the voxels `2 i` and `2 i + 1`, and it is walked in steps of two voxels. The
//! gradient must meet them at any tap, so its word `i` holds the voxels `i` and `i + 1`: each voxel is there twice.

#![allow(unsafe_code)]

use super::{
    stage::BLOCK,
    word::{Multiply, Pair, Single, Word},
};
use crate::cpu::simd::{Isa, Kernel, PairKernel, Pairs, Simd, dispatch_narrow, dispatch_pairs, dispatch_wide};

/// One register block's work: addresses and strides in elements.
#[derive(Clone, Copy)]
pub(super) struct Outer {
    /// What input and gradient are made of.
    pub word: Word,
    /// Staged input of the first voxel and channel.
    pub input: *const f32,
    pub input_plane_stride: usize,
    pub input_row_stride: usize,
    /// Staged output gradient that belongs to the first input voxel at the FIRST of the taps; each later tap lies one voxel before.
    pub dy: *const f32,
    pub dy_plane_stride: usize,
    pub dy_row_stride: usize,
    /// Planes, rows and words of the input's voxels.
    pub extents: [usize; 3],
    /// Partial sums of the first tap, first input and output channel.
    pub sums: *mut f32,
    pub tap_stride: usize,
    pub channel_stride: usize,
    /// Input channels, or rows of taps, and output channels that exist.
    pub channels_in: usize,
    pub channels_out: usize,
    /// Add to what is there, instead of overwriting it.
    pub accumulate: bool,
}

/// A compiled microkernel.
pub(super) type OuterFunction = unsafe fn(Isa, &Outer);

/// Extents of a register block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OuterShape {
    /// Taps along a row.
    pub taps: usize,
    /// Input channels; divides [`BLOCK`].
    pub channels: usize,
    /// SIMD vectors of output channels.
    pub vectors: usize,
    /// For a single input channel, which would feed too few sums: rows of taps take the place of channels, and staged blocks
    /// hold one word.
    pub stacked: bool,
}

impl OuterShape {
    /// Words of a block of the staged input.
    pub(super) fn staged_block(&self) -> usize {
        if self.stacked { 1 } else { BLOCK }
    }
}

macro_rules! outer_table {
    ($function:ident, $stacked:literal, [$(($taps:literal, $channels:literal, $vectors:literal)),* $(,)?]) => {
        &[$((
            OuterShape { taps: $taps, channels: $channels, vectors: $vectors, stacked: $stacked },
            $function::<$taps, $channels, $vectors, $stacked> as OuterFunction,
        )),*]
    };
}

const WIDE: &[(OuterShape, OuterFunction)] = outer_table!(
    run_wide,
    false,
    [
        (3, 8, 1),
        (3, 4, 1),
        (3, 2, 2),
        (3, 2, 1),
        (3, 1, 2),
        (3, 1, 1),
        (2, 4, 2),
        (2, 8, 1),
        (2, 1, 1),
        (1, 8, 2),
        (1, 16, 1),
        (1, 4, 2),
        (1, 1, 1),
    ]
);

const NARROW: &[(OuterShape, OuterFunction)] =
    outer_table!(run_narrow, false, [(3, 4, 1), (3, 1, 1), (2, 4, 1), (2, 1, 1), (1, 4, 2), (1, 8, 1), (1, 1, 1)]);

const WIDE_STACKED: &[(OuterShape, OuterFunction)] = outer_table!(run_wide, true, [(3, 3, 1), (3, 3, 2)]);

const NARROW_STACKED: &[(OuterShape, OuterFunction)] = outer_table!(run_narrow, true, [(3, 3, 1)]);

/// The microkernel with the fewest wasted operations for a filter of `kernel_width` taps along each of `kernel_rows` rows.
pub(super) fn choose(
    isa: Isa,
    [kernel_rows, kernel_width]: [usize; 2],
    channels_in: usize,
    channels_out: usize,
) -> (OuterShape, OuterFunction) {
    let stacked = channels_in == 1 && [kernel_rows, kernel_width] == [3, 3];
    let (table, channels_in) = match (isa.is_wide(), stacked) {
        (true, false) => (WIDE, channels_in),
        (false, false) => (NARROW, channels_in),
        (true, true) => (WIDE_STACKED, kernel_rows),
        (false, true) => (NARROW_STACKED, kernel_rows),
    };
    // A wider kernel is taken tap by tap.
    let taps = if kernel_width <= 3 { kernel_width } else { 1 };
    let cost = |shape: &OuterShape| {
        let blocks = channels_in.div_ceil(shape.channels) * channels_out.div_ceil(shape.vectors * isa.lanes());
        let sums = shape.taps * shape.channels * shape.vectors;
        let loads = shape.channels + shape.taps * shape.vectors;
        blocks * (sums.max(8).max(loads) + 1)
    };
    let candidates = table.iter().filter(|(shape, _)| shape.taps == taps);
    let (shape, function) =
        candidates.min_by_key(|(shape, _)| cost(shape)).expect("the tables have 1, 2 and 3 taps, or 3 rows of 3");
    (*shape, *function)
}

/// Adds one register block's sums.
///
/// # Safety
/// The machine has `isa`. All addresses that `outer` spans are readable (whole register blocks of `input` and `dy`) or writable
/// by nobody else (`sums`, for the channels that exist).
unsafe fn run_wide<const T: usize, const C: usize, const V: usize, const STACKED: bool>(isa: Isa, outer: &Outer) {
    let kernel = OuterKernel::<T, C, V, STACKED>(outer);
    match outer.word {
        Word::Single => dispatch_wide(isa, kernel),
        Word::Pair => dispatch_pairs(isa, kernel),
    }
}

/// Adds one register block's sums of fp32 words.
///
/// # Safety
/// As for [`run_wide`].
unsafe fn run_narrow<const T: usize, const C: usize, const V: usize, const STACKED: bool>(isa: Isa, outer: &Outer) {
    dispatch_narrow(isa, OuterKernel::<T, C, V, STACKED>(outer));
}

struct OuterKernel<'a, const T: usize, const C: usize, const V: usize, const STACKED: bool>(&'a Outer);

impl<const T: usize, const C: usize, const V: usize, const STACKED: bool> Kernel for OuterKernel<'_, T, C, V, STACKED> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: the machine runs S.
        unsafe { self.compute::<S, Single>(1) }
    }
}

impl<const T: usize, const C: usize, const V: usize, const STACKED: bool> PairKernel
    for OuterKernel<'_, T, C, V, STACKED>
{
    #[inline(always)]
    unsafe fn run<S: Pairs>(self) {
        // SAFETY: the machine runs S.
        unsafe { self.compute::<S, Pair>(2) }
    }
}

impl<const T: usize, const C: usize, const V: usize, const STACKED: bool> OuterKernel<'_, T, C, V, STACKED> {
    /// Walks the input, whose words hold `voxels` voxels each.
    #[inline(always)]
    unsafe fn compute<S: Simd, M: Multiply<S>>(self, voxels: usize) {
        let outer = self.0;
        let [planes, rows, width] = outer.extents;
        let dy_block = V * S::LANES;
        // SAFETY: the loops stay inside the extents that the caller of `run_wide` vouches for.
        unsafe {
            let mut sums = [[[S::zero(); V]; C]; T];
            for plane in 0..planes {
                for row in 0..rows {
                    let mut input = outer.input.add(plane * outer.input_plane_stride + row * outer.input_row_stride);
                    let mut dy = outer.dy.add(plane * outer.dy_plane_stride + row * outer.dy_row_stride);
                    for _ in 0..width {
                        let mut g = [[S::zero(); V]; T];
                        for t in 0..T {
                            for v in 0..V {
                                g[t][v] = S::load(dy.sub(t * dy_block).add(v * S::LANES));
                            }
                        }
                        for c in 0..C {
                            let x = S::splat(*input.add(if STACKED { c * outer.input_row_stride } else { c }));
                            for t in 0..T {
                                for v in 0..V {
                                    sums[t][c][v] = M::multiply(x, g[t][v], sums[t][c][v]);
                                }
                            }
                        }
                        input = input.add(if STACKED { 1 } else { BLOCK });
                        dy = dy.add(voxels * dy_block);
                    }
                }
            }
            for v in 0..V {
                let lanes = outer.channels_out.saturating_sub(v * S::LANES).min(S::LANES);
                for t in 0..T {
                    for c in 0..C {
                        if lanes == 0 || c >= outer.channels_in {
                            continue;
                        }
                        let to = outer.sums.add(t * outer.tap_stride + c * outer.channel_stride + v * S::LANES);
                        let mut sum = sums[t][c][v];
                        if outer.accumulate {
                            sum = S::add(S::load_partial(to, lanes), sum);
                        }
                        if lanes == S::LANES { S::store(to, sum) } else { S::store_partial(to, sum, lanes) }
                    }
                }
            }
        }
    }
}
