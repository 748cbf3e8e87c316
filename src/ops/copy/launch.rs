//! On a GPU: threads stride over vectors of four elements.

use crate::{
    Result,
    machine::{Kernel, KernelAbi, arguments, lower::Lower},
};

const COPY: Kernel<CopyArguments> = Kernel::new("copy", "copy", 256);

/// Elements that a thread moves at once.
const VECTOR: usize = 4;

arguments!(CopyArguments { x: u64, y: u64, count: i64 });

pub(in crate::ops) fn kernels() -> Vec<KernelAbi> {
    vec![COPY.abi()]
}

pub(super) fn copy(cx: &mut Lower<'_>) -> Result<()> {
    let (x, y) = (cx.input(0), cx.output(0));
    let count = y.spec.shape.elements();
    let arguments = CopyArguments { x: x.address, y: y.address, count: count as i64 };
    cx.launch_over(&COPY, count.div_ceil(VECTOR), &arguments)
}
