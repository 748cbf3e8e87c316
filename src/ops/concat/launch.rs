//! On a GPU: a thread per element of the joined tensor.

use crate::{
    Result,
    machine::{
        Kernel, KernelAbi, arguments,
        lower::{Lower, Operand},
    },
    ops::by_type::run,
};

/// For elements of four bytes, and of two: they are moved, not looked at.
const JOIN: [Kernel<ConcatArguments>; 2] =
    [Kernel::new("concat", "concat_join", 256), Kernel::new("concat", "concat_join_16", 256)];
const SPLIT: [Kernel<ConcatArguments>; 2] =
    [Kernel::new("concat", "concat_split", 256), Kernel::new("concat", "concat_split_16", 256)];

arguments!(ConcatArguments { a: u64, b: u64, y: u64, voxels: i64, first: i32, second: i32 });

pub(in crate::ops) fn kernels() -> Vec<KernelAbi> {
    JOIN.into_iter().chain(SPLIT).map(|kernel| kernel.abi()).collect()
}

pub(super) fn join(cx: &mut Lower<'_>) -> Result<()> {
    lower(cx, &JOIN, [cx.input(0), cx.input(1), cx.output(0)])
}

pub(super) fn split(cx: &mut Lower<'_>) -> Result<()> {
    lower(cx, &SPLIT, [cx.output(0), cx.output(1), cx.input(0)])
}

/// `parts` are the two parts and the whole.
fn lower(cx: &mut Lower<'_>, kernels: &[Kernel<ConcatArguments>; 2], parts: [Operand; 3]) -> Result<()> {
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
    let joined = parts[2];
    let kernel = &kernels[usize::from(joined.spec.dtype.bytes() == 2)];
    let is_whole = a.c.is_multiple_of(run(joined)) && b.c.is_multiple_of(run(joined));
    let items = if is_whole { y.voxels() * y.c / run(joined) } else { y.voxels() * y.c };
    cx.launch_over(kernel, items, &arguments)
}
