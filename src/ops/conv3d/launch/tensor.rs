//! bf16 and fp16: tensor cores for cubes of one to three taps along an axis, the analytic kernels for other extents.

use super::{
    super::{Conv3d, Conv3dDgrad, Conv3dWgrad, volume},
    fp32::{self, Conv3dArguments, Conv3dWgradArguments, cube},
};
use crate::{
    Result,
    machine::{Kernel, KernelAbi, OLDEST, lower::Lower},
    ops::{
        by_type::BF16_COMPUTE,
        slices::SliceSumArguments,
        tensor_core::{
            Correlate, CorrelateArguments, Correlation, PackFilterArguments, Parts, Pass, Sources, Targets,
            TileStatistics, Wgrad, WgradArguments, WgradProblem,
        },
    },
};

/// The kernels for one element type.
#[derive(Debug)]
pub(in crate::ops) struct Kernels {
    pub(in crate::ops) statistics: TileStatistics,
    pack: Kernel<PackFilterArguments>,
    /// By extent of the cube, then by width.
    correlate: [[(usize, Kernel<CorrelateArguments>); 4]; 3],
    wgrad: [Kernel<WgradArguments>; 3],
    slice_sum: Kernel<SliceSumArguments>,
    fprop_analytic: Kernel<Conv3dArguments>,
    dgrad_analytic: Kernel<Conv3dArguments>,
    wgrad_analytic: Kernel<Conv3dWgradArguments>,
}

macro_rules! kernels {
    ($family:literal, $type:literal, $compute:expr) => {
        Kernels {
            statistics: TileStatistics {
                tile: Kernel::new($family, concat!("conv3d_tile_statistics_", $type), 256).since($compute),
                merge: Kernel::new($family, concat!("conv3d_merge_statistics_", $type), 32).since($compute),
            },
            pack: Kernel::new($family, concat!("conv3d_pack_filter_", $type), 256).since($compute),
            correlate: [
                kernels!($family, $type, $compute, "1x1x1"),
                kernels!($family, $type, $compute, "2x2x2"),
                kernels!($family, $type, $compute, "3x3x3"),
            ],
            // Warps: taps along D, times channels, times results.
            wgrad: [
                Kernel::new($family, concat!("conv3d_wgrad_1x1x1_", $type), 128).since($compute),
                Kernel::new($family, concat!("conv3d_wgrad_2x2x2_", $type), 128).since($compute),
                Kernel::new($family, concat!("conv3d_wgrad_3x3x3_", $type), 192).since($compute),
            ],
            slice_sum: Kernel::new($family, concat!("conv3d_slice_sum_", $type), 256).since($compute),
            fprop_analytic: Kernel::new($family, concat!("conv3d_fprop_analytic_", $type), 256).since($compute),
            dgrad_analytic: Kernel::new($family, concat!("conv3d_dgrad_analytic_", $type), 256).since($compute),
            wgrad_analytic: Kernel::new($family, concat!("conv3d_wgrad_analytic_", $type), 256).since($compute),
        }
    };
    // A warp for each plane of a tile, and for each 32 results.
    ($family:literal, $type:literal, $compute:expr, $cube:literal) => {
        [
            (8, Kernel::new($family, concat!("conv3d_correlate_", $cube, "_k8_", $type), 128).since($compute)),
            (16, Kernel::new($family, concat!("conv3d_correlate_", $cube, "_k16_", $type), 128).since($compute)),
            (32, Kernel::new($family, concat!("conv3d_correlate_", $cube, "_k32_", $type), 128).since($compute)),
            (64, Kernel::new($family, concat!("conv3d_correlate_", $cube, "_k64_", $type), 256).since($compute)),
        ]
    };
}

pub(super) static BF16: Kernels = kernels!("conv3d_bf16", "bf16", BF16_COMPUTE);
pub(super) static FP16: Kernels = kernels!("conv3d_fp16", "fp16", OLDEST);

pub(super) fn kernels() -> Vec<KernelAbi> {
    [&BF16, &FP16].into_iter().flat_map(Kernels::abi).collect()
}

impl Kernels {
    fn abi(&self) -> Vec<KernelAbi> {
        let correlate = self.correlate.iter().flatten().map(|(_, kernel)| kernel.abi());
        let analytic = [self.fprop_analytic, self.dgrad_analytic].map(|kernel| kernel.abi());
        let wgrad = self.wgrad.iter().map(|kernel| kernel.abi());
        let others = [self.wgrad_analytic.abi(), self.pack.abi(), self.slice_sum.abi()];
        correlate.chain(analytic).chain(wgrad).chain(others).chain(self.statistics.abi()).collect()
    }

    /// The kernels of a cube of `cube + 1` taps along an axis, for fprop and dgrad.
    pub(in crate::ops) fn correlate(&'static self, cube: usize) -> Correlate {
        Correlate { pack: self.pack, kernels: &self.correlate[cube], sources: Parts::Tensors, results: Parts::Tensors }
    }

    pub(super) fn fprop(&'static self, op: &Conv3d, cx: &mut Lower<'_>) -> Result<()> {
        let (arguments, y) = fp32::fprop_arguments(op, cx);
        let Some(cube) = cube(op.kernel) else {
            return cx.launch_over(&self.fprop_analytic, y.voxels() * y.c, &arguments);
        };
        let problem = Correlation {
            pass: Pass::Fprop,
            extent: cube + 1,
            volume: y,
            sources: Sources::plain(cx.input(0)),
            targets: Targets::one(cx.output(0)),
            filter: cx.input(1).address,
            filter_channels: [volume(&cx.input(0).spec).c, y.c],
            bias: cx.input(2).address,
            statistics: 0,
            relu: op.relu,
        };
        self.correlate(cube).launch(cx, &problem)
    }

    pub(super) fn dgrad(&'static self, op: &Conv3dDgrad, cx: &mut Lower<'_>) -> Result<()> {
        let (arguments, dx) = fp32::dgrad_arguments(op, cx);
        let Some(cube) = cube(op.kernel) else {
            return cx.launch_over(&self.dgrad_analytic, dx.voxels() * dx.c, &arguments);
        };
        let problem = Correlation {
            pass: Pass::Dgrad,
            extent: cube + 1,
            volume: dx,
            sources: Sources::plain(cx.input(0)),
            targets: Targets::one(cx.output(0)),
            filter: cx.input(1).address,
            filter_channels: [dx.c, volume(&cx.input(0).spec).c],
            bias: 0,
            statistics: 0,
            relu: false,
        };
        self.correlate(cube).launch(cx, &problem)
    }

    pub(super) fn wgrad(&'static self, op: &Conv3dWgrad, cx: &mut Lower<'_>) -> Result<()> {
        let Some(cube) = cube(op.kernel) else {
            return fp32::analytic_wgrad(op, cx, &self.wgrad_analytic, &self.slice_sum);
        };
        let problem = WgradProblem {
            volume: volume(&cx.input(0).spec),
            x: Sources::plain(cx.input(0)),
            dy: Sources::plain(cx.input(1)),
            dfilter: cx.output(0).address,
            dbias: cx.output(1).address,
        };
        self.wgrad_of(cube).launch(cx, &problem)
    }

    /// The kernels of a cube of `cube + 1` taps along an axis, for wgrad.
    pub(in crate::ops) fn wgrad_of(&self, cube: usize) -> Wgrad {
        Wgrad { kernel: self.wgrad[cube], slice_sum: self.slice_sum, results: Parts::Tensors, extent: cube + 1 }
    }
}
