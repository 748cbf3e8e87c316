//! On a GPU: sums per channel and slice, merged by a warp per channel; then one pass to apply.

use super::{BatchNorm, BatchNormBackward, BatchNormInference, BatchNormRunning, volume};
use crate::{
    Result,
    machine::{Kernel, KernelAbi, arguments, lower::Lower},
    ops::slices::SlicedVoxels,
    tensor::Volume,
};

const FAMILY: &str = "batch_norm";
const SUMS: Kernel<ChannelSumArguments> = Kernel::new(FAMILY, "batch_norm_sums", 256);
const FINISH: Kernel<BatchNormFinishArguments> = Kernel::new(FAMILY, "batch_norm_finish", 32);
const SCALE: Kernel<BatchNormScaleArguments> = Kernel::new(FAMILY, "batch_norm_scale", 256);
const APPLY: Kernel<BatchNormApplyArguments> = Kernel::new(FAMILY, "batch_norm_apply", 256);
const BACKWARD_SUMS: Kernel<ChannelSumArguments> = Kernel::new(FAMILY, "batch_norm_backward_sums", 256);
const BACKWARD_FINISH: Kernel<BatchNormBackwardFinishArguments> = Kernel::new(FAMILY, "batch_norm_backward_finish", 32);
const BACKWARD_APPLY: Kernel<BatchNormBackwardApplyArguments> = Kernel::new(FAMILY, "batch_norm_backward_apply", 256);
const RUNNING: Kernel<BatchNormRunningArguments> = Kernel::new(FAMILY, "batch_norm_running", 256);

arguments!(ChannelSumArguments { x: u64, dy: u64, mean: u64, partials: u64, sliced: SlicedVoxels });
arguments!(BatchNormFinishArguments {
    partials: u64,
    gamma: u64,
    mean: u64,
    variance: u64,
    scale: u64,
    voxels: i64,
    slice: i64,
    slices: i32,
    channels: i32,
    epsilon: f64,
});
arguments!(BatchNormScaleArguments { gamma: u64, variance: u64, scale: u64, epsilon: f64, channels: i32, unused: i32 });
arguments!(BatchNormApplyArguments {
    x: u64,
    mean: u64,
    scale: u64,
    beta: u64,
    y: u64,
    count: i64,
    channels: i32,
    unused: i32,
});
arguments!(BatchNormBackwardFinishArguments {
    partials: u64,
    gamma: u64,
    variance: u64,
    dgamma: u64,
    dbeta: u64,
    factors: u64,
    voxels: i64,
    slices: i32,
    channels: i32,
    epsilon: f64,
});
arguments!(BatchNormBackwardApplyArguments {
    x: u64,
    mean: u64,
    factors: u64,
    dy: u64,
    dx: u64,
    count: i64,
    channels: i32,
    unused: i32,
});
arguments!(BatchNormRunningArguments {
    running_mean: u64,
    running_variance: u64,
    mean: u64,
    variance: u64,
    channels: i32,
    stays: f32,
    moves: f32,
    unused: i32,
});

pub(in crate::ops) fn kernels() -> Vec<KernelAbi> {
    vec![
        SUMS.abi(),
        FINISH.abi(),
        SCALE.abi(),
        APPLY.abi(),
        BACKWARD_SUMS.abi(),
        BACKWARD_FINISH.abi(),
        BACKWARD_APPLY.abi(),
        RUNNING.abi(),
    ]
}

/// Scratch for the partial sums of all slices: two sums and a shift per channel, in double precision.
fn partials(cx: &mut Lower<'_>, x: Volume) -> (SlicedVoxels, u64) {
    let sliced = SlicedVoxels::new(x.voxels(), x.c);
    let partials = cx.workspace(sliced.slices() * 3 * x.c * 8);
    (sliced, partials)
}

