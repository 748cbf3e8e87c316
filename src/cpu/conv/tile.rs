//! The microkernel of fprop and dgrad: a tile of output voxels times a block of output channels, held in registers.
//!
//! `acc[r][c][v] += input[r][c + tap][ci] * filter[tap][ci][v]` over all taps and the input channels of a chunk; with pairs, `ci`
//! and `ci + 1` at once. One filter vector load and one broadcast serve many multiply-adds: with 14 voxels x 2 vectors, 16 loads for 28. The tile
//! shape is chosen for the row length, so that 48, 12 or 3 voxels fill whole tiles.

use super::{
    stage::BLOCK,
    word::{Multiply, Pair, Single, Word},
};
use crate::cpu::simd::{
    Isa, Kernel, PairKernel, Pairs, Simd, dispatch, dispatch_narrow, dispatch_pairs, dispatch_wide,
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
    /// Packed filter `[block][tap][word][vectors * lanes]` of this chunk.
    pub filter: *const f32,
    /// First voxel and channel of the output tile.
    pub output: *mut f32,
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

/// A compiled microkernel.
pub(super) type TileFunction = unsafe fn(Isa, &Tile);

/// Extents of a register tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TileShape {
    pub rows: usize,
    pub columns: usize,
    /// SIMD vectors of output channels; single output channels of a `dot` tile.
    pub vectors: usize,
    /// Lanes are input channels, summed at the end: for layers with so few filters that they would not fill a vector.
    pub dot: bool,
}

impl TileShape {
    /// Output channels of the tile.
    pub(super) fn width(&self, isa: Isa) -> usize {
        if self.dot { self.vectors } else { self.vectors * isa.lanes() }
    }
}

macro_rules! tile_table {
    ($function:ident, $dot:literal, [$(($rows:literal, $columns:literal, $vectors:literal)),* $(,)?]) => {
        &[$((
            TileShape { rows: $rows, columns: $columns, vectors: $vectors, dot: $dot },
            $function::<$rows, $columns, $vectors> as TileFunction,
        )),*]
    };
}

/// 32 registers: at most 28 sums, 2 filter vectors, 1 broadcast.
const WIDE: &[(TileShape, TileFunction)] = tile_table!(
    run_wide,
    false,
    [
        (1, 14, 2),
        (1, 13, 2),
        (1, 12, 2),
        (1, 11, 2),
        (1, 10, 2),
        (1, 9, 2),
        (1, 8, 2),
        (1, 6, 2),
        (2, 7, 2),
        (2, 6, 2),
        (2, 5, 2),
        (3, 4, 2),
        (4, 3, 2),
        (6, 2, 2),
        (2, 4, 2),
        (3, 3, 2),
        (8, 1, 2),
        (1, 28, 1),
        (1, 24, 1),
        (2, 13, 1),
        (2, 12, 1),
        (2, 11, 1),
        (2, 10, 1),
        (2, 9, 1),
        (2, 8, 1),
        (1, 16, 1),
        (1, 12, 1),
        (3, 8, 1),
        (4, 7, 1),
        (4, 6, 1),
        (6, 4, 1),
        (8, 3, 1),
        (3, 4, 1),
        (3, 3, 1),
        (8, 1, 1),
    ]
);

/// 16 registers: at most 12 sums.
const NARROW: &[(TileShape, TileFunction)] = tile_table!(
    run_narrow,
    false,
    [
        (1, 6, 2),
        (1, 5, 2),
        (1, 4, 2),
        (2, 3, 2),
        (2, 2, 2),
        (6, 1, 2),
        (1, 12, 1),
        (1, 10, 1),
        (1, 8, 1),
        (2, 6, 1),
        (2, 4, 1),
        (3, 4, 1),
        (3, 3, 1),
        (8, 1, 1),
    ]
);

/// One to four filters: a load of input channels serves every filter.
const DOT: &[(TileShape, TileFunction)] = tile_table!(
    run_dot,
    true,
    [
        (1, 12, 1),
        (1, 8, 1),
        (3, 4, 1),
        (1, 12, 2),
        (1, 8, 2),
        (2, 6, 2),
        (3, 4, 2),
        (1, 8, 3),
        (2, 4, 3),
        (1, 6, 4),
        (2, 3, 4),
        (1, 4, 4),
    ]
);

