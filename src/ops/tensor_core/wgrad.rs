//! wgrad: partial sums per slice of the volume, added in order.

use super::{Extents, Parts, Sources, tiles};
use crate::{
    Result,
    machine::{Kernel, arguments, lower::Lower},
    ops::slices::{SliceSumArguments, add_slices, slices},
    tensor::Volume,
};

/// Voxels of a tile along D, H, W.
const TILE: [usize; 3] = [2, 8, 8];
/// Tiles that a slice should walk over, so that storing its sums does not dominate.
const SMALLEST_SLICE: usize = 8;
/// Results of a CTA.
const RESULTS: usize = 32;

arguments!(pub(in crate::ops) WgradArguments {
    x: Sources,
    dy: Sources,
    partials: u64,
    bias_partials: u64,
    volume: Extents,
    channel_tiles: i32,
    r#in: i32,
    out: i32,
    unused: i32,
});

/// The kernels of one extent.
#[derive(Clone, Copy, Debug)]
pub(in crate::ops) struct Wgrad {
    pub(in crate::ops) kernel: Kernel<WgradArguments>,
    pub(in crate::ops) slice_sum: Kernel<SliceSumArguments>,
    pub(in crate::ops) results: Parts,
    /// Taps along an axis.
    pub(in crate::ops) extent: usize,
}

/// One gradient by a filter.
#[derive(Clone, Copy, Debug)]
pub(in crate::ops) struct WgradProblem {
    /// The volume of x; its channels count for nothing.
    pub(in crate::ops) volume: Volume,
    pub(in crate::ops) x: Sources,
    pub(in crate::ops) dy: Sources,
    /// Address of the filter's gradient `[taps, in, out]`.
    pub(in crate::ops) dfilter: u64,
    /// Address of the bias's gradient `[out]`.
    pub(in crate::ops) dbias: u64,
}

impl Wgrad {
    /// Channels of a CTA: with one tap there are registers for twice as many.
    fn channels(&self) -> usize {
        if self.extent == 1 { 32 } else { 16 }
    }

    /// Tiles of channels and of results.
    fn columns(&self, x: [usize; 2], dy: [usize; 2]) -> [usize; 2] {
        let channels = (super::PIECE * Parts::Tensors.pieces(x)).div_ceil(self.channels());
        [channels, (super::PIECE * self.results.pieces(dy)).div_ceil(RESULTS)]
    }

    /// Sums per slice, then the sums of the slices.
    pub(in crate::ops) fn launch(&self, cx: &mut Lower<'_>, problem: &WgradProblem) -> Result<()> {
        let (x, dy) = (problem.x.channels(), problem.dy.channels());
        super::check_planes(cx, problem.volume, &problem.x, Parts::Tensors)?;
        super::check_planes(cx, problem.volume, &problem.dy, self.results)?;
        let (channels, out) = (x[0] + x[1], dy[0]);
        // A transposed convolution has a tap for each part of dy, and a partial sum of the bias for each.
        let (taps, parts) = if self.results == Parts::Taps { (8, 8) } else { (self.extent.pow(3), 1) };
        let weights = taps * channels * out;
        let columns = self.columns(x, dy);
        let slices = slices(tiles(problem.volume, TILE), columns[0] * columns[1], SMALLEST_SLICE);
        let partials = cx.workspace(4 * slices * weights);
        let bias_partials = cx.workspace(4 * slices * parts * out);
        let arguments = WgradArguments {
            x: problem.x,
            dy: problem.dy,
            partials,
            bias_partials,
            volume: Extents::of(problem.volume),
            channel_tiles: columns[0] as i32,
            r#in: channels as i32,
            out: out as i32,
            unused: 0,
        };
        cx.launch(&self.kernel, [slices as u64, (columns[0] * columns[1]) as u64, 1], &arguments)?;
        add_slices(cx, &self.slice_sum, partials, problem.dfilter, [weights, weights, slices])?;
        add_slices(cx, &self.slice_sum, bias_partials, problem.dbias, [out, out, slices * parts])
    }
}
