//! On a GPU: a thread per element of the result.

use crate::{
    Result,
    machine::{Kernel, KernelAbi, arguments, lower::Lower},
    tensor::Volume,
};

const FORWARD: Kernel<UpsampleArguments> = Kernel::new("upsample", "upsample", 256);
const BACKWARD: Kernel<UpsampleArguments> = Kernel::new("upsample", "upsample_backward", 256);

arguments!(UpsampleArguments { from: u64, to: u64, n: i32, d: i32, h: i32, w: i32, c: i32, unused: i32 });

pub(in crate::ops) fn kernels() -> Vec<KernelAbi> {
    vec![FORWARD.abi(), BACKWARD.abi()]
}

pub(super) fn forward(cx: &mut Lower<'_>) -> Result<()> {
    cx.fp32_only()?;
    let small = cx.input(0).spec.shape.volume().expect("checked when recorded");
    lower(cx, &FORWARD, small)
}

pub(super) fn backward(cx: &mut Lower<'_>) -> Result<()> {
    cx.fp32_only()?;
    let small = cx.output(0).spec.shape.volume().expect("checked when recorded");
    lower(cx, &BACKWARD, small)
}

fn lower(cx: &mut Lower<'_>, kernel: &Kernel<UpsampleArguments>, small: Volume) -> Result<()> {
    let [d, h, w] = small.extent.map(|extent| extent as i32);
    let (from, to) = (cx.input(0).address, cx.output(0).address);
    let arguments = UpsampleArguments { from, to, n: small.n as i32, d, h, w, c: small.c as i32, unused: 0 };
    cx.launch_over(kernel, cx.output(0).spec.shape.elements(), &arguments)
}
