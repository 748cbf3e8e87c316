//! On a GPU: a thread for four neighbouring elements, which share a Philox call.

use super::Dropout;
use crate::{
    Result,
    machine::{Kernel, KernelAbi, arguments, lower::Lower},
};

const KERNEL: Kernel<DropoutArguments> = Kernel::new("dropout", "dropout", 256);

arguments!(DropoutArguments { x: u64, rng: u64, y: u64, count: i64, layer: u32, rate: f32, scale: f32, unused: i32 });

pub(in crate::ops) fn kernels() -> Vec<KernelAbi> {
    vec![KERNEL.abi()]
}

pub(super) fn lower(op: &Dropout, cx: &mut Lower<'_>) -> Result<()> {
    cx.fp32_only()?;
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
    cx.launch_over(&KERNEL, count.div_ceil(4), &arguments)
}
