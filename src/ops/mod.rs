//! The operations, one folder each: shapes, memory, cost and derivative in `mod.rs`; the definition as plain loops in
//! `reference.rs`; the CPU implementation in `cpu.rs`; shapes worth testing in `cases.rs`.
//!
//! Adding an operation is a folder and a line in [`catalogue`]: tests iterate the catalogue.

pub mod activation;
pub mod augment;
pub mod batch_norm;
pub mod batch_norm_fused;
mod by_type;
pub mod case;
pub mod concat;
pub mod conv3d;
pub mod conv3d_fused;
pub mod conv_transpose3d;
pub mod conv_transpose3d_fused;
pub mod copy;
pub mod dice;
pub mod dropout;
pub mod elementwise;
pub mod max_pool;
pub mod max_pool_fused;
pub mod non_finite;
pub mod optimizer;
mod products;
pub mod relu;
mod slices;
pub mod sources;
mod tensor_core;
pub mod upsample;

use case::Case;

use crate::{
    machine::KernelAbi,
    tensor::{DType, Spec, Volume},
};

/// Every case of every operation: in fp32, and in mixed precision with either 16-bit type.
pub fn catalogue() -> Vec<Case> {
    let mut list = fp32_cases();
    for dtype in [DType::Bf16, DType::F16] {
        let narrowed: Vec<Case> = fp32_cases().iter().filter_map(|case| case.narrowed(dtype)).collect();
        list.extend(narrowed);
    }
    list
}

fn fp32_cases() -> Vec<Case> {
    [
        conv3d::cases(),
        conv_transpose3d::cases(),
        upsample::cases(),
        max_pool::cases(),
        batch_norm::cases(),
        dropout::cases(),
        relu::cases(),
        concat::cases(),
        copy::cases(),
        activation::cases(),
        dice::cases(),
        elementwise::cases(),
        non_finite::cases(),
        optimizer::cases(),
        conv3d_fused::cases(),
        conv_transpose3d_fused::cases(),
        batch_norm_fused::cases(),
        max_pool_fused::cases(),
        augment::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Every GPU kernel that the operations start, as the compiled code must declare it.
pub fn kernels() -> Vec<KernelAbi> {
    [
        conv3d::launch::kernels(),
        conv_transpose3d::launch::kernels(),
        upsample::launch::kernels(),
        max_pool::launch::kernels(),
        batch_norm::launch::kernels(),
        dropout::launch::kernels(),
        relu::launch::kernels(),
        concat::launch::kernels(),
        copy::launch::kernels(),
        activation::launch::kernels(),
        dice::launch::kernels(),
        elementwise::launch::kernels(),
        non_finite::launch::kernels(),
        optimizer::launch::kernels(),
        augment::launch::kernels(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The operand as activations in fp32, bf16 or fp16, or a sentence that says what it is instead.
pub(crate) fn activation(spec: &Spec, what: &str) -> Result<Volume, String> {
    if !spec.dtype.is_float() {
        return Err(format!("{what} is {}, expected fp32, bf16 or fp16", spec.dtype));
    }
    spec.shape.volume().ok_or_else(|| format!("{what} has extents {}, expected [N, D, H, W, C]", spec.shape))
}

/// Checks that an operand has the element type of the activations that it meets.
pub(crate) fn same_type(activation: &Spec, other: &Spec, what: &str) -> Result<(), String> {
    if other.dtype == activation.dtype {
        return Ok(());
    }
    Err(format!("{what} is {}, expected {}", other.dtype, activation.dtype))
}

/// Checks a vector operand of `length` fp32 elements.
pub(crate) fn vector(spec: &Spec, length: usize, what: &str) -> Result<(), String> {
    if *spec == Spec::f32_vector(length) {
        return Ok(());
    }
    Err(format!("{what} is {spec}, expected {length} fp32 elements"))
}

/// Checks the number of operands.
pub(crate) fn operands<const N: usize>(inputs: &[Spec]) -> Result<[Spec; N], String> {
    inputs.try_into().map_err(|_| format!("{} operands, expected {N}", inputs.len()))
}
