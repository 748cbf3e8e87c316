//! On the CPU: what is fused in front is done once per voxel while a slab is staged, what is fused behind while sums are in
//! registers; see [`crate::cpu`].

use super::{FusedConv3d, FusedConv3dDgrad, FusedConv3dWgrad, volume};
use crate::{
    cpu::{Convolution, Epilogue, Gradient, Statistics},
    graph::CpuTarget,
    ops::conv3d::pad_before,
    session::CpuCall,
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
    let (inputs, count) = op.sources.on_cpu(call);
    let (filter, bias) = (op.sources.operands(), op.sources.operands() + 1);
    let channels_in = inputs[..count].iter().map(|input| input.channels).sum();
    let problem = problem(op.kernel, volume(&call.output_spec(0)), channels_in);
    let (y, threads) = (call.f32_mut(0), call.threads());
    let mut run = |statistics, workspace: &mut [f32]| {
        let epilogue = Epilogue { bias: Some(call.f32(bias)), relu: op.relu, statistics };
        problem.fprop_fused(threads, &inputs[..count], call.f32(filter), epilogue, y, workspace);
    };
    if !op.statistics {
        return run(None, call.workspace());
    }
    let (mut statistics, workspace) = Statistics::new(problem.channels_out, call.workspace());
    run(Some(statistics.sums()), workspace);
    statistics.finish(threads, y, call.f32_mut(1), call.f32_mut(2), workspace);
}

pub(super) fn wgrad(op: &FusedConv3dWgrad, call: &CpuCall<'_>) {
    let (inputs, count) = op.sources.on_cpu(call);
    let dy = op.sources.operands();
    let gradient = Gradient { data: call.f32(dy), relu: op.relu.then(|| call.f32(dy + 1)) };
    let channels_in = inputs[..count].iter().map(|input| input.channels).sum();
    let problem = problem(op.kernel, volume(&call.input_spec(dy)), channels_in);
    let (dfilter, dbias) = (call.f32_mut(0), call.f32_mut(1));
    problem.wgrad_fused(call.threads(), &inputs[..count], gradient, dfilter, Some(dbias), call.workspace());
}

pub(super) fn dgrad_workspace(op: &FusedConv3dDgrad, dy: &Spec, outputs: &[Spec], target: CpuTarget) -> usize {
    let problem = problem(op.kernel, volume(dy), volume(&op.joined(outputs)).c);
    let part = |output: &Spec| problem.dgrad_channels_workspace(volume(output).c, target.threads);
    4 * outputs.iter().map(part).max().unwrap_or(0)
}

pub(super) fn dgrad(op: &FusedConv3dDgrad, call: &CpuCall<'_>) {
    let outputs: [usize; 2] = std::array::from_fn(|index| match index < call.outputs() {
        true => volume(&call.output_spec(index)).c,
        false => 0,
    });
    let problem = problem(op.kernel, volume(&call.input_spec(0)), outputs.iter().sum());
    let gradient = Gradient { data: call.f32(0), relu: op.relu.then(|| call.f32(1)) };
    let workspace = call.workspace();
    let mut first = 0;
    for output in 0..call.outputs() {
        let channels = first..first + outputs[output];
        first = channels.end;
        problem.dgrad_fused(call.threads(), gradient, call.f32(op.filter()), channels, call.f32_mut(output), workspace);
    }
}
