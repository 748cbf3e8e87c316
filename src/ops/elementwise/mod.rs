//! Sums and conversions of whole tensors.

mod cases;
mod cpu;
pub(super) mod launch;
mod reference;

pub use cases::cases;

use super::operands;
use crate::{
    Result,
    graph::Op,
    machine::lower::Lower,
    reference_by_definition,
    session::CpuCall,
    tensor::{DType, Spec},
};

/// Sum of two tensors: operands `[a, b]`, result `[y]`. Adds the gradients of a value that has several readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Add;

/// `y = a + alpha * b`: operands `[a, b]`, result `[y]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Axpy {
    /// Factor of the second operand.
    pub alpha: f32,
}

/// The same numbers in another floating-point type, rounded to nearest even: operand `[x]`, result `[y]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cast {
    /// Type of the result.
    pub to: DType,
}

fn same_fp32(inputs: &[Spec]) -> Result<Vec<Spec>, String> {
    let [a, b] = operands(inputs)?;
    if a != b || a.dtype != DType::F32 {
        return Err(format!("operands {a} and {b}, expected two alike in fp32"));
    }
    Ok(vec![a])
}

impl Op for Add {
    fn kind(&self) -> &'static str {
        "add"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>, String> {
        same_fp32(inputs)
    }

    fn in_place(&self) -> Vec<(usize, usize)> {
        vec![(0, 0), (1, 0)]
    }

    reference_by_definition!();

    fn run_cpu(&self, call: &CpuCall<'_>) {
        cpu::axpy(1.0, call);
    }

    fn launches(&self, cx: &mut Lower<'_>) -> Result<()> {
        launch::axpy(&Axpy { alpha: 1.0 }, cx)
    }
}

impl Op for Axpy {
    fn kind(&self) -> &'static str {
        "axpy"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>, String> {
        same_fp32(inputs)
    }

    fn in_place(&self) -> Vec<(usize, usize)> {
        vec![(0, 0)]
    }

    reference_by_definition!();

    fn run_cpu(&self, call: &CpuCall<'_>) {
        cpu::axpy(self.alpha, call);
    }

    fn launches(&self, cx: &mut Lower<'_>) -> Result<()> {
        launch::axpy(self, cx)
    }
}

impl Op for Cast {
    fn kind(&self) -> &'static str {
        "cast"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>, String> {
        let [x] = operands(inputs)?;
        match (x.dtype, self.to) {
            (DType::F32, DType::Bf16 | DType::F16) | (DType::Bf16 | DType::F16, DType::F32) => {
                Ok(vec![Spec::new(x.shape, self.to)])
            }
            (from, to) => Err(format!("no conversion from {from} to {to}")),
        }
    }

    reference_by_definition!();

    fn run_cpu(&self, call: &CpuCall<'_>) {
        cpu::cast(call);
    }

    fn launches(&self, cx: &mut Lower<'_>) -> Result<()> {
        launch::cast(cx)
    }
}
