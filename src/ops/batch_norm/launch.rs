//! On a GPU: sums per channel and slice, merged by a warp per channel; then one pass to apply.

use super::{BatchNorm, BatchNormBackward, BatchNormInference, BatchNormRunning, volume};
use crate::{
    Result,
    machine::{Kernel, KernelAbi, arguments, lower::Lower},
    ops::{
        by_type::{ByType, by_type, run, runs},
        slices::SlicedVoxels,
    },
    tensor::Volume,
};

const FAMILY: &str = "batch_norm";
static SUMS: ByType<ChannelSumArguments> = by_type!(FAMILY, "batch_norm_sums", 256);
const FINISH: Kernel<BatchNormFinishArguments> = Kernel::new(FAMILY, "batch_norm_finish", 32);
const SCALE: Kernel<BatchNormScaleArguments> = Kernel::new(FAMILY, "batch_norm_scale", 256);
static APPLY: ByType<BatchNormApplyArguments> = by_type!(FAMILY, "batch_norm_apply", 256);
static BACKWARD_SUMS: ByType<ChannelSumArguments> = by_type!(FAMILY, "batch_norm_backward_sums", 256);
const BACKWARD_FINISH: Kernel<BatchNormBackwardFinishArguments> = Kernel::new(FAMILY, "batch_norm_backward_finish", 32);
static BACKWARD_APPLY: ByType<BatchNormBackwardApplyArguments> = by_type!(FAMILY, "batch_norm_backward_apply", 256);
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
arguments!(BatchNormScaleArguments {
    gamma: u64,
    beta: u64,
    mean: u64,
    variance: u64,
    scale: u64,
    shift: u64,
    epsilon: f64,
    channels: i32,
    unused: i32,
});
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
    addend: u64,
    dx: u64,
    count: i64,
    channels: i32,
    relu: i32,
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
    let sums = SUMS.abi().into_iter().chain(BACKWARD_SUMS.abi());
    let passes = APPLY.abi().into_iter().chain(BACKWARD_APPLY.abi());
    sums.chain(passes).chain([FINISH.abi(), SCALE.abi(), BACKWARD_FINISH.abi(), RUNNING.abi()]).collect()
}

/// Scratch for the partial sums of all slices: two sums and a shift per channel, in double precision.
fn partials(cx: &mut Lower<'_>, x: Volume) -> (SlicedVoxels, u64) {
    let sliced = SlicedVoxels::new(x.voxels(), x.c, run(cx.input(0)));
    let partials = cx.workspace(sliced.slices() * 3 * x.c * 8);
    (sliced, partials)
}

pub(super) fn train(op: &BatchNorm, cx: &mut Lower<'_>) -> Result<()> {
    let x = volume(&cx.input(0).spec);
    let scale = cx.workspace(4 * x.c);
    let [source, gamma, beta] = [0, 1, 2].map(|index| cx.input(index).address);
    let [y, mean, variance] = [0, 1, 2].map(|index| cx.output(index).address);
    take_statistics(cx, x, [gamma, mean, variance, scale], op.epsilon)?;
    apply(cx, x, [source, mean, scale, beta, y])
}

/// Operand `[x]`, results `[mean, variance]`.
pub(in crate::ops) fn statistics(cx: &mut Lower<'_>) -> Result<()> {
    let x = volume(&cx.input(0).spec);
    let [mean, variance] = [0, 1].map(|index| cx.output(index).address);
    take_statistics(cx, x, [0, mean, variance, 0], 0.0)
}

/// Mean and variance of the first operand, and gamma / sqrt(variance + epsilon) where a scale is asked for.
fn take_statistics(
    cx: &mut Lower<'_>,
    x: Volume,
    [gamma, mean, variance, scale]: [u64; 4],
    epsilon: f64,
) -> Result<()> {
    let (sliced, partials) = partials(cx, x);
    let sums = ChannelSumArguments { x: cx.input(0).address, dy: 0, mean: 0, partials, sliced };
    cx.launch(SUMS.of(cx.input(0)), sliced.grid(), &sums)?;
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
        epsilon,
    };
    cx.launch(&FINISH, [x.c as u64, 1, 1], &finish)
}

