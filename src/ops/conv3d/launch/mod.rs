//! On a GPU: fp32 on the ordinary units, bf16 and fp16 on tensor cores.

mod fp32;
mod tensor;

pub(in crate::ops) use fp32::cube;
pub(in crate::ops) use tensor::Kernels;

use super::{Conv3d, Conv3dDgrad, Conv3dWgrad};
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

pub(super) fn fprop(op: &Conv3d, cx: &mut Lower<'_>) -> Result<()> {
    match narrow(cx.input(0).spec.dtype) {
        Some(kernels) => kernels.fprop(op, cx),
        None => fp32::fprop(op, cx),
    }
}

pub(super) fn dgrad(op: &Conv3dDgrad, cx: &mut Lower<'_>) -> Result<()> {
    match narrow(cx.input(0).spec.dtype) {
        Some(kernels) => kernels.dgrad(op, cx),
        None => fp32::dgrad(op, cx),
    }
}

pub(super) fn wgrad(op: &Conv3dWgrad, cx: &mut Lower<'_>) -> Result<()> {
    match narrow(cx.input(0).spec.dtype) {
        Some(kernels) => kernels.wgrad(op, cx),
        None => fp32::wgrad(op, cx),
    }
}
