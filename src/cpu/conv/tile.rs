//! The microkernel of fprop and dgrad: a tile of output voxels times a block of output channels, held in registers.
//!
//! `acc[r][c][v] += input[r][c + tap][ci] * filter[tap][ci][v]` over all taps and the input channels of a chunk; with pairs, `ci`
//! and `ci + 1` at once. One filter vector load and one broadcast serve many multiply-adds: with 14 voxels x 2 vectors, 16 loads for 28. The tile
//! shape is chosen for the row length, so that 48, 12 or 3 voxels fill whole tiles.

#![allow(unsafe_code)]

use half::bf16;

use super::{
    stage::BLOCK,
    word::{Multiply, Pair, Single, Word},
};
use crate::{
    cpu::{
        Element,
        simd::{
            Isa, Kernel, PairKernel, Pairs, Simd, dispatch_half, dispatch_half_pairs, dispatch_narrow, dispatch_pairs,
            dispatch_wide,
        },
    },
    tensor::DType,
};

/// One tile's work: addresses and strides in elements.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    /// Staged input of the tile's first voxel at tap (0, 0, 0), first channel of the chunk.
    pub input: *const f32,
    /// From one staged block of words, plane and row to the next.
    pub block_stride: usize,
    pub plane_stride: usize,
    pub row_stride: usize,
    pub kernel: [usize; 3],
    /// What input and filter are made of.
    pub word: Word,
    /// Words of input channels in this chunk.
    pub words: usize,
    /// Packed filter `[16 words][taps that share a broadcast][word][tap][vectors * lanes]` of this chunk.
    pub filter: *const f32,
    /// First voxel and channel of the output tile: of fp32 elements, or of bfloat16 elements.
    pub output: *mut f32,
    /// The latter, for words of pairs and sums that are complete.
    pub narrow: bool,
    pub output_row_stride: usize,
    pub output_stride: usize,
    /// Rows, voxels and channels of the tile that exist.
    pub rows: usize,
    pub columns: usize,
    pub channels_out: usize,
    /// Continue sums that an earlier chunk left in the output.
    pub accumulate: bool,
    /// Added at the end unless null.
    pub bias: *const f32,
    /// Negative results become 0.
    pub relu: bool,
    /// Sums of this block's final results over voxels, and of their squares `statistics_stride` behind; unless null.
    pub statistics: *mut f32,
    pub statistics_stride: usize,
}

/// Computes one tile.
///
/// # Safety
/// The machine has `isa`. All addresses that `tile` spans are readable (input, for the whole register tile and its taps; filter;
/// bias) or writable by nobody else (output, for the part that exists).
pub(super) unsafe fn run_wide<const R: usize, const C: usize, const V: usize, const T: usize>(isa: Isa, tile: &Tile) {
    let kernel = TileKernel::<R, C, V, T>(tile);
    match tile.word {
        Word::Single => dispatch_wide(isa, kernel),
        Word::Pair => dispatch_pairs(isa, kernel),
    }
}

/// Computes one tile of at most 8 output channels.
///
/// # Safety
/// As for [`run_wide`].
pub(super) unsafe fn run_half<const R: usize, const C: usize, const V: usize, const T: usize>(isa: Isa, tile: &Tile) {
    let kernel = TileKernel::<R, C, V, T>(tile);
    match tile.word {
        Word::Single => dispatch_half(isa, kernel),
        Word::Pair => dispatch_half_pairs(isa, kernel),
    }
}

/// Computes one tile of fp32 words.
///
/// # Safety
/// As for [`run_wide`].
pub(super) unsafe fn run_narrow<const R: usize, const C: usize, const V: usize, const T: usize>(isa: Isa, tile: &Tile) {
    dispatch_narrow(isa, TileKernel::<R, C, V, T>(tile));
}

struct TileKernel<'a, const R: usize, const C: usize, const V: usize, const T: usize>(&'a Tile);

impl<const R: usize, const C: usize, const V: usize, const T: usize> Kernel for TileKernel<'_, R, C, V, T> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: the machine runs S.
        unsafe { self.compute::<S, Single>() }
    }
}

impl<const R: usize, const C: usize, const V: usize, const T: usize> PairKernel for TileKernel<'_, R, C, V, T> {
    #[inline(always)]
    unsafe fn run<S: Pairs>(self) {
        // SAFETY: the machine runs S.
        unsafe { self.compute::<S, Pair>() }
    }
}

