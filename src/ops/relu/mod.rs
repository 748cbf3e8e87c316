//! ReLU: `y = max(x, 0)`. Its gradient passes where y is positive, so only y is kept.

mod cases;
mod cpu;
pub(super) mod launch;
mod reference;

pub use cases::cases;

use super::{activation, operands};
use crate::{
    Result,
    cpu::CpuCall,
    graph::{Backward, Op},
    machine::lower::Lower,
    reference_by_definition,
    tensor::Spec,
};

/// Operand `[x]`, result `[y]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relu;

/// Gradient: operands `[y, dy]`, result `[dx]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReluBackward;

impl Op for Relu {
    fn kind(&self) -> &'static str {
        "relu"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>, String> {
        let [x] = operands(inputs)?;
        activation(&x, "the input")?;
        Ok(vec![x])
    }

    fn backward(&self, cx: &mut Backward<'_>) -> Result<()> {
        if let Some(dy) = cx.gradient(0) {
            let dx = cx.record1("backward", ReluBackward, &[cx.output(0), dy])?;
            cx.set(0, dx);
        }
        Ok(())
    }

    fn in_place(&self) -> Vec<(usize, usize)> {
        vec![(0, 0)]
    }

    reference_by_definition!();

    fn run_cpu(&self, call: &CpuCall<'_>) {
        cpu::forward(call);
    }

    fn launches(&self, cx: &mut Lower<'_>) -> Result<()> {
        launch::forward(cx)
    }
}

impl Op for ReluBackward {
    fn kind(&self) -> &'static str {
        "relu.backward"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>, String> {
        let [y, dy] = operands(inputs)?;
        activation(&y, "the activation")?;
        if y != dy {
            return Err(format!("gradient {dy} and activation {y} differ"));
        }
        Ok(vec![y])
    }

    fn in_place(&self) -> Vec<(usize, usize)> {
        vec![(1, 0)]
    }

    reference_by_definition!();

    fn run_cpu(&self, call: &CpuCall<'_>) {
        cpu::backward(call);
    }

    fn launches(&self, cx: &mut Lower<'_>) -> Result<()> {
        launch::backward(cx)
    }
}
