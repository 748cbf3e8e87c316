//! Sums and conversions of whole tensors.

mod cases;
mod cpu;
pub(super) mod launch;
mod reference;

pub use cases::cases;

use super::operands;
use crate::{
    Result,
    cpu::CpuCall,
    graph::{Backward, Op},
    machine::lower::Lower,
    reference_by_definition,
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
///
/// Mixed precision is recorded with it: images and filters are cast where they enter. Rounding has no derivative; the
/// gradient passes as it is, in fp32 where it already came in fp32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cast {
    /// Type of the result.
    pub to: DType,
}

fn two_alike(inputs: &[Spec]) -> Result<Vec<Spec>, String> {
    let [a, b] = operands(inputs)?;
    if a != b || !a.dtype.is_float() {
        return Err(format!("operands {a} and {b}, expected two alike in fp32, bf16 or fp16"));
    }
    Ok(vec![a])
}

impl Op for Add {
    fn kind(&self) -> &'static str {
        "add"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>, String> {
        two_alike(inputs)
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
        two_alike(inputs)
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

    fn backward(&self, cx: &mut Backward<'_>) -> Result<()> {
        let Some(dy) = cx.gradient(0) else { return Ok(()) };
        let to = cx.spec(cx.input(0)).dtype;
        let is_there = cx.spec(dy).dtype == to;
        let dx = if is_there { dy } else { cx.record1("backward", Self { to }, &[dy])? };
        cx.set(0, dx);
        Ok(())
    }

    reference_by_definition!();

    fn run_cpu(&self, call: &CpuCall<'_>) {
        cpu::cast(call);
    }

    fn launches(&self, cx: &mut Lower<'_>) -> Result<()> {
        launch::cast(cx)
    }
}
