//! How reductions over voxels are cut on a GPU: into slices that run side by side and are added in order.
//!
//! The cuts depend on the shapes alone, not on the GPU, so that every GPU adds in the same order.

use crate::{
    Result,
    machine::{Kernel, arguments, lower::Lower},
};

/// CTAs that keep a large GPU busy: four for each of 132 multiprocessors.
const ENOUGH_CTAS: usize = 528;

/// Voxels below which a slice is not worth its CTA.
const SMALLEST_SLICE: usize = 256;

arguments!(
    /// The tail of `ChannelSumArguments` and `BiasSumArguments`; see `kernels/common/channel_sums.cuh`.
    pub(super) SlicedVoxels { voxels: i64, slice: i64, channels: i32, width: i32, run: i32, unused: i32 }
);
arguments!(
    /// See `kernels/common/slices.cuh`.
    pub(super) SliceSumArguments { partials: u64, sums: u64, count: i64, stride: i64, slices: i32, unused: i32 }
);

/// A number of pieces of work cut into slices, for `ctas` CTAs per slice: at least `smallest` pieces each.
pub(super) fn slices(pieces: usize, ctas: usize, smallest: usize) -> usize {
    ENOUGH_CTAS.div_ceil(ctas).min(pieces.div_ceil(smallest)).max(1)
}

impl SlicedVoxels {
    /// `[voxels, channels]` for the kernels that sum per channel, `run` channels per lane where that divides them.
    pub(super) fn new(voxels: usize, channels: usize, run: usize) -> Self {
        let run = if channels.is_multiple_of(run) { run } else { 1 };
        let width = (channels / run).next_power_of_two().min(32);
        let count = slices(voxels, channels.div_ceil(width * run), SMALLEST_SLICE);
        let slice = voxels.div_ceil(count) as i64;
        let (channels, width, run) = (channels as i32, width as i32, run as i32);
        Self { voxels: voxels as i64, slice, channels, width, run, unused: 0 }
    }

    /// Number of slices. None is empty.
    pub(super) fn slices(&self) -> usize {
        (self.voxels as usize).div_ceil(self.slice as usize)
    }

    /// A CTA per slice and tile of channels.
    pub(super) fn grid(&self) -> [u64; 3] {
        [self.slices() as u64, (self.channels as u64).div_ceil(self.width as u64 * self.run as u64), 1]
    }
}

/// Adds rows of `partials`, `stride` numbers apart, in order: `count` sums.
pub(super) fn add_slices(
    cx: &mut Lower<'_>,
    kernel: &Kernel<SliceSumArguments>,
    partials: u64,
    sums: u64,
    [count, stride, slices]: [usize; 3],
) -> Result<()> {
    let arguments = SliceSumArguments {
        partials,
        sums,
        count: count as i64,
        stride: stride as i64,
        slices: slices as i32,
        unused: 0,
    };
    cx.launch_over(kernel, count, &arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_cover_every_voxel_and_none_is_empty() {
        for voxels in [1, 2, 255, 256, 257, 1009, 100_003, 9_216_000] {
            for (channels, run) in [1, 3, 16, 17, 32, 33, 512].into_iter().flat_map(|c| [(c, 4), (c, 8)]) {
                let cut = SlicedVoxels::new(voxels, channels, run);
                let last = voxels as i64 - (cut.slices() as i64 - 1) * cut.slice;
                assert!(last >= 1 && last <= cut.slice, "{cut:?}");
                assert!(cut.width.count_ones() == 1 && cut.width <= 32);
                assert!(cut.grid()[1] as i32 * cut.width * cut.run >= cut.channels);
            }
        }
    }
}
