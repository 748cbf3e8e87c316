//! Probabilities from logits, for prediction: fp32, whatever the logits are. Training fuses them into the loss ([`super::dice`]).

mod cases;
mod cpu;
pub(super) mod launch;
mod reference;

pub use cases::cases;
pub(super) use cpu::{sigmoid, softmax};
pub(super) use reference::{sigmoid as sigmoid_reference, softmax as softmax_reference};

use super::{activation, operands};
use crate::{Result, cpu::CpuCall, graph::Op, machine::lower::Lower, reference_by_definition, tensor::Spec};

/// Softmax over the channels: operand `[logits]`, result `[probabilities]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Softmax;

/// Logistic function: operand `[logits]`, result `[probabilities]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sigmoid;

impl Op for Softmax {
    fn kind(&self) -> &'static str {
        "softmax"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>, String> {
        let [x] = operands(inputs)?;
        activation(&x, "the logits")?;
        Ok(vec![Spec::f32(x.shape)])
    }

    fn in_place(&self) -> Vec<(usize, usize)> {
        vec![(0, 0)]
    }

    reference_by_definition!();

    fn run_cpu(&self, call: &CpuCall<'_>) {
        cpu::softmax_all(call);
    }

    fn launches(&self, cx: &mut Lower<'_>) -> Result<()> {
        launch::softmax(cx)
    }
}

impl Op for Sigmoid {
    fn kind(&self) -> &'static str {
        "sigmoid"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>, String> {
        let [x] = operands(inputs)?;
        activation(&x, "the logits")?;
        Ok(vec![Spec::f32(x.shape)])
    }

    fn in_place(&self) -> Vec<(usize, usize)> {
        vec![(0, 0)]
    }

    reference_by_definition!();

    fn run_cpu(&self, call: &CpuCall<'_>) {
        cpu::sigmoid_all(call);
    }

    fn launches(&self, cx: &mut Lower<'_>) -> Result<()> {
        launch::sigmoid(cx)
    }
}
