//! On a GPU: bf16 and fp16 on tensor cores, whose tiles are normalised in shared memory. fp32 has no fused kernels: the pass
//! that fuses leaves it as it is.

use super::{FusedConvTranspose3d, FusedConvTranspose3dWgrad};
use crate::{
    Error, Result,
    machine::lower::Lower,
    ops::conv_transpose3d::launch::{Kernels, narrow},
};

fn kernels(cx: &Lower<'_>) -> Result<&'static Kernels> {
    let dtype = cx.input(0).spec.dtype;
    narrow(dtype)
        .ok_or_else(|| Error::shape(cx.name(), format!("no fused GPU kernel in {dtype}; use the separate operations")))
}

pub(super) fn fprop(op: &FusedConvTranspose3d, cx: &mut Lower<'_>) -> Result<()> {
    kernels(cx)?.fused_fprop(cx, op.load, op.statistics)
}

pub(super) fn wgrad(op: &FusedConvTranspose3dWgrad, cx: &mut Lower<'_>) -> Result<()> {
    kernels(cx)?.fused_wgrad(cx, op.load)
}
