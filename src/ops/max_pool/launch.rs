//! On a GPU: a thread per element of the result, or per block of the input.

use crate::{
    Result,
    machine::{KernelAbi, arguments, lower::Lower},
    ops::{
        by_type::{ByType, by_type, run, runs},
        sources::Load,
    },
};

static FORWARD: ByType<MaxPoolArguments> = by_type!("max_pool", "max_pool", 256);
static BACKWARD: ByType<MaxPoolBackwardArguments> = by_type!("max_pool", "max_pool_backward", 256);

arguments!(MaxPoolArguments {
    x: u64,
    scale: u64,
    shift: u64,
    y: u64,
    n: i32,
    d: i32,
    h: i32,
    w: i32,
    c: i32,
    unused: i32,
});
arguments!(MaxPoolBackwardArguments {
    x: u64,
    scale: u64,
    shift: u64,
    dy: u64,
    addend: u64,
    dx: u64,
    n: i32,
    d: i32,
    h: i32,
    w: i32,
    c: i32,
    unused: i32,
});

pub(in crate::ops) fn kernels() -> Vec<KernelAbi> {
    FORWARD.abi().into_iter().chain(BACKWARD.abi()).collect()
}

pub(super) fn forward(cx: &mut Lower<'_>) -> Result<()> {
    fused_forward(cx, Load::Plain)
}

/// Operands `[x, (scale, shift)]`, result `[y]`.
pub(in crate::ops) fn fused_forward(cx: &mut Lower<'_>, load: Load) -> Result<()> {
    let (x, y) = (cx.input(0), cx.output(0));
    let large = x.spec.shape.volume().expect("checked when recorded");
    let [d, h, w] = large.extent.map(|extent| extent as i32);
    let [scale, shift] = scale_and_shift(cx, load);
    let (n, c) = (large.n as i32, large.c as i32);
    let arguments = MaxPoolArguments { x: x.address, scale, shift, y: y.address, n, d, h, w, c, unused: 0 };
    cx.launch_over(FORWARD.of(y), runs(y, large.c), &arguments)
}

pub(super) fn backward(cx: &mut Lower<'_>) -> Result<()> {
    fused_backward(cx, Load::Plain, false)
}

/// Operands `[x, (scale, shift), dy, (addend)]`, result `[dx]`.
pub(in crate::ops) fn fused_backward(cx: &mut Lower<'_>, load: Load, accumulate: bool) -> Result<()> {
    let (x, dy) = (cx.input(0), load.operands());
    let large = x.spec.shape.volume().expect("checked when recorded");
    let [d, h, w] = large.extent.map(|extent| extent as i32);
    let [scale, shift] = scale_and_shift(cx, load);
    let arguments = MaxPoolBackwardArguments {
        x: x.address,
        scale,
        shift,
        dy: cx.input(dy).address,
        addend: if accumulate { cx.input(dy + 1).address } else { 0 },
        dx: cx.output(0).address,
        n: large.n as i32,
        d,
        h,
        w,
        c: large.c as i32,
        unused: 0,
    };
    // Blocks that an odd extent cuts off are blocks too: their gradient is zero.
    let blocks = large.n * large.extent.iter().map(|extent| extent.div_ceil(2)).product::<usize>();
    let runs_of_a_voxel = if large.c.is_multiple_of(run(x)) { large.c / run(x) } else { large.c };
    cx.launch_over(BACKWARD.of(x), blocks * runs_of_a_voxel, &arguments)
}

/// Addresses of the vectors behind the first operand, or zeros.
fn scale_and_shift(cx: &Lower<'_>, load: Load) -> [u64; 2] {
    match load {
        Load::Plain => [0; 2],
        Load::Normalised => [1, 2].map(|index| cx.input(index).address),
    }
}