impl<const R: usize, const C: usize, const V: usize, const T: usize> TileKernel<'_, R, C, V, T> {
    #[inline(always)]
    unsafe fn compute<S: Simd, M: Multiply<S>>(self) {
        let tile = self.0;
        // SAFETY: the loops stay inside the extents that the caller of `run_wide` vouches for.
        unsafe {
            let mut sums = [[[S::zero(); V]; C]; R];
            let mut filter = tile.filter;
            let [kd, kh, kw] = tile.kernel;
            let mut block = tile.input;
            let mut left = tile.words;
            while left > 0 {
                let words = left.min(BLOCK);
                for d in 0..kd {
                    for h in 0..kh {
                        for w in (0..kw).step_by(T) {
                            let mut input = block.add(d * tile.plane_stride + h * tile.row_stride + w * M::BLOCK);
                            let mut left = words;
                            while left >= M::BLOCK {
                                filter =
                                    multiply::<S, M, R, C, V, T>(&mut sums, input, tile.row_stride, filter, M::BLOCK);
                                input = input.wrapping_add(tile.block_stride);
                                left -= M::BLOCK;
                            }
                            if left > 0 {
                                filter = multiply::<S, M, R, C, V, T>(&mut sums, input, tile.row_stride, filter, left);
                            }
                        }
                    }
                }
                block = block.wrapping_add(BLOCK / M::BLOCK * tile.block_stride);
                left -= words;
            }
            if M::PAIRS && tile.narrow {
                finish::<S, bf16, R, C, V>(&sums, tile);
            } else {
                finish::<S, f32, R, C, V>(&sums, tile);
            }
        }
    }
}

/// Repeats a block for `i` from 0 to a constant of at most 40. The compiler gives up on loops of this length, and sums would
/// not stay in registers.
macro_rules! unroll {
    ($i:ident in $count:expr => $body:block) => {
        unroll!($i, $count, $body, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19
            20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36 37 38 39)
    };
    ($i:ident, $count:expr, $body:block, $($number:literal)*) => {
        $(if $number < $count {
            let $i: usize = $number;
            $body
        })*
    };
}

pub(super) use unroll;

/// Adds T taps of one block of words; returns the filter address behind them.
#[inline(always)]
unsafe fn multiply<S: Simd, M: Multiply<S>, const R: usize, const C: usize, const V: usize, const T: usize>(
    sums: &mut [[[S::V; V]; C]; R],
    input: *const f32,
    row_stride: usize,
    mut filter: *const f32,
    words: usize,
) -> *const f32 {
    const { assert!(R * (C + T - 1) <= 40, "unrolled to the end") };
    // SAFETY: the caller's: `words` filter rows of each tap, and inputs of the register tile at all taps.
    unsafe {
        for word in 0..words {
            let mut f = [[S::zero(); V]; T];
            for t in 0..T {
                for v in 0..V {
                    f[t][v] = S::load(filter.add((t * V + v) * S::LANES));
                }
            }
            // Input `c` of a row is tap `t` of output `c - t`.
            unroll!(i in R * (C + T - 1) => {
                let (r, c) = (i / (C + T - 1), i % (C + T - 1));
                let x = S::splat(*input.add(r * row_stride + c * M::BLOCK + word));
                for t in 0..T {
                    if c >= t && c - t < C {
                        for v in 0..V {
                            sums[r][c - t][v] = M::multiply(x, f[t][v], sums[r][c - t][v]);
                        }
                    }
                }
            });
            filter = filter.add(T * V * S::LANES);
        }
        filter
    }
}

/// Adds earlier sums and bias, applies ReLU, stores the voxels and channels that exist as elements of type E.
#[inline(always)]
unsafe fn finish<S: Simd, E: Element, const R: usize, const C: usize, const V: usize>(
    sums: &[[[S::V; V]; C]; R],
    tile: &Tile,
) {
    // SAFETY: only voxels and channels that exist are touched.
    unsafe {
        let output = tile.output.cast::<E>();
        let lanes: [usize; V] = std::array::from_fn(|v| tile.channels_out.saturating_sub(v * S::LANES).min(S::LANES));
        let mut bias = [S::zero(); V];
        if !tile.bias.is_null() {
            for v in 0..V {
                bias[v] = S::load_partial(tile.bias.wrapping_add(v * S::LANES), lanes[v]);
            }
        }
        let mut totals = [[S::zero(); V]; 2];
        unroll!(i in R * C => {
            let (r, c) = (i / C, i % C);
            if r < tile.rows && c < tile.columns {
                let to = output.add(r * tile.output_row_stride + c * tile.output_stride);
                for v in 0..V {
                    let (to, lanes) = (to.add(v * S::LANES), lanes[v]);
                    let mut sum = S::add(sums[r][c][v], bias[v]);
                    if tile.accumulate {
                        sum = S::add(sum, E::load_partial::<S>(to, lanes));
                    }
                    if tile.relu {
                        sum = S::max(sum, S::zero());
                    }
                    if lanes == S::LANES { E::store::<S>(to, sum) } else { E::store_partial::<S>(to, sum, lanes) }
                    if !tile.statistics.is_null() {
                        // Of what was stored.
                        let y = if E::DTYPE == DType::F32 { sum } else { E::load_partial::<S>(to, lanes) };
                        totals[0][v] = S::add(totals[0][v], y);
                        totals[1][v] = S::fma(y, y, totals[1][v]);
                    }
                }
            }
        });
        if !tile.statistics.is_null() {
            for half in 0..2 {
                for v in 0..V {
                    let to = tile.statistics.add(half * tile.statistics_stride + v * S::LANES);
                    S::store_partial(to, S::add(S::load_partial(to, lanes[v]), totals[half][v]), lanes[v]);
                }
            }
        }
    }
}
