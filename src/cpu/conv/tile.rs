//! The microkernel of fprop and dgrad: a tile of output voxels times a block of output channels, held in registers.
//!
//! `acc[r][c][v] += input[r][c + tap][ci] * filter[tap][ci][v]` over all taps and the input channels of a chunk; with pairs, `ci`
//! and `ci + 1` at once. One filter vector load and one broadcast serve many multiply-adds: with 14 voxels x 2 vectors, 16 loads for 28. The tile
//! shape is chosen for the row length, so that 48, 12 or 3 voxels fill whole tiles.

use half::bf16;

use super::{
    stage::BLOCK,
    word::{Multiply, Pair, Single, Word},
};
use crate::{
    cpu::{
        Element,
        simd::{
            Isa, Kernel, PairKernel, Pairs, Simd, dispatch, dispatch_half, dispatch_half_pairs, dispatch_narrow,
            dispatch_pairs, dispatch_wide,
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
    /// Packed filter `[block][taps that share a broadcast][word][tap][vectors * lanes]` of this chunk.
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

/// A compiled microkernel.
pub(super) type TileFunction = unsafe fn(Isa, &Tile);

/// Extents of a register tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TileShape {
    pub rows: usize,
    pub columns: usize,
    /// Taps along a row that one broadcast serves: as many as the kernel has, or 1.
    pub taps: usize,
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
    ($function:ident, [$(($rows:literal, $columns:literal, $vectors:literal, $taps:literal)),* $(,)?]) => {
        &[$((
            TileShape { rows: $rows, columns: $columns, taps: $taps, vectors: $vectors, dot: false },
            $function::<$rows, $columns, $vectors, $taps> as TileFunction,
        )),*]
    };
}

macro_rules! dot_table {
    ($(($rows:literal, $columns:literal, $vectors:literal)),* $(,)?) => {
        &[$((
            TileShape { rows: $rows, columns: $columns, taps: 1, vectors: $vectors, dot: true },
            run_dot::<$rows, $columns, $vectors> as TileFunction,
        )),*]
    };
}

/// 32 registers: at most 28 sums, 2 filter vectors, 1 broadcast; or 24 sums, 3 x 2 filter vectors.
const WIDE: &[(TileShape, TileFunction)] = tile_table!(
    run_wide,
    [
        (1, 14, 2, 1),
        (1, 13, 2, 1),
        (1, 12, 2, 1),
        (1, 11, 2, 1),
        (1, 10, 2, 1),
        (1, 9, 2, 1),
        (1, 8, 2, 1),
        (1, 6, 2, 1),
        (2, 7, 2, 1),
        (2, 6, 2, 1),
        (2, 5, 2, 1),
        (3, 4, 2, 1),
        (4, 3, 2, 1),
        (6, 2, 2, 1),
        (2, 4, 2, 1),
        (3, 3, 2, 1),
        (8, 1, 2, 1),
        (1, 28, 1, 1),
        (1, 24, 1, 1),
        (1, 16, 1, 1),
        (1, 12, 1, 1),
        (2, 12, 1, 1),
        (2, 8, 1, 1),
        (3, 8, 1, 1),
        (4, 6, 1, 1),
        (8, 3, 1, 1),
        (3, 3, 1, 1),
        (8, 1, 1, 1),
        (1, 12, 2, 3),
        (1, 11, 2, 3),
        (1, 10, 2, 3),
        (1, 8, 2, 3),
        (1, 6, 2, 3),
        (2, 6, 2, 3),
        (2, 5, 2, 3),
        (2, 4, 2, 3),
        (3, 4, 2, 3),
        (4, 3, 2, 3),
        (3, 3, 2, 3),
        (1, 26, 1, 3),
        (1, 24, 1, 3),
        (1, 22, 1, 3),
        (1, 20, 1, 3),
        (1, 16, 1, 3),
        (2, 12, 1, 3),
        (2, 8, 1, 3),
        (3, 8, 1, 3),
        (4, 6, 1, 3),
        (4, 5, 1, 3),
        (6, 4, 1, 3),
        (8, 3, 1, 3),
        (4, 3, 1, 3),
        (3, 3, 1, 3),
    ]
);

/// The tiles of one vector again, for a last block of at most 8 output channels.
const HALF: &[(TileShape, TileFunction)] = tile_table!(
    run_half,
    [
        (1, 28, 1, 1),
        (1, 24, 1, 1),
        (1, 16, 1, 1),
        (1, 12, 1, 1),
        (2, 12, 1, 1),
        (2, 8, 1, 1),
        (3, 8, 1, 1),
        (4, 6, 1, 1),
        (8, 3, 1, 1),
        (3, 3, 1, 1),
        (8, 1, 1, 1),
        (1, 26, 1, 3),
        (1, 24, 1, 3),
        (1, 22, 1, 3),
        (1, 20, 1, 3),
        (1, 16, 1, 3),
        (2, 12, 1, 3),
        (2, 8, 1, 3),
        (3, 8, 1, 3),
        (4, 6, 1, 3),
        (4, 5, 1, 3),
        (6, 4, 1, 3),
        (8, 3, 1, 3),
        (4, 3, 1, 3),
        (3, 3, 1, 3),
    ]
);

/// 16 registers: at most 12 sums, 3 filter vectors, 1 broadcast.
const NARROW: &[(TileShape, TileFunction)] = tile_table!(
    run_narrow,
    [
        (1, 6, 2, 1),
        (1, 5, 2, 1),
        (1, 4, 2, 1),
        (2, 3, 2, 1),
        (2, 2, 2, 1),
        (6, 1, 2, 1),
        (1, 12, 1, 1),
        (1, 10, 1, 1),
        (1, 8, 1, 1),
        (2, 6, 1, 1),
        (2, 4, 1, 1),
        (3, 4, 1, 1),
        (3, 3, 1, 1),
        (8, 1, 1, 1),
        (1, 12, 1, 3),
        (1, 8, 1, 3),
        (2, 6, 1, 3),
        (2, 4, 1, 3),
        (3, 4, 1, 3),
        (4, 3, 1, 3),
    ]
);

/// One to four filters: a load of input channels serves every filter.
const DOT: &[(TileShape, TileFunction)] = dot_table!(
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
);

/// Microkernels for one correlation.
#[derive(Clone, Copy)]
pub(super) struct Choice {
    pub shape: TileShape,
    pub function: TileFunction,
    /// The same with vectors of 8 lanes, where these hold the last output channels.
    pub half: Option<TileFunction>,
}

/// Lanes of the vectors of [`HALF`].
pub(super) const HALF_LANES: usize = 8;

/// The microkernel that computes `rows x columns` outputs from `words` of input channels to `channels_out` channels with the
/// fewest wasted operations.
pub(super) fn choose(
    isa: Isa,
    [rows, columns]: [usize; 2],
    kernel_width: usize,
    words: usize,
    channels_out: usize,
) -> Choice {
    let table = if isa.is_wide() { WIDE } else { NARROW };
    let half = |shape: &TileShape| {
        let left = channels_out % isa.lanes();
        let fits = isa.is_wide() && !shape.dot && (1..=HALF_LANES).contains(&left);
        HALF.iter().find(|(other, _)| fits && other == shape).map(|(_, function)| *function)
    };
    let cost = |shape: &TileShape| {
        let tiles = rows.div_ceil(shape.rows) * columns.div_ceil(shape.columns);
        let mut half_blocks = 2 * channels_out.div_ceil(shape.width(isa));
        if half(shape).is_some() {
            half_blocks -= 1;
        }
        // Of one step over the taps that share a broadcast. Thirds of cycles: multiply-adds, or together with the loads where these
        // are more than half as many, or the latency of too few independent sums.
        let products = shape.taps * shape.rows * shape.columns * shape.vectors;
        let loads = shape.rows * (shape.columns + shape.taps - 1) + shape.taps * shape.vectors;
        let step = (3 * products.max(8 * shape.taps)).max(2 * (products + loads)) + 3;
        let steps = if shape.dot { words.next_multiple_of(BLOCK) / isa.lanes() } else { words };
        tiles
            * half_blocks
            * (steps * step * (kernel_width / shape.taps) + 3 * shape.rows * shape.columns * shape.vectors)
    };
    let fits = |shape: &TileShape| {
        let taps_fit = shape.taps == 1 || shape.taps == kernel_width;
        taps_fit && (!shape.dot || (shape.vectors == channels_out && (isa.is_wide() || shape.columns <= 6)))
    };
    let candidates = table.iter().chain(DOT).filter(|(shape, _)| fits(shape));
    let (shape, function) = candidates.min_by_key(|(shape, _)| cost(shape)).expect("the tables are not empty");
    Choice { shape: *shape, function: *function, half: half(shape) }
}

/// Computes one tile.
///
/// # Safety
/// The machine has `isa`. All addresses that `tile` spans are readable (input, for the whole register tile and its taps; filter;
/// bias) or writable by nobody else (output, for the part that exists).
unsafe fn run_wide<const R: usize, const C: usize, const V: usize, const T: usize>(isa: Isa, tile: &Tile) {
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
unsafe fn run_half<const R: usize, const C: usize, const V: usize, const T: usize>(isa: Isa, tile: &Tile) {
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
unsafe fn run_narrow<const R: usize, const C: usize, const V: usize, const T: usize>(isa: Isa, tile: &Tile) {
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
                            let input = block.add(d * tile.plane_stride + h * tile.row_stride + w * BLOCK);
                            if words == BLOCK {
                                filter = multiply::<S, M, R, C, V, T>(&mut sums, input, tile.row_stride, filter, BLOCK);
                            } else {
                                filter = multiply::<S, M, R, C, V, T>(&mut sums, input, tile.row_stride, filter, words);
                            }
                        }
                    }
                }
                block = block.add(tile.block_stride);
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
                let x = S::splat(*input.add(r * row_stride + c * BLOCK + word));
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

/// Computes one tile whose lanes are input channels.
///
/// # Safety
/// As for [`run_wide`], with a filter packed for it.
unsafe fn run_dot<const R: usize, const C: usize, const V: usize>(isa: Isa, tile: &Tile) {
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
                            let input = block.add(d * tile.plane_stride + h * tile.row_stride + w * BLOCK);
                            for lane in (0..words).step_by(S::LANES) {
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
