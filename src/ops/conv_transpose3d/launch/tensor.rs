//! bf16 and fp16 on tensor cores: a convolution of one tap whose channels on the large side are (tap, channel).

use super::super::volume;
use crate::{
    Result,
    machine::{Kernel, KernelAbi, OLDEST, lower::Lower},
    ops::{
        by_type::BF16_COMPUTE,
        slices::SliceSumArguments,
        sources::{self, Load},
        tensor_core::{
            Correlate, CorrelateArguments, Correlation, PackFilterArguments, Parts, Pass, Sources, Targets,
            TileStatistics, TileSums, Wgrad, WgradArguments, WgradProblem,
        },
    },
};

/// The kernels for one element type.
#[derive(Debug)]
pub(in crate::ops) struct Kernels {
    statistics: TileStatistics,
    pack_fprop: Kernel<PackFilterArguments>,
    pack_dgrad: Kernel<PackFilterArguments>,
    /// By width. Eight taps of a piece each make 64 results at the least.
    fprop: [(usize, Kernel<CorrelateArguments>); 1],
    dgrad: [(usize, Kernel<CorrelateArguments>); 2],
    wgrad: Kernel<WgradArguments>,
    slice_sum: Kernel<SliceSumArguments>,
}

macro_rules! kernels {
    ($family:literal, $type:literal, $compute:expr) => {
        Kernels {
            statistics: TileStatistics {
                tile: Kernel::new($family, concat!("conv_transpose3d_tile_statistics_", $type), 256).since($compute),
                merge: Kernel::new($family, concat!("conv_transpose3d_merge_statistics_", $type), 32).since($compute),
            },
            pack_fprop: Kernel::new($family, concat!("conv_transpose3d_pack_fprop_filter_", $type), 256)
                .since($compute),
            pack_dgrad: Kernel::new($family, concat!("conv_transpose3d_pack_dgrad_filter_", $type), 256)
                .since($compute),
            // A warp for each plane of a tile, and for each 32 results.
            fprop: [(64, Kernel::new($family, concat!("conv_transpose3d_fprop_k64_", $type), 256).since($compute))],
            dgrad: [
                (32, Kernel::new($family, concat!("conv_transpose3d_dgrad_k32_", $type), 128).since($compute)),
                (64, Kernel::new($family, concat!("conv_transpose3d_dgrad_k64_", $type), 256).since($compute)),
            ],
            wgrad: Kernel::new($family, concat!("conv_transpose3d_wgrad_", $type), 128).since($compute),
            slice_sum: Kernel::new($family, concat!("conv_transpose3d_slice_sum_", $type), 256).since($compute),
        }
    };
}

pub(super) static BF16: Kernels = kernels!("conv_transpose3d_bf16", "bf16", BF16_COMPUTE);
pub(super) static FP16: Kernels = kernels!("conv_transpose3d_fp16", "fp16", OLDEST);

pub(super) fn kernels() -> Vec<KernelAbi> {
    [&BF16, &FP16].into_iter().flat_map(Kernels::abi).collect()
}

impl Kernels {
    fn abi(&self) -> Vec<KernelAbi> {
        let correlate = self.fprop.iter().chain(&self.dgrad).map(|(_, kernel)| kernel.abi());
        let others = [self.pack_fprop.abi(), self.pack_dgrad.abi(), self.wgrad.abi(), self.slice_sum.abi()];
        correlate.chain(others).chain(self.statistics.abi()).collect()
    }

    pub(super) fn fprop(&'static self, cx: &mut Lower<'_>) -> Result<()> {
        self.fused_fprop(cx, Load::Plain, false)
    }

    /// Operands `[x, (scale, shift), filter, bias]`, results `[y]` or `[y, mean, variance]`.
    pub(in crate::ops) fn fused_fprop(&'static self, cx: &mut Lower<'_>, load: Load, statistics: bool) -> Result<()> {
        let (x, y) = (volume(&cx.input(0).spec), volume(&cx.output(0).spec));
        let statistics = statistics.then(|| TileSums::new(cx, x, 8, y.c));
        let problem = Correlation {
            pass: Pass::Fprop,
            extent: 1,
            volume: x,
            sources: Sources::read(cx, sources::Sources::one(load)),
            targets: Targets::one(cx.output(0)),
            filter: cx.input(load.operands()).address,
            filter_channels: [x.c, y.c],
            bias: cx.input(load.operands() + 1).address,
            statistics: statistics.map_or(0, |sums| sums.partials),
            relu: false,
        };
        let (sources, results) = (Parts::Tensors, Parts::Taps);
        Correlate { pack: self.pack_fprop, kernels: &self.fprop, sources, results }.launch(cx, &problem)?;
        match statistics {
            Some(sums) => self.statistics.launch(cx, sums, [1, 2].map(|index| cx.output(index).address)),
            None => Ok(()),
        }
    }

    pub(super) fn dgrad(&'static self, cx: &mut Lower<'_>) -> Result<()> {
        let (dy, dx) = (volume(&cx.input(0).spec), volume(&cx.output(0).spec));
        let problem = Correlation {
            pass: Pass::Dgrad,
            extent: 1,
            volume: dx,
            sources: Sources::plain(cx.input(0)),
            targets: Targets::one(cx.output(0)),
            filter: cx.input(1).address,
            filter_channels: [dx.c, dy.c],
            bias: 0,
            statistics: 0,
            relu: false,
        };
        let (sources, results) = (Parts::Taps, Parts::Tensors);
        Correlate { pack: self.pack_dgrad, kernels: &self.dgrad, sources, results }.launch(cx, &problem)
    }

    pub(super) fn wgrad(&'static self, cx: &mut Lower<'_>) -> Result<()> {
        self.fused_wgrad(cx, Load::Plain)
    }

    /// Operands `[x, (scale, shift), dy]`, results `[dfilter, dbias]`.
    pub(in crate::ops) fn fused_wgrad(&'static self, cx: &mut Lower<'_>, load: Load) -> Result<()> {
        let problem = WgradProblem {
            volume: volume(&cx.input(0).spec),
            x: Sources::read(cx, sources::Sources::one(load)),
            dy: Sources::plain(cx.input(load.operands())),
            dfilter: cx.output(0).address,
            dbias: cx.output(1).address,
        };
        let wgrad = Wgrad { kernel: self.wgrad, slice_sum: self.slice_sum, results: Parts::Taps, extent: 1 };
        wgrad.launch(cx, &problem)
    }
}
