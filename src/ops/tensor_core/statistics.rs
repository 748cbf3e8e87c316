//! Mean and variance of a correlation's result, from the sums that its tiles leave in passing.

use super::{Extents, correlate::TILE, tiles};
use crate::{
    Result,
    machine::{Kernel, KernelAbi, arguments, lower::Lower},
    ops::slices::slices,
    tensor::Volume,
};

/// Channels of a CTA of the first step: a lane each.
const CHANNELS: usize = 32;
/// Tiles that a slice should have: eight for each of its rows of lanes.
const SMALLEST_SLICE: usize = 64;

arguments!(pub(in crate::ops) TileStatisticsArguments {
    partials: u64,
    slices: u64,
    volume: Extents,
    parts: i32,
    channels: i32,
});
arguments!(pub(in crate::ops) MergeStatisticsArguments {
    slices: u64,
    mean: u64,
    variance: u64,
    count: i32,
    channels: i32,
});

/// The kernels.
#[derive(Clone, Copy, Debug)]
pub(in crate::ops) struct TileStatistics {
    pub(in crate::ops) tile: Kernel<TileStatisticsArguments>,
    pub(in crate::ops) merge: Kernel<MergeStatisticsArguments>,
}

/// What the tiles of one result leave.
#[derive(Clone, Copy, Debug)]
pub(in crate::ops) struct TileSums {
    /// Address for [`super::Correlation`].
    pub(in crate::ops) partials: u64,
    volume: Volume,
    parts: usize,
    channels: usize,
}

impl TileSums {
    /// Room for the sums of a result with so many channels over tiles of `volume`; a transposed convolution has eight parts.
    pub(in crate::ops) fn new(cx: &mut Lower<'_>, volume: Volume, parts: usize, channels: usize) -> Self {
        let partials = cx.workspace(4 * tiles(volume, TILE) * parts * 3 * channels);
        Self { partials, volume, parts, channels }
    }
}

impl TileStatistics {
    pub(in crate::ops) fn abi(&self) -> [KernelAbi; 2] {
        [self.tile.abi(), self.merge.abi()]
    }

    /// Mean and biased variance per channel at these addresses, after the correlation.
    pub(in crate::ops) fn launch(&self, cx: &mut Lower<'_>, sums: TileSums, [mean, variance]: [u64; 2]) -> Result<()> {
        let columns = sums.channels.div_ceil(CHANNELS);
        let count = slices(tiles(sums.volume, TILE), columns, SMALLEST_SLICE);
        let merged = cx.workspace(8 * count * 4 * sums.channels);
        let tile = TileStatisticsArguments {
            partials: sums.partials,
            slices: merged,
            volume: Extents::of(sums.volume),
            parts: sums.parts as i32,
            channels: sums.channels as i32,
        };
        cx.launch(&self.tile, [count as u64, columns as u64, 1], &tile)?;
        let (count, channels) = (count as i32, sums.channels as i32);
        let merge = MergeStatisticsArguments { slices: merged, mean, variance, count, channels };
        cx.launch(&self.merge, [sums.channels as u64, 1, 1], &merge)
    }
}
