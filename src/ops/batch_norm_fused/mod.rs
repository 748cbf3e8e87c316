//! Batch normalisation taken apart, so that its neighbours can take the parts over:
//!
//! 1. *statistics*: mean and biased variance of `x` per channel. A convolution takes them in its epilogue instead
//!    ([`super::conv3d_fused`]); this operation is for what no convolution made.
//! 2. *finish*: `scale = gamma / sqrt(variance + epsilon)`, `shift = beta - mean * scale`: two numbers per channel. The
//!    same operation serves inference, with the moving averages.
//! 3. *apply*: `x * scale + shift`, done where it is loaded ([`super::sources`]); where a consumer cannot, by
//!    [`super::batch_norm::BatchNormInference`] with the batch's statistics.
//!
//! And its backward pass with what follows it: a second gradient of `x` that is added, and the ReLU that made `x`.

mod cases;
mod cpu;
mod pooled;
mod reference;

pub use cases::cases;
pub use pooled::PooledBatchNormBackward;

use super::{
    activation,
    batch_norm::{BatchNormBackward, launch},
    operands, vector,
};
use crate::{
    Result,
    cpu::{CpuCall, Statistics},
    graph::Op,
    machine::lower::Lower,
    reference_by_definition,
    tensor::{Spec, Volume},
};

/// Operand `[x]`, results `[mean, variance]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchNormStatistics;

/// Operands `[gamma, beta, mean, variance]`, results `[scale, shift]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchNormFinish {
    /// Added to the variance.
    pub epsilon: f64,
}

/// Operands `[x, gamma, mean, variance, dy]` or `[x, gamma, mean, variance, dy, addend]`, results `[dx, dgamma, dbeta]`.
///
/// By definition batch norm's backward pass, then `dx + addend`, then zero where `x` is not positive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FusedBatchNormBackward {
    /// Added to the variance.
    pub epsilon: f64,
    /// Whether another gradient of `x` is added: that of a second reader, such as a skip connection.
    pub accumulate: bool,
    /// Whether `x` is a ReLU's result and `dx` the gradient in front of it.
    pub relu: bool,
}

fn volume(spec: &Spec) -> Volume {
    spec.shape.volume().expect("checked when the operation was recorded")
}

/// Bytes for the statistics of a result beside the workspace of what computes it.
pub(super) fn statistics_workspace(y: &Spec, bytes: usize) -> usize {
    let y = volume(y);
    Statistics::workspace(y.voxels(), y.c, bytes / 4) * 4
}

impl Op for BatchNormStatistics {
    fn kind(&self) -> &'static str {
        "batch_norm.statistics"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>, String> {
        let [x] = operands(inputs)?;
        let x = activation(&x, "the input")?;
        Ok(vec![Spec::f32_vector(x.c); 2])
    }

    fn cpu_workspace(&self, inputs: &[Spec], _outputs: &[Spec], _threads: usize) -> usize {
        cpu::sums_workspace(volume(&inputs[0]))
    }

    reference_by_definition!();

    fn run_cpu(&self, call: &CpuCall<'_>) {
        cpu::statistics(call);
    }

    fn launches(&self, cx: &mut Lower<'_>) -> Result<()> {
        launch::statistics(cx)
    }
}

impl Op for BatchNormFinish {
    fn kind(&self) -> &'static str {
        "batch_norm.finish"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>, String> {
        let [gamma, beta, mean, variance] = operands(inputs)?;
        let channels = gamma.shape.elements();
        for (spec, what) in [(&gamma, "gamma"), (&beta, "beta"), (&mean, "the mean"), (&variance, "the variance")] {
            vector(spec, channels, what)?;
        }
        Ok(vec![gamma; 2])
    }

    reference_by_definition!();

    fn run_cpu(&self, call: &CpuCall<'_>) {
        cpu::finish(self, call);
    }

    fn launches(&self, cx: &mut Lower<'_>) -> Result<()> {
        launch::finish(self.epsilon, cx)
    }
}

impl FusedBatchNormBackward {
    /// The plain backward pass, whose operands are the first five.
    fn plain(&self) -> BatchNormBackward {
        BatchNormBackward { epsilon: self.epsilon }
    }
}

impl Op for FusedBatchNormBackward {
    fn kind(&self) -> &'static str {
        "batch_norm.fused.backward"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>, String> {
        let plain = match (self.accumulate, inputs) {
            (false, plain) => plain,
            (true, [plain @ .., addend]) if plain.first() == Some(addend) => plain,
            (true, _) => return Err("the other gradient and the input differ".to_owned()),
        };
        self.plain().infer(plain)
    }

    fn in_place(&self) -> Vec<(usize, usize)> {
        if self.accumulate { vec![(4, 0), (5, 0)] } else { vec![(4, 0)] }
    }

    fn cpu_workspace(&self, inputs: &[Spec], outputs: &[Spec], threads: usize) -> usize {
        self.plain().cpu_workspace(&inputs[..5], outputs, threads)
    }

    reference_by_definition!();

    fn run_cpu(&self, call: &CpuCall<'_>) {
        cpu::backward(self, call);
    }

    fn launches(&self, cx: &mut Lower<'_>) -> Result<()> {
        launch::fused_backward(self.epsilon, self.accumulate, self.relu, cx)
    }
}
