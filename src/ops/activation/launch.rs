//! On a GPU: a thread per voxel for softmax, per element for the logistic function.

use crate::{
    Result,
    machine::{Kernel, KernelAbi, arguments, lower::Lower},
};

const SOFTMAX: Kernel<SoftmaxArguments> = Kernel::new("activation", "softmax", 256);
const SIGMOID: Kernel<SigmoidArguments> = Kernel::new("activation", "sigmoid", 256);

arguments!(SoftmaxArguments { x: u64, y: u64, voxels: i64, channels: i32, unused: i32 });
arguments!(SigmoidArguments { x: u64, y: u64, count: i64 });

pub(in crate::ops) fn kernels() -> Vec<KernelAbi> {
    vec![SOFTMAX.abi(), SIGMOID.abi()]
}

pub(super) fn softmax(cx: &mut Lower<'_>) -> Result<()> {
    cx.fp32_only()?;
    let volume = cx.output(0).spec.shape.volume().expect("checked when recorded");
    let (x, y) = (cx.input(0).address, cx.output(0).address);
    let arguments = SoftmaxArguments { x, y, voxels: volume.voxels() as i64, channels: volume.c as i32, unused: 0 };
    cx.launch_over(&SOFTMAX, volume.voxels(), &arguments)
}

pub(super) fn sigmoid(cx: &mut Lower<'_>) -> Result<()> {
    cx.fp32_only()?;
    let (x, y) = (cx.input(0).address, cx.output(0).address);
    let count = cx.output(0).spec.shape.elements();
    cx.launch_over(&SIGMOID, count, &SigmoidArguments { x, y, count: count as i64 })
}
