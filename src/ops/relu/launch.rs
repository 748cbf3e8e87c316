//! On a GPU: threads stride over the elements.

use crate::{
    Result,
    machine::{Kernel, KernelAbi, arguments, lower::Lower},
};

const FORWARD: Kernel<ReluArguments> = Kernel::new("relu", "relu", 256);
const BACKWARD: Kernel<ReluBackwardArguments> = Kernel::new("relu", "relu_backward", 256);

arguments!(ReluArguments { x: u64, y: u64, count: i64 });
arguments!(ReluBackwardArguments { y: u64, dy: u64, dx: u64, count: i64 });

pub(in crate::ops) fn kernels() -> Vec<KernelAbi> {
    vec![FORWARD.abi(), BACKWARD.abi()]
}

pub(super) fn forward(cx: &mut Lower<'_>) -> Result<()> {
    cx.fp32_only()?;
    let (x, y) = (cx.input(0), cx.output(0));
    let count = y.spec.shape.elements();
    cx.launch_over(&FORWARD, count, &ReluArguments { x: x.address, y: y.address, count: count as i64 })
}

pub(super) fn backward(cx: &mut Lower<'_>) -> Result<()> {
    cx.fp32_only()?;
    let (y, dy, dx) = (cx.input(0).address, cx.input(1).address, cx.output(0).address);
    let count = cx.output(0).spec.shape.elements();
    cx.launch_over(&BACKWARD, count, &ReluBackwardArguments { y, dy, dx, count: count as i64 })
}