/// The microkernel that computes `rows x columns` outputs from `words` of input channels to `channels_out` channels with the
/// fewest wasted operations.
pub(super) fn choose(
    isa: Isa,
    [rows, columns]: [usize; 2],
    words: usize,
    channels_out: usize,
) -> (TileShape, TileFunction) {
    let table = if isa.is_wide() { WIDE } else { NARROW };
    let cost = |shape: &TileShape| {
        let tiles = rows.div_ceil(shape.rows) * columns.div_ceil(shape.columns);
        let blocks = channels_out.div_ceil(shape.width(isa));
        let sums = shape.rows * shape.columns * shape.vectors;
        // Cycles in halves: multiply-adds, or loads where these are more, or the latency of too few independent sums.
        let loads = shape.rows * shape.columns + shape.vectors;
        let steps = if shape.dot { words.next_multiple_of(BLOCK) / isa.lanes() } else { words };
        tiles * blocks * steps * ((2 * sums.max(8)).max(2 * loads) + 2 + shape.vectors)
    };
    let fits =
        |shape: &TileShape| !shape.dot || (shape.vectors == channels_out && (isa.is_wide() || shape.columns <= 6));
    let candidates = table.iter().chain(DOT).filter(|(shape, _)| fits(shape));
    let (shape, function) = candidates.min_by_key(|(shape, _)| cost(shape)).expect("the tables are not empty");
    (*shape, *function)
}

/// Computes one tile.
///
/// # Safety
/// The machine has `isa`. All addresses that `tile` spans are readable (input, for the whole register tile and its taps; filter;
/// bias) or writable by nobody else (output, for the part that exists).
unsafe fn run_wide<const R: usize, const C: usize, const V: usize>(isa: Isa, tile: &Tile) {
    let kernel = TileKernel::<R, C, V>(tile);
    match tile.word {
        Word::Single => dispatch_wide(isa, kernel),
        Word::Pair => dispatch_pairs(isa, kernel),
    }
}

/// Computes one tile of fp32 words.
///
/// # Safety
/// As for [`run_wide`].
unsafe fn run_narrow<const R: usize, const C: usize, const V: usize>(isa: Isa, tile: &Tile) {
    dispatch_narrow(isa, TileKernel::<R, C, V>(tile));
}

struct TileKernel<'a, const R: usize, const C: usize, const V: usize>(&'a Tile);

impl<const R: usize, const C: usize, const V: usize> Kernel for TileKernel<'_, R, C, V> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: the machine runs S.
        unsafe { self.compute::<S, Single>() }
    }
}

impl<const R: usize, const C: usize, const V: usize> PairKernel for TileKernel<'_, R, C, V> {
    #[inline(always)]
    unsafe fn run<S: Pairs>(self) {
        // SAFETY: the machine runs S.
        unsafe { self.compute::<S, Pair>() }
    }
}

impl<const R: usize, const C: usize, const V: usize> TileKernel<'_, R, C, V> {
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
                        for w in 0..kw {
                            let input = block.add(d * tile.plane_stride + h * tile.row_stride + w * BLOCK);
                            if words == BLOCK {
                                filter = multiply::<S, M, R, C, V>(&mut sums, input, tile.row_stride, filter, BLOCK);
                            } else {
                                filter = multiply::<S, M, R, C, V>(&mut sums, input, tile.row_stride, filter, words);
                            }
                        }
                    }
                }
                block = block.add(tile.block_stride);
                left -= words;
            }
            finish::<S, R, C, V>(&sums, tile);
        }
    }
}

/// Adds one tap of one block of words; returns the filter address behind it.
#[inline(always)]
unsafe fn multiply<S: Simd, M: Multiply<S>, const R: usize, const C: usize, const V: usize>(
    sums: &mut [[[S::V; V]; C]; R],
    input: *const f32,
    row_stride: usize,
    mut filter: *const f32,
    words: usize,
) -> *const f32 {
    // SAFETY: the caller's: `words` filter rows, and inputs of the register tile.
    unsafe {
        for word in 0..words {
            let mut f = [S::zero(); V];
            for v in 0..V {
                f[v] = S::load(filter.add(v * S::LANES));
            }
            for r in 0..R {
                let row = input.add(r * row_stride + word);
                for c in 0..C {
                    let x = S::splat(*row.add(c * BLOCK));
                    for v in 0..V {
                        sums[r][c][v] = M::multiply(x, f[v], sums[r][c][v]);
                    }
                }
            }
            filter = filter.add(V * S::LANES);
        }
        filter
    }
}

