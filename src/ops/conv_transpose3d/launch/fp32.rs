//! fp32: each pass is one matrix product in tiles of 64 x 64, gathered by index maps.

use super::super::volume;
use crate::{
    Result,
    machine::{Kernel, KernelAbi, arguments, lower::Lower},
    ops::slices::{SliceSumArguments, SlicedVoxels, add_slices, slices},
    tensor::Volume,
};

const FAMILY: &str = "conv_transpose3d";
const FPROP: Kernel<ConvTranspose3dArguments> = Kernel::new(FAMILY, "conv_transpose3d_fprop", 256);
const DGRAD: Kernel<ConvTranspose3dArguments> = Kernel::new(FAMILY, "conv_transpose3d_dgrad", 256);
const WGRAD: Kernel<ConvTranspose3dWgradArguments> = Kernel::new(FAMILY, "conv_transpose3d_wgrad", 256);
const BIAS_SUMS: Kernel<BiasSumArguments> = Kernel::new(FAMILY, "conv_transpose3d_bias_sums", 256);
const SLICE_SUM: Kernel<SliceSumArguments> = Kernel::new(FAMILY, "conv_transpose3d_slice_sum", 256);

/// Rows and columns of a CTA's tile.
const TILE: usize = 64;
/// Voxels that a slice of wgrad's sum should have, so that loading and storing its tile does not dominate.
const SMALLEST_SLICE: usize = 128;

arguments!(ConvTranspose3dArguments {
    source: u64,
    filter: u64,
    bias: u64,
    result: u64,
    n: i32,
    d: i32,
    h: i32,
    w: i32,
    r#in: i32,
    out: i32,
});
arguments!(ConvTranspose3dWgradArguments {
    x: u64,
    dy: u64,
    partials: u64,
    n: i32,
    d: i32,
    h: i32,
    w: i32,
    r#in: i32,
    out: i32,
});
arguments!(BiasSumArguments { dy: u64, partials: u64, sliced: SlicedVoxels });

pub(super) fn kernels() -> Vec<KernelAbi> {
    vec![FPROP.abi(), DGRAD.abi(), WGRAD.abi(), BIAS_SUMS.abi(), SLICE_SUM.abi()]
}

fn tiles(extent: usize) -> u64 {
    extent.div_ceil(TILE) as u64
}

pub(super) fn fprop(cx: &mut Lower<'_>) -> Result<()> {
    let (x, out) = (volume(&cx.input(0).spec), volume(&cx.output(0).spec).c);
    let arguments = product(cx, cx.input(2).address, x, out);
    cx.launch(&FPROP, [tiles(x.voxels()), tiles(8 * out), 1], &arguments)
}

pub(super) fn dgrad(cx: &mut Lower<'_>) -> Result<()> {
    let (dx, out) = (volume(&cx.output(0).spec), volume(&cx.input(0).spec).c);
    let arguments = product(cx, 0, dx, out);
    cx.launch(&DGRAD, [tiles(dx.voxels()), tiles(dx.c), 1], &arguments)
}

fn product(cx: &Lower<'_>, bias: u64, small: Volume, out: usize) -> ConvTranspose3dArguments {
    let [d, h, w] = small.extent.map(|extent| extent as i32);
    let (source, filter, result) = (cx.input(0).address, cx.input(1).address, cx.output(0).address);
    let (n, r#in, out) = (small.n as i32, small.c as i32, out as i32);
    ConvTranspose3dArguments { source, filter, bias, result, n, d, h, w, r#in, out }
}

pub(super) fn wgrad(cx: &mut Lower<'_>) -> Result<()> {
    let (x, dy) = (volume(&cx.input(0).spec), volume(&cx.input(1).spec));
    let (rows, columns) = (tiles(x.c), tiles(8 * dy.c));
    let slices = slices(x.voxels(), (rows * columns) as usize, SMALLEST_SLICE);
    let weights = 8 * x.c * dy.c;
    let partials = cx.workspace(4 * slices * weights);
    let [d, h, w] = x.extent.map(|extent| extent as i32);
    let arguments = ConvTranspose3dWgradArguments {
        x: cx.input(0).address,
        dy: cx.input(1).address,
        partials,
        n: x.n as i32,
        d,
        h,
        w,
        r#in: x.c as i32,
        out: dy.c as i32,
    };
    cx.launch(&WGRAD, [rows, columns, slices as u64], &arguments)?;
    let [dfilter, dbias] = [0, 1].map(|index| cx.output(index).address);
    add_slices(cx, &SLICE_SUM, partials, dfilter, [weights, weights, slices])?;

    let sliced = SlicedVoxels::new(dy.voxels(), dy.c, 4);
    let partials = cx.workspace(4 * sliced.slices() * dy.c);
    cx.launch(&BIAS_SUMS, sliced.grid(), &BiasSumArguments { dy: cx.input(1).address, partials, sliced })?;
    add_slices(cx, &SLICE_SUM, partials, dbias, [dy.c, dy.c, sliced.slices()])
}
