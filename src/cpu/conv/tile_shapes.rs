//! Which register tiles there are, and which one a correlation takes.

#![allow(unsafe_code)]

use super::{
    dot::run_dot,
    stage::{BLOCK, PAIR_BLOCK},
    tile::{Tile, run_half, run_narrow, run_wide},
    word::Word,
};
use crate::cpu::Isa;

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
    /// Words of a block of the staged input.
    pub staged_block: usize,
    pub function: TileFunction,
    /// The same with vectors of 8 lanes, where these hold the last output channels.
    pub half: Option<TileFunction>,
}

/// Lanes of the vectors of [`HALF`].
pub(super) const HALF_LANES: usize = 8;

/// The microkernel that computes `rows x columns` outputs from `words` of input channels to `channels_out` channels with the
/// fewest wasted operations.
pub(super) fn choose(
    (isa, word): (Isa, Word),
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
        let steps = if shape.dot { words.div_ceil(isa.lanes()) } else { words };
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
    let staged_block = match word {
        Word::Pair if !shape.dot || words <= HALF_LANES => PAIR_BLOCK,
        _ => BLOCK,
    };
    Choice { shape: *shape, staged_block, function: *function, half: half(shape) }
}
