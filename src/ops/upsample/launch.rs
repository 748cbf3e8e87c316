//! On a GPU: a thread per element of the result.

use crate::{
    Result,
    machine::{KernelAbi, arguments, lower::Lower},
    ops::by_type::{ByType, by_type, runs},
    tensor::Volume,
};

static FORWARD: ByType<UpsampleArguments> = by_type!("upsample", "upsample", 256);
static BACKWARD: ByType<UpsampleArguments> = by_type!("upsample", "upsample_backward", 256);

arguments!(UpsampleArguments { from: u64, to: u64, n: i32, d: i32, h: i32, w: i32, c: i32, unused: i32 });

pub(in crate::ops) fn kernels() -> Vec<KernelAbi> {
    FORWARD.abi().into_iter().chain(BACKWARD.abi()).collect()
}

pub(super) fn forward(cx: &mut Lower<'_>) -> Result<()> {
    let small = cx.input(0).spec.shape.volume().expect("checked when recorded");
    lower(cx, &FORWARD, small)
}

pub(super) fn backward(cx: &mut Lower<'_>) -> Result<()> {
    let small = cx.output(0).spec.shape.volume().expect("checked when recorded");
    lower(cx, &BACKWARD, small)
}

fn lower(cx: &mut Lower<'_>, kernels: &ByType<UpsampleArguments>, small: Volume) -> Result<()> {
    let [d, h, w] = small.extent.map(|extent| extent as i32);
    let (from, to) = (cx.input(0).address, cx.output(0).address);
    let arguments = UpsampleArguments { from, to, n: small.n as i32, d, h, w, c: small.c as i32, unused: 0 };
    let to = cx.output(0);
    cx.launch_over(kernels.of(to), runs(to, small.c), &arguments)
}
