//! The microkernel of fprop and dgrad for one to four output channels: lanes are input channels, summed at the end, because so few
//! filters would not fill a vector.

#![allow(unsafe_code)]

use super::{
    stage::BLOCK,
    tile::{Tile, unroll},
    tile_shapes::HALF_LANES,
    word::{Multiply, Pair, Single, Word},
};
use crate::cpu::simd::{Isa, Kernel, PairKernel, Pairs, Simd, dispatch, dispatch_half_pairs, dispatch_pairs};

/// Computes one tile whose lanes are input channels.
///
/// # Safety
/// As for [`run_wide`], with a filter packed for it.
pub(super) unsafe fn run_dot<const R: usize, const C: usize, const V: usize>(isa: Isa, tile: &Tile) {
    let kernel = DotKernel::<R, C, V>(tile);
    match tile.word {
        Word::Single => dispatch(isa, kernel),
        // A second half of words would be empty.
        Word::Pair if tile.words <= HALF_LANES => dispatch_half_pairs(isa, kernel),
        Word::Pair => dispatch_pairs(isa, kernel),
    }
}

struct DotKernel<'a, const R: usize, const C: usize, const V: usize>(&'a Tile);

impl<const R: usize, const C: usize, const V: usize> Kernel for DotKernel<'_, R, C, V> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: the machine runs S.
        unsafe { self.compute::<S, Single>() }
    }
}

impl<const R: usize, const C: usize, const V: usize> PairKernel for DotKernel<'_, R, C, V> {
    #[inline(always)]
    unsafe fn run<S: Pairs>(self) {
        // SAFETY: the machine runs S.
        unsafe { self.compute::<S, Pair>() }
    }
}

impl<const R: usize, const C: usize, const V: usize> DotKernel<'_, R, C, V> {
    #[inline(always)]
    unsafe fn compute<S: Simd, M: Multiply<S>>(self) {
        let tile = self.0;
        // A kernel of half vectors reads half blocks of pairs.
        let block_len = if M::PAIRS { S::LANES } else { BLOCK };
        // SAFETY: the loops stay inside the extents that the caller of `run_dot` vouches for.
        unsafe {
            let mut sums = [[[S::zero(); V]; C]; R];
            let mut filter = tile.filter;
            let [kd, kh, kw] = tile.kernel;
            let mut block = tile.input;
            for first in (0..tile.words).step_by(BLOCK) {
                let words = BLOCK.min((tile.words - first).next_multiple_of(S::LANES));
                for d in 0..kd {
                    for h in 0..kh {
                        for w in 0..kw {
                            let input = block.add(d * tile.plane_stride + h * tile.row_stride + w * block_len);
                            for lane in (0..words).step_by(S::LANES) {
                                let mut f = [S::zero(); V];
                                for v in 0..V {
                                    f[v] = S::load(filter.add(v * BLOCK + lane));
                                }
                                unroll!(i in R * C => {
                                    let (r, c) = (i / C, i % C);
                                    let x = S::load(input.add(r * tile.row_stride + c * block_len + lane));
                                    for v in 0..V {
                                        sums[r][c][v] = M::multiply(x, f[v], sums[r][c][v]);
                                    }
                                });
                            }
                            filter = filter.add(V * BLOCK);
                        }
                    }
                }
                block = block.add(tile.block_stride);
            }
            let mut totals = [[[0.0f32; V]; C]; R];
            // Whole groups of four neighbouring sums.
            const { assert!((C * V).is_multiple_of(4)) };
            unroll!(i in R * C * V / 4 => {
                let (r, i) = (4 * i / (C * V), 4 * i % (C * V));
                let four = S::sum4([
                    sums[r][i / V][i % V],
                    sums[r][(i + 1) / V][(i + 1) % V],
                    sums[r][(i + 2) / V][(i + 2) % V],
                    sums[r][(i + 3) / V][(i + 3) % V],
                ]);
                for k in 0..4 {
                    totals[r][(i + k) / V][(i + k) % V] = four[k];
                }
            });
            for r in 0..R.min(tile.rows) {
                let totals = totals[r];
                let mut statistics = [[0.0f32; V]; 2];
                for c in 0..C.min(tile.columns) {
                    for v in 0..V {
                        let to = tile.output.add(r * tile.output_row_stride + c * tile.output_stride + v);
                        let mut sum = totals[c][v];
                        if tile.accumulate {
                            sum += *to;
                        }
                        if !tile.bias.is_null() {
                            sum += *tile.bias.add(v);
                        }
                        sum = if tile.relu { sum.max(0.0) } else { sum };
                        statistics[0][v] += sum;
                        statistics[1][v] += sum * sum;
                        *to = sum;
                    }
                }
                if !tile.statistics.is_null() {
                    for (half, totals) in statistics.iter().enumerate() {
                        for (v, total) in totals.iter().enumerate() {
                            *tile.statistics.add(half * tile.statistics_stride + v) += total;
                        }
                    }
                }
            }
        }
    }
}