pub(super) fn train(op: &BatchNorm, cx: &mut Lower<'_>) -> Result<()> {
    cx.fp32_only()?;
    let x = volume(&cx.input(0).spec);
    let (sliced, partials) = partials(cx, x);
    let scale = cx.workspace(4 * x.c);
    let [source, gamma, beta] = [0, 1, 2].map(|index| cx.input(index).address);
    let [y, mean, variance] = [0, 1, 2].map(|index| cx.output(index).address);
    let sums = ChannelSumArguments { x: source, dy: 0, mean: 0, partials, sliced };
    cx.launch(&SUMS, sliced.grid(), &sums)?;
    let finish = BatchNormFinishArguments {
        partials,
        gamma,
        mean,
        variance,
        scale,
        voxels: sliced.voxels,
        slice: sliced.slice,
        slices: sliced.slices() as i32,
        channels: x.c as i32,
        epsilon: op.epsilon,
    };
    cx.launch(&FINISH, [x.c as u64, 1, 1], &finish)?;
    apply(cx, x, [source, mean, scale, beta, y])
}

pub(super) fn inference(op: &BatchNormInference, cx: &mut Lower<'_>) -> Result<()> {
    cx.fp32_only()?;
    let x = volume(&cx.input(0).spec);
    let scale = cx.workspace(4 * x.c);
    let [source, gamma, beta, mean, variance] = [0, 1, 2, 3, 4].map(|index| cx.input(index).address);
    let y = cx.output(0).address;
    let scales =
        BatchNormScaleArguments { gamma, variance, scale, epsilon: op.epsilon, channels: x.c as i32, unused: 0 };
    cx.launch(&SCALE, [(x.c as u64).div_ceil(256), 1, 1], &scales)?;
    apply(cx, x, [source, mean, scale, beta, y])
}

fn apply(cx: &mut Lower<'_>, x: Volume, [source, mean, scale, beta, y]: [u64; 5]) -> Result<()> {
    let count = x.voxels() * x.c;
    let (channels, unused) = (x.c as i32, 0);
    let arguments = BatchNormApplyArguments { x: source, mean, scale, beta, y, count: count as i64, channels, unused };
    cx.launch_over(&APPLY, count, &arguments)
}

pub(super) fn backward(op: &BatchNormBackward, cx: &mut Lower<'_>) -> Result<()> {
    cx.fp32_only()?;
    let volume = volume(&cx.input(0).spec);
    let (sliced, partials) = partials(cx, volume);
    let factors = cx.workspace(3 * 4 * volume.c);
    let [x, gamma, mean, variance, dy] = [0, 1, 2, 3, 4].map(|index| cx.input(index).address);
    let [dx, dgamma, dbeta] = [0, 1, 2].map(|index| cx.output(index).address);
    cx.launch(&BACKWARD_SUMS, sliced.grid(), &ChannelSumArguments { x, dy, mean, partials, sliced })?;
    let finish = BatchNormBackwardFinishArguments {
        partials,
        gamma,
        variance,
        dgamma,
        dbeta,
        factors,
        voxels: sliced.voxels,
        slices: sliced.slices() as i32,
        channels: volume.c as i32,
        epsilon: op.epsilon,
    };
    cx.launch(&BACKWARD_FINISH, [volume.c as u64, 1, 1], &finish)?;
    let count = volume.voxels() * volume.c;
    let (channels, unused) = (volume.c as i32, 0);
    let arguments = BatchNormBackwardApplyArguments { x, mean, factors, dy, dx, count: count as i64, channels, unused };
    cx.launch_over(&BACKWARD_APPLY, count, &arguments)
}

pub(super) fn running(op: &BatchNormRunning, cx: &mut Lower<'_>) -> Result<()> {
    cx.fp32_only()?;
    let [running_mean, running_variance, mean, variance] = [0, 1, 2, 3].map(|index| cx.input(index).address);
    let channels = cx.input(0).spec.shape.elements();
    let arguments = BatchNormRunningArguments {
        running_mean,
        running_variance,
        mean,
        variance,
        channels: channels as i32,
        stays: op.momentum as f32,
        moves: (1.0 - op.momentum) as f32,
        unused: 0,
    };
    cx.launch(&RUNNING, [(channels as u64).div_ceil(256), 1, 1], &arguments)
}
