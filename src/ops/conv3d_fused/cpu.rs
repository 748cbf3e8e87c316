//! On the CPU: what is fused in front is done once per voxel while a slab is staged, what is fused behind while sums are in
//! registers; see [`crate::cpu`].

use super::{FusedConv3d, FusedConv3dDgrad, FusedConv3dWgrad, volume};
use crate::{
    cpu::{Convolution, CpuCall, Element, Epilogue, Gradient, Statistics, with_element},
    ops::conv3d::pad_before,
    tensor::{Spec, Volume},
};

/// The convolution over all sources side by side: `dy` has the extents of all of them.
fn problem(kernel: [usize; 3], dy: Volume, channels_in: usize) -> Convolution {
    Convolution {
        batch: dy.n,
        input: dy.extent,
        output: dy.extent,
        kernel,
        pad_before: pad_before(kernel),
        channels_in,
        channels_out: dy.c,
    }
}

pub(super) fn fprop(op: &FusedConv3d, call: &CpuCall<'_>) {
    with_element!(call.input_spec(0).dtype, E => fprop_on::<E>(op, call));
}

pub(super) fn wgrad(op: &FusedConv3dWgrad, call: &CpuCall<'_>) {
    with_element!(call.input_spec(0).dtype, E => wgrad_on::<E>(op, call));
}

pub(super) fn dgrad(op: &FusedConv3dDgrad, call: &CpuCall<'_>) {
    with_element!(call.input_spec(0).dtype, E => dgrad_on::<E>(op, call));
}

fn fprop_on<E: Element>(op: &FusedConv3d, call: &CpuCall<'_>) {
    let (inputs, count) = op.sources.on_cpu::<E>(call);
    let (filter, bias) = (op.sources.operands(), op.sources.operands() + 1);
    let channels_in = inputs[..count].iter().map(|input| input.channels).sum();
    let problem = problem(op.kernel, volume(&call.output_spec(0)), channels_in);
    let (y, threads) = (call.elements_mut(0), call.threads());
    let mut run = |statistics, workspace: &mut [f32]| {
        let epilogue = Epilogue { bias: Some(call.f32(bias)), relu: op.relu, statistics };
        problem.fprop_fused(threads, &inputs[..count], call.elements(filter), epilogue, y, workspace);
    };
    if !op.statistics {
        return run(None, call.workspace());
    }
    let (mut statistics, workspace) = Statistics::new(problem.channels_out, call.workspace());
    run(Some(statistics.sums()), workspace);
    statistics.finish(threads, y, call.f32_mut(1), call.f32_mut(2), workspace);
}

fn wgrad_on<E: Element>(op: &FusedConv3dWgrad, call: &CpuCall<'_>) {
    let (inputs, count) = op.sources.on_cpu::<E>(call);
    let dy = op.sources.operands();
    let gradient = Gradient { data: call.elements(dy), relu: op.relu.then(|| call.elements(dy + 1)) };
    let channels_in = inputs[..count].iter().map(|input| input.channels).sum();
    let problem = problem(op.kernel, volume(&call.input_spec(dy)), channels_in);
    let (dfilter, dbias) = (call.f32_mut(0), call.f32_mut(1));
    problem.wgrad_fused(call.threads(), &inputs[..count], gradient, dfilter, Some(dbias), call.workspace());
}

pub(super) fn dgrad_workspace(op: &FusedConv3dDgrad, dy: &Spec, outputs: &[Spec], threads: usize) -> usize {
    let problem = problem(op.kernel, volume(dy), volume(&op.joined(outputs)).c);
    let part = |output: &Spec| problem.dgrad_channels_workspace(volume(output).c, dy.dtype, threads);
    4 * outputs.iter().map(part).max().unwrap_or(0)
}

fn dgrad_on<E: Element>(op: &FusedConv3dDgrad, call: &CpuCall<'_>) {
    let channels = |output| volume(&call.output_spec(output)).c;
    let problem = problem(op.kernel, volume(&call.input_spec(0)), (0..call.outputs()).map(channels).sum());
    let gradient = Gradient::<E> { data: call.elements(0), relu: op.relu.then(|| call.elements(1)) };
    let (filter, workspace) = (call.elements(op.filter()), call.workspace());
    let mut first = 0;
    for output in 0..call.outputs() {
        let part = first..first + channels(output);
        first = part.end;
        problem.dgrad_fused(call.threads(), gradient, filter, part, call.elements_mut(output), workspace);
    }
}
