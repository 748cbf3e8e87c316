//! Batch normalisation over N D H W, per channel, as Keras defines it.
//!
//! Training: `y = gamma * (x - mean) / sqrt(variance + epsilon) + beta` with the batch's mean and biased variance.
//! Inference uses the moving averages, which move by `1 - momentum` of the way at each step (the biased variance
//! again, as Keras does and PyTorch does not).

mod cases;
mod cpu;
pub(super) mod launch;
mod reference;

pub use cases::cases;

use std::sync::Arc;

use super::{activation, operands, vector};
use crate::{
    Result,
    cpu::CpuCall,
    graph::{Backward, Op, ValueId},
    machine::lower::Lower,
    reference_by_definition,
    tensor::{Spec, Volume},
};

/// Operands `[x, gamma, beta]`, results `[y, mean, variance]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchNorm {
    /// Added to the variance.
    pub epsilon: f64,
}

/// Operands `[x, gamma, mean, variance, dy]`, results `[dx, dgamma, dbeta]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchNormBackward {
    /// Added to the variance.
    pub epsilon: f64,
}

/// Moves the averages: operands `[running_mean, running_variance, mean, variance]`, results the first two anew.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchNormRunning {
    /// The share of the old average that stays.
    pub momentum: f64,
}

/// Operands `[x, gamma, beta, running_mean, running_variance]`, result `[y]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchNormInference {
    /// Added to the variance.
    pub epsilon: f64,
}

fn volume(spec: &Spec) -> Volume {
    spec.shape.volume().expect("checked when the operation was recorded")
}

impl Op for BatchNorm {
    fn kind(&self) -> &'static str {
        "batch_norm"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>, String> {
        let [x, gamma, beta] = operands(inputs)?;
        let volume = activation(&x, "the input")?;
        vector(&gamma, volume.c, "gamma")?;
        vector(&beta, volume.c, "beta")?;
        Ok(vec![x, gamma, gamma])
    }

    fn backward(&self, cx: &mut Backward<'_>) -> Result<()> {
        let Some(dy) = cx.gradient(0) else { return Ok(()) };
        let operands = [cx.input(0), cx.input(1), cx.output(1), cx.output(2), dy];
        let gradients = cx.record("backward", BatchNormBackward { epsilon: self.epsilon }, &operands)?;
        for (input, gradient) in gradients.into_iter().enumerate() {
            cx.set(input, gradient);
        }
        Ok(())
    }

    /// Applied with the statistics that the node left: by the same function of the same numbers as the first time.
    fn again(&self, inputs: &[ValueId], outputs: &[ValueId]) -> Option<(Arc<dyn Op>, Vec<ValueId>)> {
        let operands = vec![inputs[0], inputs[1], inputs[2], outputs[1], outputs[2]];
        Some((Arc::new(BatchNormInference { epsilon: self.epsilon }), operands))
    }

    fn cpu_workspace(&self, inputs: &[Spec], _outputs: &[Spec], _threads: usize) -> usize {
        cpu::workspace(volume(&inputs[0]))
    }

    reference_by_definition!();

    fn run_cpu(&self, call: &CpuCall<'_>) {
        cpu::train(self, call);
    }

    fn launches(&self, cx: &mut Lower<'_>) -> Result<()> {
        launch::train(self, cx)
    }
}

impl Op for BatchNormBackward {
    fn kind(&self) -> &'static str {
        "batch_norm.backward"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>, String> {
        let [x, gamma, mean, variance, dy] = operands(inputs)?;
        let volume = activation(&x, "the input")?;
        for (spec, what) in [(&gamma, "gamma"), (&mean, "the mean"), (&variance, "the variance")] {
            vector(spec, volume.c, what)?;
        }
        if dy != x {
            return Err(format!("gradient {dy} and input {x} differ"));
        }
        Ok(vec![x, gamma, gamma])
    }

    fn in_place(&self) -> Vec<(usize, usize)> {
        vec![(4, 0)]
    }

    fn cpu_workspace(&self, inputs: &[Spec], _outputs: &[Spec], _threads: usize) -> usize {
        cpu::workspace(volume(&inputs[0]))
    }

    reference_by_definition!();

    fn run_cpu(&self, call: &CpuCall<'_>) {
        cpu::backward(self, call);
    }

    fn launches(&self, cx: &mut Lower<'_>) -> Result<()> {
        launch::backward(self, cx)
    }
}

impl Op for BatchNormRunning {
    fn kind(&self) -> &'static str {
        "batch_norm.running"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>, String> {
        let [running_mean, running_variance, mean, variance] = operands(inputs)?;
        if [running_variance, mean, variance].iter().any(|spec| *spec != running_mean) {
            return Err("the averages differ in extents".to_owned());
        }
        Ok(vec![running_mean, running_variance])
    }

    fn updates(&self, _operands: usize) -> Vec<(usize, usize)> {
        vec![(0, 0), (1, 1)]
    }

    reference_by_definition!();

    fn run_cpu(&self, call: &CpuCall<'_>) {
        cpu::running(self, call);
    }

    fn launches(&self, cx: &mut Lower<'_>) -> Result<()> {
        launch::running(self, cx)
    }
}

impl Op for BatchNormInference {
    fn kind(&self) -> &'static str {
        "batch_norm.inference"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>, String> {
        let [x, gamma, beta, mean, variance] = operands(inputs)?;
        let volume = activation(&x, "the input")?;
        for (spec, what) in
            [(&gamma, "gamma"), (&beta, "beta"), (&mean, "the moving mean"), (&variance, "the moving variance")]
        {
            vector(spec, volume.c, what)?;
        }
        Ok(vec![x])
    }

    fn in_place(&self) -> Vec<(usize, usize)> {
        vec![(0, 0)]
    }

    fn cpu_workspace(&self, inputs: &[Spec], _outputs: &[Spec], _threads: usize) -> usize {
        cpu::workspace(volume(&inputs[0]))
    }

    reference_by_definition!();

    fn run_cpu(&self, call: &CpuCall<'_>) {
        cpu::inference(self, call);
    }

    fn launches(&self, cx: &mut Lower<'_>) -> Result<()> {
        launch::inference(self, cx)
    }
}
