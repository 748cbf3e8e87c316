//! fp32: halo tiles for cubes of one to three taps along an axis, the analytic kernels for other extents.

use super::super::{Conv3d, Conv3dDgrad, Conv3dWgrad, volume};
use crate::{
    Result,
    machine::{Kernel, KernelAbi, arguments, lower::Lower},
    ops::{
        slices::{SliceSumArguments, add_slices, slices},
        tensor_core::Extents,
    },
    tensor::Volume,
};

const FAMILY: &str = "conv3d";

const FPROP_ANALYTIC: Kernel<Conv3dArguments> = Kernel::new(FAMILY, "conv3d_fprop_analytic", 256);
const DGRAD_ANALYTIC: Kernel<Conv3dArguments> = Kernel::new(FAMILY, "conv3d_dgrad_analytic", 256);
const WGRAD_ANALYTIC: Kernel<Conv3dWgradArguments> = Kernel::new(FAMILY, "conv3d_wgrad_analytic", 256);
const SLICE_SUM: Kernel<SliceSumArguments> = Kernel::new(FAMILY, "conv3d_slice_sum", 256);

/// Result channels of a CTA: the narrowest that covers all of them, so that few threads compute what nobody stores.
const WIDTHS: [usize; 3] = [8, 16, 32];

/// By extent of the cube, then by width. A CTA has 32 rows of 8 voxels; a thread owns one row times four channels.
const FPROP_TILED: [[Kernel<Conv3dArguments>; 3]; 3] = [
    [
        Kernel::new(FAMILY, "conv3d_fprop_1x1x1_k8", 64),
        Kernel::new(FAMILY, "conv3d_fprop_1x1x1_k16", 128),
        Kernel::new(FAMILY, "conv3d_fprop_1x1x1_k32", 256),
    ],
    [
        Kernel::new(FAMILY, "conv3d_fprop_2x2x2_k8", 64),
        Kernel::new(FAMILY, "conv3d_fprop_2x2x2_k16", 128),
        Kernel::new(FAMILY, "conv3d_fprop_2x2x2_k32", 256),
    ],
    [
        Kernel::new(FAMILY, "conv3d_fprop_3x3x3_k8", 64),
        Kernel::new(FAMILY, "conv3d_fprop_3x3x3_k16", 128),
        Kernel::new(FAMILY, "conv3d_fprop_3x3x3_k32", 256),
    ],
];
const DGRAD_TILED: [[Kernel<Conv3dArguments>; 3]; 3] = [
    [
        Kernel::new(FAMILY, "conv3d_dgrad_1x1x1_k8", 64),
        Kernel::new(FAMILY, "conv3d_dgrad_1x1x1_k16", 128),
        Kernel::new(FAMILY, "conv3d_dgrad_1x1x1_k32", 256),
    ],
    [
        Kernel::new(FAMILY, "conv3d_dgrad_2x2x2_k8", 64),
        Kernel::new(FAMILY, "conv3d_dgrad_2x2x2_k16", 128),
        Kernel::new(FAMILY, "conv3d_dgrad_2x2x2_k32", 256),
    ],
    [
        Kernel::new(FAMILY, "conv3d_dgrad_3x3x3_k8", 64),
        Kernel::new(FAMILY, "conv3d_dgrad_3x3x3_k16", 128),
        Kernel::new(FAMILY, "conv3d_dgrad_3x3x3_k32", 256),
    ],
];
const WGRAD_TILED: [Kernel<Conv3dWgradArguments>; 3] = [
    Kernel::new(FAMILY, "conv3d_wgrad_1x1x1", 256),
    Kernel::new(FAMILY, "conv3d_wgrad_2x2x2", 256),
    Kernel::new(FAMILY, "conv3d_wgrad_3x3x3", 256),
];

