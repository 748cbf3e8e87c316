//! On a GPU: threads stride over the elements.

use super::Axpy;
use crate::{
    Result,
    machine::{Kernel, KernelAbi, arguments, lower::Lower},
    ops::by_type::{BF16_COMPUTE, ByType, by_type, run},
    tensor::DType,
};

const FAMILY: &str = "elementwise";
static AXPY: ByType<AxpyArguments> = by_type!(FAMILY, "axpy", 256);
const NARROW_BF16: Kernel<CastArguments> = Kernel::new(FAMILY, "cast_f32_bf16", 256).since(BF16_COMPUTE);
const NARROW_F16: Kernel<CastArguments> = Kernel::new(FAMILY, "cast_f32_fp16", 256);
const WIDEN_BF16: Kernel<CastArguments> = Kernel::new(FAMILY, "cast_bf16_f32", 256).since(BF16_COMPUTE);
const WIDEN_F16: Kernel<CastArguments> = Kernel::new(FAMILY, "cast_fp16_f32", 256);

arguments!(AxpyArguments { a: u64, b: u64, y: u64, count: i64, alpha: f32, unused: i32 });
arguments!(CastArguments { x: u64, y: u64, count: i64 });

pub(in crate::ops) fn kernels() -> Vec<KernelAbi> {
    let casts = [NARROW_BF16, NARROW_F16, WIDEN_BF16, WIDEN_F16].map(|kernel| kernel.abi());
    AXPY.abi().into_iter().chain(casts).collect()
}

pub(super) fn axpy(op: &Axpy, cx: &mut Lower<'_>) -> Result<()> {
    let (a, b, y) = (cx.input(0), cx.input(1), cx.output(0));
    let count = y.spec.shape.elements();
    let arguments =
        AxpyArguments { a: a.address, b: b.address, y: y.address, count: count as i64, alpha: op.alpha, unused: 0 };
    cx.launch_over(AXPY.of(y), count.div_ceil(run(y)), &arguments)
}

pub(super) fn cast(cx: &mut Lower<'_>) -> Result<()> {
    let (x, y) = (cx.input(0), cx.output(0));
    let kernel = match (x.spec.dtype, y.spec.dtype) {
        (DType::F32, DType::Bf16) => NARROW_BF16,
        (DType::F32, DType::F16) => NARROW_F16,
        (DType::Bf16, DType::F32) => WIDEN_BF16,
        (DType::F16, DType::F32) => WIDEN_F16,
        (from, to) => unreachable!("a cast from {from} to {to} is refused when it is recorded"),
    };
    let count = y.spec.shape.elements();
    // Sixteen bytes of the wider side at a time.
    cx.launch_over(&kernel, count.div_ceil(4), &CastArguments { x: x.address, y: y.address, count: count as i64 })
}