/// Operands `[gamma, beta, mean, variance]`, results `[scale, shift]`.
pub(in crate::ops) fn finish(epsilon: f64, cx: &mut Lower<'_>) -> Result<()> {
    let channels = cx.input(0).spec.shape.elements();
    let [gamma, beta, mean, variance] = [0, 1, 2, 3].map(|index| cx.input(index).address);
    let [scale, shift] = [0, 1].map(|index| cx.output(index).address);
    scales(cx, [gamma, beta, mean, variance, scale, shift], channels, epsilon)
}

fn scales(cx: &mut Lower<'_>, addresses: [u64; 6], channels: usize, epsilon: f64) -> Result<()> {
    let [gamma, beta, mean, variance, scale, shift] = addresses;
    let (grid, channels) = ([(channels as u64).div_ceil(256), 1, 1], channels as i32);
    let arguments = BatchNormScaleArguments { gamma, beta, mean, variance, scale, shift, epsilon, channels, unused: 0 };
    cx.launch(&SCALE, grid, &arguments)
}

pub(super) fn inference(op: &BatchNormInference, cx: &mut Lower<'_>) -> Result<()> {
    let x = volume(&cx.input(0).spec);
    let scale = cx.workspace(4 * x.c);
    let [source, gamma, beta, mean, variance] = [0, 1, 2, 3, 4].map(|index| cx.input(index).address);
    let y = cx.output(0).address;
    scales(cx, [gamma, 0, 0, variance, scale, 0], x.c, op.epsilon)?;
    apply(cx, x, [source, mean, scale, beta, y])
}

fn apply(cx: &mut Lower<'_>, x: Volume, [source, mean, scale, beta, y]: [u64; 5]) -> Result<()> {
    let count = x.voxels() * x.c;
    let (channels, unused) = (x.c as i32, 0);
    let arguments = BatchNormApplyArguments { x: source, mean, scale, beta, y, count: count as i64, channels, unused };
    let x = cx.input(0);
    cx.launch_over(APPLY.of(x), runs(x, channels as usize), &arguments)
}

pub(super) fn backward(op: &BatchNormBackward, cx: &mut Lower<'_>) -> Result<()> {
    fused_backward(op.epsilon, false, false, cx)
}

/// Operands `[x, gamma, mean, variance, dy, (addend)]`, results `[dx, dgamma, dbeta]`.
pub(in crate::ops) fn fused_backward(epsilon: f64, accumulate: bool, relu: bool, cx: &mut Lower<'_>) -> Result<()> {
    let volume = volume(&cx.input(0).spec);
    let (sliced, partials) = partials(cx, volume);
    let factors = cx.workspace(3 * 4 * volume.c);
    let [x, gamma, mean, variance, dy] = [0, 1, 2, 3, 4].map(|index| cx.input(index).address);
    let [dx, dgamma, dbeta] = [0, 1, 2].map(|index| cx.output(index).address);
    cx.launch(BACKWARD_SUMS.of(cx.input(0)), sliced.grid(), &ChannelSumArguments { x, dy, mean, partials, sliced })?;
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
        epsilon,
    };
    cx.launch(&BACKWARD_FINISH, [volume.c as u64, 1, 1], &finish)?;
    let count = volume.voxels() * volume.c;
    let channels = volume.c as i32;
    let arguments = BatchNormBackwardApplyArguments {
        x,
        mean,
        factors,
        dy,
        addend: if accumulate { cx.input(5).address } else { 0 },
        dx,
        count: count as i64,
        channels,
        relu: i32::from(relu),
    };
    let x = cx.input(0);
    cx.launch_over(BACKWARD_APPLY.of(x), runs(x, channels as usize), &arguments)
}

pub(super) fn running(op: &BatchNormRunning, cx: &mut Lower<'_>) -> Result<()> {
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