/// Voxels of a tile along D, H, W.
const TILE: [usize; 3] = [4, 8, 8];
const WGRAD_TILE: [usize; 3] = [2, 8, 8];
/// Source and result channels of a CTA of wgrad.
const WGRAD_CHANNELS: [usize; 2] = [8, 32];
/// Tiles that a slice of wgrad should walk over, so that storing its sums does not dominate.
const WGRAD_TILES: usize = 4;
/// Voxels of an analytic slice.
const ANALYTIC_SLICE: usize = 1024;

arguments!(pub(super) Conv3dArguments {
    source: u64,
    filter: u64,
    bias: u64,
    result: u64,
    volume: Extents,
    kd: i32,
    kh: i32,
    kw: i32,
    r#in: i32,
    out: i32,
    relu: i32,
});
arguments!(pub(super) Conv3dWgradArguments {
    x: u64,
    dy: u64,
    partials: u64,
    volume: Extents,
    kd: i32,
    kh: i32,
    kw: i32,
    r#in: i32,
    out: i32,
    unused: i32,
});

pub(super) fn kernels() -> Vec<KernelAbi> {
    let tiled = FPROP_TILED.into_iter().chain(DGRAD_TILED).flatten().map(|kernel| kernel.abi());
    let analytic = [FPROP_ANALYTIC, DGRAD_ANALYTIC].map(|kernel| kernel.abi());
    let wgrad = WGRAD_TILED.into_iter().chain([WGRAD_ANALYTIC]).map(|kernel| kernel.abi());
    tiled.chain(analytic).chain(wgrad).chain([SLICE_SUM.abi()]).collect()
}

/// The position of a cube in the tables of kernels.
pub(in crate::ops) fn cube(kernel: [usize; 3]) -> Option<usize> {
    let [d, h, w] = kernel;
    (d == h && h == w && (1..=3).contains(&d)).then(|| d - 1)
}

/// The position of the narrowest width that covers these channels, or of the widest.
fn width(channels: usize) -> usize {
    WIDTHS.iter().position(|&width| width >= channels).unwrap_or(WIDTHS.len() - 1)
}

fn tiles(volume: Volume, tile: [usize; 3]) -> usize {
    volume.n * volume.extent.iter().zip(tile).map(|(extent, tile)| extent.div_ceil(tile)).product::<usize>()
}

pub(super) fn fprop(op: &Conv3d, cx: &mut Lower<'_>) -> Result<()> {
    let (arguments, y) = fprop_arguments(op, cx);
    correlate(cx, op.kernel, y, &FPROP_TILED, &FPROP_ANALYTIC, &arguments)
}

/// The arguments, and the result's extents.
pub(super) fn fprop_arguments(op: &Conv3d, cx: &Lower<'_>) -> (Conv3dArguments, Volume) {
    let (x, y) = (volume(&cx.input(0).spec), volume(&cx.output(0).spec));
    let [kd, kh, kw] = op.kernel.map(|extent| extent as i32);
    let arguments = Conv3dArguments {
        source: cx.input(0).address,
        filter: cx.input(1).address,
        bias: cx.input(2).address,
        result: cx.output(0).address,
        volume: Extents::of(x),
        kd,
        kh,
        kw,
        r#in: x.c as i32,
        out: y.c as i32,
        relu: i32::from(op.relu),
    };
    (arguments, y)
}

pub(super) fn dgrad(op: &Conv3dDgrad, cx: &mut Lower<'_>) -> Result<()> {
    let (arguments, dx) = dgrad_arguments(op, cx);
    correlate(cx, op.kernel, dx, &DGRAD_TILED, &DGRAD_ANALYTIC, &arguments)
}

/// The arguments, and the result's extents.
pub(super) fn dgrad_arguments(op: &Conv3dDgrad, cx: &Lower<'_>) -> (Conv3dArguments, Volume) {
    let (dy, dx) = (volume(&cx.input(0).spec), volume(&cx.output(0).spec));
    let [kd, kh, kw] = op.kernel.map(|extent| extent as i32);
    let arguments = Conv3dArguments {
        source: cx.input(0).address,
        filter: cx.input(1).address,
        bias: 0,
        result: cx.output(0).address,
        volume: Extents::of(dx),
        kd,
        kh,
        kw,
        r#in: dx.c as i32,
        out: dy.c as i32,
        relu: 0,
    };
    (arguments, dx)
}

