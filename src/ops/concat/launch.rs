//! On a GPU: a thread per element of the joined tensor.

use crate::{
    Result,
    machine::{
        Kernel, KernelAbi, arguments,
        lower::{Lower, Operand},
    },
};

const JOIN: Kernel<ConcatArguments> = Kernel::new("concat", "concat_join", 256);
const SPLIT: Kernel<ConcatArguments> = Kernel::new("concat", "concat_split", 256);

arguments!(ConcatArguments { a: u64, b: u64, y: u64, voxels: i64, first: i32, second: i32 });

pub(in crate::ops) fn kernels() -> Vec<KernelAbi> {
    vec![JOIN.abi(), SPLIT.abi()]
}

pub(super) fn join(cx: &mut Lower<'_>) -> Result<()> {
    cx.fp32_only()?;
    lower(cx, &JOIN, [cx.input(0), cx.input(1), cx.output(0)])
}

pub(super) fn split(cx: &mut Lower<'_>) -> Result<()> {
    cx.fp32_only()?;
    lower(cx, &SPLIT, [cx.output(0), cx.output(1), cx.input(0)])
}

/// `parts` are the two parts and the whole.
fn lower(cx: &mut Lower<'_>, kernel: &Kernel<ConcatArguments>, parts: [Operand; 3]) -> Result<()> {
    let [a, b, y] = parts.map(|part| part.spec.shape.volume().expect("checked when recorded"));
    let [a_address, b_address, y_address] = parts.map(|part| part.address);
    let arguments = ConcatArguments {
        a: a_address,
        b: b_address,
        y: y_address,
        voxels: y.voxels() as i64,
        first: a.c as i32,
        second: b.c as i32,
    };
    cx.launch_over(kernel, y.voxels() * y.c, &arguments)
}
