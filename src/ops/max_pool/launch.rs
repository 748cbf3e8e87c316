//! On a GPU: a thread per element of the result, or per block of the input.

use crate::{
    Result,
    machine::{Kernel, KernelAbi, arguments, lower::Lower},
};

const FORWARD: Kernel<MaxPoolArguments> = Kernel::new("max_pool", "max_pool", 256);
const BACKWARD: Kernel<MaxPoolBackwardArguments> = Kernel::new("max_pool", "max_pool_backward", 256);

arguments!(MaxPoolArguments { x: u64, y: u64, n: i32, d: i32, h: i32, w: i32, c: i32, unused: i32 });
arguments!(MaxPoolBackwardArguments { x: u64, dy: u64, dx: u64, n: i32, d: i32, h: i32, w: i32, c: i32, unused: i32 });

pub(in crate::ops) fn kernels() -> Vec<KernelAbi> {
    vec![FORWARD.abi(), BACKWARD.abi()]
}

pub(super) fn forward(cx: &mut Lower<'_>) -> Result<()> {
    cx.fp32_only()?;
    let large = cx.input(0).spec.shape.volume().expect("checked when recorded");
    let [d, h, w] = large.extent.map(|extent| extent as i32);
    let (x, y) = (cx.input(0).address, cx.output(0).address);
    let arguments = MaxPoolArguments { x, y, n: large.n as i32, d, h, w, c: large.c as i32, unused: 0 };
    cx.launch_over(&FORWARD, cx.output(0).spec.shape.elements(), &arguments)
}

pub(super) fn backward(cx: &mut Lower<'_>) -> Result<()> {
    cx.fp32_only()?;
    let large = cx.input(0).spec.shape.volume().expect("checked when recorded");
    let [d, h, w] = large.extent.map(|extent| extent as i32);
    let (x, dy, dx) = (cx.input(0).address, cx.input(1).address, cx.output(0).address);
    let arguments = MaxPoolBackwardArguments { x, dy, dx, n: large.n as i32, d, h, w, c: large.c as i32, unused: 0 };
    // Blocks that an odd extent cuts off are blocks too: their gradient is zero.
    let blocks = large.n * large.extent.iter().map(|extent| extent.div_ceil(2)).product::<usize>();
    cx.launch_over(&BACKWARD, blocks * large.c, &arguments)
}
