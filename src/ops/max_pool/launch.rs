//! On a GPU: a thread per element of the result, or per block of the input.

use crate::{
    Result,
    machine::{KernelAbi, arguments, lower::Lower},
    ops::by_type::{ByType, by_type, run, runs},
};

static FORWARD: ByType<MaxPoolArguments> = by_type!("max_pool", "max_pool", 256);
static BACKWARD: ByType<MaxPoolBackwardArguments> = by_type!("max_pool", "max_pool_backward", 256);

arguments!(MaxPoolArguments { x: u64, y: u64, n: i32, d: i32, h: i32, w: i32, c: i32, unused: i32 });
arguments!(MaxPoolBackwardArguments { x: u64, dy: u64, dx: u64, n: i32, d: i32, h: i32, w: i32, c: i32, unused: i32 });

pub(in crate::ops) fn kernels() -> Vec<KernelAbi> {
    FORWARD.abi().into_iter().chain(BACKWARD.abi()).collect()
}

pub(super) fn forward(cx: &mut Lower<'_>) -> Result<()> {
    let large = cx.input(0).spec.shape.volume().expect("checked when recorded");
    let [d, h, w] = large.extent.map(|extent| extent as i32);
    let (x, y) = (cx.input(0).address, cx.output(0).address);
    let arguments = MaxPoolArguments { x, y, n: large.n as i32, d, h, w, c: large.c as i32, unused: 0 };
    let y = cx.output(0);
    cx.launch_over(FORWARD.of(y), runs(y, large.c), &arguments)
}

pub(super) fn backward(cx: &mut Lower<'_>) -> Result<()> {
    let large = cx.input(0).spec.shape.volume().expect("checked when recorded");
    let [d, h, w] = large.extent.map(|extent| extent as i32);
    let (x, dy, dx) = (cx.input(0).address, cx.input(1).address, cx.output(0).address);
    let arguments = MaxPoolBackwardArguments { x, dy, dx, n: large.n as i32, d, h, w, c: large.c as i32, unused: 0 };
    // Blocks that an odd extent cuts off are blocks too: their gradient is zero.
    let blocks = large.n * large.extent.iter().map(|extent| extent.div_ceil(2)).product::<usize>();
    let x = cx.input(0);
    let runs_of_a_voxel = if large.c.is_multiple_of(run(x)) { large.c / run(x) } else { large.c };
    cx.launch_over(BACKWARD.of(x), blocks * runs_of_a_voxel, &arguments)
}
