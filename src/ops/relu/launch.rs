//! On a GPU: threads stride over the elements.

use crate::{
    Result,
    machine::{KernelAbi, arguments, lower::Lower},
    ops::by_type::{ByType, by_type, run},
};

static FORWARD: ByType<ReluArguments> = by_type!("relu", "relu", 256);
static BACKWARD: ByType<ReluBackwardArguments> = by_type!("relu", "relu_backward", 256);

arguments!(ReluArguments { x: u64, y: u64, count: i64 });
arguments!(ReluBackwardArguments { y: u64, dy: u64, dx: u64, count: i64 });

pub(in crate::ops) fn kernels() -> Vec<KernelAbi> {
    FORWARD.abi().into_iter().chain(BACKWARD.abi()).collect()
}

pub(super) fn forward(cx: &mut Lower<'_>) -> Result<()> {
    let (x, y) = (cx.input(0), cx.output(0));
    let count = y.spec.shape.elements();
    cx.launch_over(
        FORWARD.of(x),
        count.div_ceil(run(x)),
        &ReluArguments { x: x.address, y: y.address, count: count as i64 },
    )
}

pub(super) fn backward(cx: &mut Lower<'_>) -> Result<()> {
    let (y, dy, dx) = (cx.input(0).address, cx.input(1).address, cx.output(0).address);
    let count = cx.output(0).spec.shape.elements();
    let operand = cx.output(0);
    cx.launch_over(
        BACKWARD.of(operand),
        count.div_ceil(run(operand)),
        &ReluBackwardArguments { y, dy, dx, count: count as i64 },
    )
}
