//! On a GPU: fp32 on the ordinary units, bf16 and fp16 on tensor cores.

mod fp32;
mod tensor;

pub(in crate::ops) use tensor::Kernels;

use crate::{
    Result,
    machine::{KernelAbi, lower::Lower},
    tensor::DType,
};

pub(in crate::ops) fn kernels() -> Vec<KernelAbi> {
    fp32::kernels().into_iter().chain(tensor::kernels()).collect()
}

/// The tensor-core kernels for an element type; none for fp32.
pub(in crate::ops) fn narrow(dtype: DType) -> Option<&'static tensor::Kernels> {
    match dtype {
        DType::Bf16 => Some(&tensor::BF16),
        DType::F16 => Some(&tensor::FP16),
        _ => None,
    }
}

pub(super) fn fprop(cx: &mut Lower<'_>) -> Result<()> {
    match narrow(cx.input(0).spec.dtype) {
        Some(kernels) => kernels.fprop(cx),
        None => fp32::fprop(cx),
    }
}

pub(super) fn dgrad(cx: &mut Lower<'_>) -> Result<()> {
    match narrow(cx.input(0).spec.dtype) {
        Some(kernels) => kernels.dgrad(cx),
        None => fp32::dgrad(cx),
    }
}

pub(super) fn wgrad(cx: &mut Lower<'_>) -> Result<()> {
    match narrow(cx.input(0).spec.dtype) {
        Some(kernels) => kernels.wgrad(cx),
        None => fp32::wgrad(cx),
    }
}
