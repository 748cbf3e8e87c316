//! On a GPU: a thread per voxel for softmax, per element for the logistic function.

use crate::{
    Result,
    machine::{KernelAbi, arguments, lower::Lower},
    ops::by_type::{ByType, by_type},
};

static SOFTMAX: ByType<SoftmaxArguments> = by_type!("activation", "softmax", 256);
static SIGMOID: ByType<SigmoidArguments> = by_type!("activation", "sigmoid", 256);

arguments!(SoftmaxArguments { x: u64, y: u64, voxels: i64, channels: i32, unused: i32 });
arguments!(SigmoidArguments { x: u64, y: u64, count: i64 });

pub(in crate::ops) fn kernels() -> Vec<KernelAbi> {
    SOFTMAX.abi().into_iter().chain(SIGMOID.abi()).collect()
}

pub(super) fn softmax(cx: &mut Lower<'_>) -> Result<()> {
    let volume = cx.output(0).spec.shape.volume().expect("checked when recorded");
    let (x, y) = (cx.input(0).address, cx.output(0).address);
    let arguments = SoftmaxArguments { x, y, voxels: volume.voxels() as i64, channels: volume.c as i32, unused: 0 };
    cx.launch_over(SOFTMAX.of(cx.input(0)), volume.voxels(), &arguments)
}

pub(super) fn sigmoid(cx: &mut Lower<'_>) -> Result<()> {
    let (x, y) = (cx.input(0).address, cx.output(0).address);
    let count = cx.output(0).spec.shape.elements();
    cx.launch_over(SIGMOID.of(cx.input(0)), count, &SigmoidArguments { x, y, count: count as i64 })
}