/// Adds earlier sums and bias, applies ReLU, stores the voxels and channels that exist.
#[inline(always)]
unsafe fn finish<S: Simd, const R: usize, const C: usize, const V: usize>(sums: &[[[S::V; V]; C]; R], tile: &Tile) {
    // SAFETY: only voxels and channels that exist are touched.
    unsafe {
        for v in 0..V {
            let lanes = tile.channels_out.saturating_sub(v * S::LANES).min(S::LANES);
            let bias = match tile.bias.is_null() {
                true => S::zero(),
                false => S::load_partial(tile.bias.wrapping_add(v * S::LANES), lanes),
            };
            let mut total = [S::zero(); 2];
            for r in 0..R {
                for c in 0..C {
                    if lanes == 0 || r >= tile.rows || c >= tile.columns {
                        continue;
                    }
                    let to = tile.output.add(r * tile.output_row_stride + c * tile.output_stride + v * S::LANES);
                    let mut sum = S::add(sums[r][c][v], bias);
                    if tile.accumulate {
                        let earlier = if lanes == S::LANES { S::load(to) } else { S::load_partial(to, lanes) };
                        sum = S::add(sum, earlier);
                    }
                    if tile.relu {
                        sum = S::max(sum, S::zero());
                    }
                    total = [S::add(total[0], sum), S::fma(sum, sum, total[1])];
                    if lanes == S::LANES { S::store(to, sum) } else { S::store_partial(to, sum, lanes) }
                }
            }
            if !tile.statistics.is_null() {
                for (half, total) in total.into_iter().enumerate() {
                    let to = tile.statistics.add(half * tile.statistics_stride + v * S::LANES);
                    S::store_partial(to, S::add(S::load_partial(to, lanes), total), lanes);
                }
            }
        }
    }
}

/// Computes one tile whose lanes are input channels.
///
/// # Safety
/// As for [`run_wide`], with a filter packed for it.
unsafe fn run_dot<const R: usize, const C: usize, const V: usize>(isa: Isa, tile: &Tile) {
    let kernel = DotKernel::<R, C, V>(tile);
    match tile.word {
        Word::Single => dispatch(isa, kernel),
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
        // SAFETY: the loops stay inside the extents that the caller of `run_dot` vouches for.
        unsafe {
            let mut sums = [[[S::zero(); V]; C]; R];
            let mut filter = tile.filter;
            let [kd, kh, kw] = tile.kernel;
            let mut block = tile.input;
            for _ in 0..tile.words.div_ceil(BLOCK) {
                for d in 0..kd {
                    for h in 0..kh {
                        for w in 0..kw {
                            let input = block.add(d * tile.plane_stride + h * tile.row_stride + w * BLOCK);
                            for lane in (0..BLOCK).step_by(S::LANES) {
                                let mut f = [S::zero(); V];
                                for v in 0..V {
                                    f[v] = S::load(filter.add(v * BLOCK + lane));
                                }
                                for r in 0..R {
                                    for c in 0..C {
                                        let x = S::load(input.add(r * tile.row_stride + c * BLOCK + lane));
                                        for v in 0..V {
                                            sums[r][c][v] = M::multiply(x, f[v], sums[r][c][v]);
                                        }
                                    }
                                }
                            }
                            filter = filter.add(V * BLOCK);
                        }
                    }
                }
                block = block.add(tile.block_stride);
            }
            // C * V is a multiple of 4 in every table entry: whole groups of four neighbouring sums.
            for r in 0..R.min(tile.rows) {
                let mut totals = [[0.0f32; V]; C];
                for i in (0..C * V).step_by(4) {
                    let four = S::sum4(std::array::from_fn(|k| sums[r][(i + k) / V][(i + k) % V]));
                    four.into_iter().enumerate().for_each(|(k, sum)| totals[(i + k) / V][(i + k) % V] = sum);
                }
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
