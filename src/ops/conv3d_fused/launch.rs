//! On a GPU: bf16 and fp16 on tensor cores, whose tiles are normalised and masked in shared memory. fp32 and filters that are no
//! cubes have no fused kernels: the pass that fuses leaves them as they are.

use super::{FusedConv3d, FusedConv3dDgrad, FusedConv3dWgrad, volume};
use crate::{
    Error, Result,
    machine::lower::Lower,
    ops::{
        conv3d::launch::{Kernels, cube, narrow},
        tensor_core::{Correlation, Pass, Sources, Targets, TileSums, WgradProblem},
    },
};

/// The kernels for these operands, and the position of the cube among them.
fn kernels(kernel: [usize; 3], cx: &Lower<'_>) -> Result<(&'static Kernels, usize)> {
    let dtype = cx.input(0).spec.dtype;
    narrow(dtype).zip(cube(kernel)).ok_or_else(|| {
        let cause = format!("no fused GPU kernel for a {kernel:?} filter in {dtype}; use the separate operations");
        Error::shape(cx.name(), cause)
    })
}

pub(super) fn fprop(op: &FusedConv3d, cx: &mut Lower<'_>) -> Result<()> {
    let (kernels, cube) = kernels(op.kernel, cx)?;
    let sources = Sources::read(cx, op.sources);
    let y = volume(&cx.output(0).spec);
    let filter = cx.input(op.sources.operands());
    let statistics = op.statistics.then(|| TileSums::new(cx, y, 1, y.c));
    let problem = Correlation {
        pass: Pass::Fprop,
        extent: cube + 1,
        volume: y,
        sources,
        targets: Targets::one(cx.output(0)),
        filter: filter.address,
        filter_channels: [filter.spec.shape.extents()[3], y.c],
        bias: cx.input(op.sources.operands() + 1).address,
        statistics: statistics.map_or(0, |sums| sums.partials),
        relu: op.relu,
    };
    kernels.correlate(cube).launch(cx, &problem)?;
    match statistics {
        Some(sums) => kernels.statistics.launch(cx, sums, [1, 2].map(|index| cx.output(index).address)),
        None => Ok(()),
    }
}

pub(super) fn dgrad(op: &FusedConv3dDgrad, cx: &mut Lower<'_>) -> Result<()> {
    let (kernels, cube) = kernels(op.kernel, cx)?;
    let dx = volume(&cx.output(0).spec);
    let filter = cx.input(op.filter());
    let extents = filter.spec.shape.extents();
    let problem = Correlation {
        pass: Pass::Dgrad,
        extent: cube + 1,
        volume: dx,
        sources: Sources::masked(cx.input(0), op.relu.then(|| cx.input(1))),
        targets: match op.first {
            Some(_) => Targets::two(cx.output(0), cx.output(1)),
            None => Targets::one(cx.output(0)),
        },
        filter: filter.address,
        filter_channels: [extents[3], extents[4]],
        bias: 0,
        statistics: 0,
        relu: false,
    };
    kernels.correlate(cube).launch(cx, &problem)
}

pub(super) fn wgrad(op: &FusedConv3dWgrad, cx: &mut Lower<'_>) -> Result<()> {
    let (kernels, cube) = kernels(op.kernel, cx)?;
    let dy = op.sources.operands();
    let problem = WgradProblem {
        volume: volume(&cx.input(0).spec),
        x: Sources::read(cx, op.sources),
        dy: Sources::masked(cx.input(dy), op.relu.then(|| cx.input(dy + 1))),
        dfilter: cx.output(0).address,
        dbias: cx.output(1).address,
    };
    kernels.wgrad_of(cube).launch(cx, &problem)
}