fn correlate(
    cx: &mut Lower<'_>,
    kernel: [usize; 3],
    result: Volume,
    tiled: &[[Kernel<Conv3dArguments>; 3]; 3],
    analytic: &Kernel<Conv3dArguments>,
    arguments: &Conv3dArguments,
) -> Result<()> {
    let Some(cube) = cube(kernel) else {
        return cx.launch_over(analytic, result.voxels() * result.c, arguments);
    };
    let width = width(result.c);
    let grid = [tiles(result, TILE) as u64, result.c.div_ceil(WIDTHS[width]) as u64, 1];
    cx.launch(&tiled[cube][width], grid, arguments)
}

pub(super) fn wgrad(op: &Conv3dWgrad, cx: &mut Lower<'_>) -> Result<()> {
    let (x, dy) = (volume(&cx.input(0).spec), volume(&cx.input(1).spec));
    let Some(cube) = cube(op.kernel) else { return analytic_wgrad(op, cx, &WGRAD_ANALYTIC, &SLICE_SUM) };
    let columns = x.c.div_ceil(WGRAD_CHANNELS[0]) * dy.c.div_ceil(WGRAD_CHANNELS[1]);
    let slices = slices(tiles(x, WGRAD_TILE), columns, WGRAD_TILES);
    sum_slices(op, cx, &SLICE_SUM, slices, |cx, arguments| {
        cx.launch(&WGRAD_TILED[cube], [slices as u64, columns as u64, 1], arguments)
    })
}

/// By the sums as they stand, for any extents.
pub(super) fn analytic_wgrad(
    op: &Conv3dWgrad,
    cx: &mut Lower<'_>,
    kernel: &Kernel<Conv3dWgradArguments>,
    slice_sum: &Kernel<SliceSumArguments>,
) -> Result<()> {
    let (x, dy) = (volume(&cx.input(0).spec), volume(&cx.input(1).spec));
    let rows = (op.kernel.iter().product::<usize>() * x.c * dy.c + dy.c).div_ceil(256);
    let slices = slices(x.voxels(), rows, ANALYTIC_SLICE);
    sum_slices(op, cx, slice_sum, slices, |cx, arguments| cx.launch(kernel, [rows as u64, slices as u64, 1], arguments))
}

/// Partial sums per slice by `launch`, then the sums of the slices.
fn sum_slices(
    op: &Conv3dWgrad,
    cx: &mut Lower<'_>,
    slice_sum: &Kernel<SliceSumArguments>,
    slices: usize,
    launch: impl FnOnce(&mut Lower<'_>, &Conv3dWgradArguments) -> Result<()>,
) -> Result<()> {
    let (x, dy) = (volume(&cx.input(0).spec), volume(&cx.input(1).spec));
    let weights = op.kernel.iter().product::<usize>() * x.c * dy.c;
    let stride = weights + dy.c;
    let partials = cx.workspace(4 * slices * stride);
    let [kd, kh, kw] = op.kernel.map(|extent| extent as i32);
    let arguments = Conv3dWgradArguments {
        x: cx.input(0).address,
        dy: cx.input(1).address,
        partials,
        volume: Extents::of(x),
        kd,
        kh,
        kw,
        r#in: x.c as i32,
        out: dy.c as i32,
        unused: 0,
    };
    launch(cx, &arguments)?;
    let [dfilter, dbias] = [0, 1].map(|index| cx.output(index).address);
    add_slices(cx, slice_sum, partials, dfilter, [weights, stride, slices])?;
    add_slices(cx, slice_sum, partials + 4 * weights as u64, dbias, [dy.c, stride, slices])
}
