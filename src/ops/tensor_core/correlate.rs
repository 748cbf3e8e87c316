//! fprop and dgrad: the filter is packed into the workspace, then correlated.

use super::{Extents, Parts, Sources, Targets, tiles};
use crate::{
    Result,
    machine::{Kernel, arguments, lower::Lower},
    tensor::Volume,
};

/// Voxels of a CTA along D, H, W.
pub(super) const TILE: [usize; 3] = [4, 8, 8];
/// Pieces of a chunk of source channels: sixteen channels, the summed axis of one tensor-core instruction.
const CHUNK_PIECES: usize = 2;

arguments!(pub(in crate::ops) PackFilterArguments {
    filter: u64,
    packed: u64,
    rows: i64,
    extent: i32,
    r#in: i32,
    out: i32,
    first_source: i32,
    second_source: i32,
    first_result: i32,
    second_result: i32,
    width: i32,
    chunks: i32,
    is_dgrad: i32,
});
arguments!(pub(in crate::ops) CorrelateArguments {
    sources: Sources,
    filter: u64,
    bias: u64,
    targets: Targets,
    statistics: u64,
    volume: Extents,
    before: i32,
    chunks: i32,
    source_pieces: i32,
    result_tiles: i32,
    results: i32,
    relu: i32,
});

/// Which way the filter is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ops) enum Pass {
    Fprop,
    /// Mirrored, sources and results exchanged.
    Dgrad,
}

/// The kernels of one pass.
#[derive(Clone, Copy, Debug)]
pub(in crate::ops) struct Correlate {
    pub(in crate::ops) pack: Kernel<PackFilterArguments>,
    /// By the number of results of a CTA, the narrowest first. The narrowest that covers all results is taken, so that few
    /// lanes multiply what nobody stores.
    pub(in crate::ops) kernels: &'static [(usize, Kernel<CorrelateArguments>)],
    pub(in crate::ops) sources: Parts,
    pub(in crate::ops) results: Parts,
}

/// One correlation.
#[derive(Clone, Copy, Debug)]
pub(in crate::ops) struct Correlation {
    pub(in crate::ops) pass: Pass,
    /// Taps along an axis.
    pub(in crate::ops) extent: usize,
    /// The volume that the tiles cover; its channels count for nothing.
    pub(in crate::ops) volume: Volume,
    pub(in crate::ops) sources: Sources,
    pub(in crate::ops) targets: Targets,
    /// Address of the filter `[extent, extent, extent, in, out]`.
    pub(in crate::ops) filter: u64,
    /// Channels in and out of the filter.
    pub(in crate::ops) filter_channels: [usize; 2],
    /// Address of the bias, or zero.
    pub(in crate::ops) bias: u64,
    /// Address of the tiles' statistics, or zero.
    pub(in crate::ops) statistics: u64,
    pub(in crate::ops) relu: bool,
}

/// How a correlation is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cut {
    kernel: usize,
    width: usize,
    source_pieces: usize,
    chunks: usize,
    result_tiles: usize,
}

impl Correlate {
    fn cut(&self, sources: [usize; 2], results: [usize; 2]) -> Cut {
        let results = super::PIECE * self.results.pieces(results);
        let kernel = self.kernels.iter().position(|&(width, _)| width >= results).unwrap_or(self.kernels.len() - 1);
        let width = self.kernels[kernel].0;
        let source_pieces = self.sources.pieces(sources);
        Cut {
            kernel,
            width,
            source_pieces,
            chunks: source_pieces.div_ceil(CHUNK_PIECES),
            result_tiles: results.div_ceil(width),
        }
    }

    /// Packs the filter and correlates.
    pub(in crate::ops) fn launch(&self, cx: &mut Lower<'_>, problem: &Correlation) -> Result<()> {
        let (sources, results) = (problem.sources.channels(), problem.targets.channels());
        super::check_planes(cx, problem.volume, &problem.sources, self.sources)?;
        let cut = self.cut(sources, results);
        let taps = problem.extent.pow(3);
        let rows = cut.result_tiles * cut.chunks * taps * CHUNK_PIECES * cut.width;
        let packed = cx.workspace(16 * rows);
        let [r#in, out] = problem.filter_channels.map(|count| count as i32);
        let pack = PackFilterArguments {
            filter: problem.filter,
            packed,
            rows: rows as i64,
            extent: problem.extent as i32,
            r#in,
            out,
            first_source: sources[0] as i32,
            second_source: sources[1] as i32,
            first_result: results[0] as i32,
            second_result: results[1] as i32,
            width: cut.width as i32,
            chunks: cut.chunks as i32,
            is_dgrad: i32::from(problem.pass == Pass::Dgrad),
        };
        cx.launch_over(&self.pack, rows, &pack)?;
        // Zero "same" padding: an even extent pads one more behind, and its mirror image one more in front.
        let before = match problem.pass {
            Pass::Fprop => (problem.extent - 1) / 2,
            Pass::Dgrad => problem.extent / 2,
        };
        let arguments = CorrelateArguments {
            sources: problem.sources,
            filter: packed,
            bias: problem.bias,
            targets: problem.targets,
            statistics: problem.statistics,
            volume: Extents::of(problem.volume),
            before: before as i32,
            chunks: cut.chunks as i32,
            source_pieces: cut.source_pieces as i32,
            result_tiles: cut.result_tiles as i32,
            results: results.iter().sum::<usize>() as i32,
            relu: i32::from(problem.relu),
        };
        let ctas = tiles(problem.volume, TILE) as u64 * cut.result_tiles as u64;
        cx.launch(&self.kernels[cut.kernel].1, [ctas, 1, 1], &arguments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_covers_all_channels_with_the_narrowest_width_that_can() {
        const KERNELS: [(usize, Kernel<CorrelateArguments>); 4] = [
            (8, Kernel::new("", "", 128)),
            (16, Kernel::new("", "", 128)),
            (32, Kernel::new("", "", 128)),
            (64, Kernel::new("", "", 256)),
        ];
        let pack = Kernel::new("", "", 256);
        let plain = Correlate { pack, kernels: &KERNELS, sources: Parts::Tensors, results: Parts::Tensors };
        // (sources, results, width, chunks, tiles of results)
        let cases = [
            ([1, 0], [1, 0], 8, 1, 1),
            ([16, 0], [8, 0], 8, 1, 1),
            ([17, 0], [9, 0], 16, 2, 1),
            ([7, 9], [17, 0], 32, 2, 1),
            ([64, 32], [33, 0], 64, 6, 1),
            ([4, 0], [65, 0], 64, 1, 2),
            ([32, 0], [13, 19], 64, 2, 1),
        ];
        for (sources, results, width, chunks, tiles) in cases {
            let cut = plain.cut(sources, results);
            assert_eq!((cut.width, cut.chunks, cut.result_tiles), (width, chunks, tiles), "{sources:?} {results:?}");
        }
        let taps = Correlate { results: Parts::Taps, ..plain };
        assert_eq!(taps.cut([64, 0], [17, 0]).result_tiles, 3, "eight taps of three pieces");
    }
}
