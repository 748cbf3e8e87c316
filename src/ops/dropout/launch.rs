//! On a GPU: a thread for four neighbouring elements, which share a Philox call.

use super::Dropout;
use crate::{
    Result,
    machine::{KernelAbi, arguments, lower::Lower},
    ops::by_type::{ByType, by_type, run},
};

static KERNEL: ByType<DropoutArguments> = by_type!("dropout", "dropout", 256);

arguments!(DropoutArguments { x: u64, rng: u64, y: u64, count: i64, layer: u32, rate: f32, scale: f32, unused: i32 });

pub(in crate::ops) fn kernels() -> Vec<KernelAbi> {
    KERNEL.abi().into()
}

pub(super) fn lower(op: &Dropout, cx: &mut Lower<'_>) -> Result<()> {
    let count = cx.output(0).spec.shape.elements();
    let arguments = DropoutArguments {
        x: cx.input(0).address,
        rng: cx.input(1).address,
        y: cx.output(0).address,
        count: count as i64,
        layer: op.layer,
        rate: op.rate,
        scale: 1.0 / (1.0 - op.rate),
        unused: 0,
    };
    let x = cx.input(0);
    cx.launch_over(KERNEL.of(x), count.div_ceil(run(x)), &arguments)
}
