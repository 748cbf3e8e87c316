//! 3-D convolutions with what stands around them in the network: a concatenation and batch norms in front, bias, ReLU and the
//! next batch norm's statistics behind, and the same in the gradients.
//!
//! By definition each is the composition of plain operations, and the reference computes it so:
//!
//! - fprop: `x = [first * scale + shift, second * scale + shift]` side by side, `y = relu(conv3d(x) + bias)`, and the mean and
//!   the biased variance of `y` per channel over N D H W;
//! - wgrad: the gradients of filter and bias from that same `x` and from `dy`, which counts as zero where the ReLU's result
//!   `y` is not positive;
//! - dgrad: the gradient of `x` from `dy` masked alike, as one tensor for each source. The gradient of a normalised source is
//!   that of the *normalised* tensor: it is batch norm's backward pass that takes it further.

mod cases;
mod cpu;
mod launch;
mod reference;

use std::sync::Arc;

pub use cases::cases;

use super::{
    batch_norm_fused,
    conv3d::{Conv3d, Conv3dDgrad, Conv3dWgrad},
    sources::Sources,
};
use crate::{
    Result,
    cpu::CpuCall,
    graph::{
        Op, ValueId,
        reference::{Dense, Precision, Products},
    },
    machine::lower::Lower,
    reference_by_definition,
    tensor::{Spec, Volume},
};

/// Operands `[sources..., filter, bias]`, results `[y]` or `[y, mean, variance]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FusedConv3d {
    /// Extents of the filter along D, H, W.
    pub kernel: [usize; 3],
    /// What is read.
    pub sources: Sources,
    /// Whether the result is clamped at zero from below.
    pub relu: bool,
    /// Whether mean and biased variance of the result, per channel, are results too.
    pub statistics: bool,
}

/// Gradients by filter and bias: operands `[sources..., dy]` or `[sources..., dy, y]`, results `[dfilter, dbias]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FusedConv3dWgrad {
    /// Extents of the filter along D, H, W.
    pub kernel: [usize; 3],
    /// What the convolution read.
    pub sources: Sources,
    /// Whether `dy` is the gradient behind the ReLU whose result is `y`.
    pub relu: bool,
}

/// Gradient by the sources: operands `[dy, filter]` or `[dy, y, filter]`, results `[dx]` or, for two sources, `[da, db]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FusedConv3dDgrad {
    /// Extents of the filter along D, H, W.
    pub kernel: [usize; 3],
    /// Channels of the first of two sources; none: there is one.
    pub first: Option<usize>,
    /// Whether `dy` is the gradient behind the ReLU whose result is `y`.
    pub relu: bool,
}

fn volume(spec: &Spec) -> Volume {
    spec.shape.volume().expect("checked when the operation was recorded")
}

impl FusedConv3d {
    fn plain(&self) -> Conv3d {
        Conv3d { kernel: self.kernel, relu: self.relu }
    }

    /// The operands of the plain convolution.
    fn plain_operands(&self, inputs: &[Spec]) -> [Spec; 3] {
        let (x, rest) = self.sources.joined(inputs);
        [x, rest[0], rest[1]]
    }
}

impl FusedConv3dWgrad {
    fn plain(&self) -> Conv3dWgrad {
        Conv3dWgrad { kernel: self.kernel }
    }

    /// The operands of the plain gradient.
    fn plain_operands(&self, inputs: &[Spec]) -> [Spec; 2] {
        let (x, rest) = self.sources.joined(inputs);
        [x, rest[0]]
    }
}

impl FusedConv3dDgrad {
    fn plain(&self) -> Conv3dDgrad {
        Conv3dDgrad { kernel: self.kernel }
    }

    /// The operand that is the filter.
    fn filter(&self) -> usize {
        1 + usize::from(self.relu)
    }

    /// The gradient of all sources side by side.
    fn joined(&self, outputs: &[Spec]) -> Spec {
        let channels = outputs.iter().map(|output| volume(output).c).sum();
        Spec::new(volume(&outputs[0]).with_channels(channels).shape(), outputs[0].dtype)
    }
}

/// Checks a gradient against the result of the ReLU that it has yet to pass.
fn check_mask(dy: &Spec, y: &Spec) -> Result<(), String> {
    if y != dy {
        return Err(format!("gradient {dy} and activation {y} differ"));
    }
    Ok(())
}

impl Op for FusedConv3d {
    fn kind(&self) -> &'static str {
        "conv3d.fused.fprop"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>, String> {
        let (x, rest) = self.sources.check(inputs)?;
        let operands: Vec<Spec> = [x].iter().chain(rest).copied().collect();
        let mut outputs = self.plain().infer(&operands)?;
        if self.statistics {
            outputs.extend([Spec::f32_vector(volume(&outputs[0]).c); 2]);
        }
        Ok(outputs)
    }

    /// Without the statistics, which are kept: the result does not depend on whether they are taken.
    fn again(&self, inputs: &[ValueId], _outputs: &[ValueId]) -> Option<(Arc<dyn Op>, Vec<ValueId>)> {
        Some((Arc::new(Self { statistics: false, ..*self }), inputs.to_vec()))
    }

    fn flops(&self, inputs: &[Spec], outputs: &[Spec]) -> u64 {
        self.plain().flops(&self.plain_operands(inputs), &outputs[..1])
    }

    fn cpu_workspace(&self, inputs: &[Spec], outputs: &[Spec], threads: usize) -> usize {
        let convolution = self.plain().cpu_workspace(&self.plain_operands(inputs), &outputs[..1], threads);
        if self.statistics { batch_norm_fused::statistics_workspace(&outputs[0], convolution) } else { convolution }
    }

    reference_by_definition!();

    fn reference_on(
        &self,
        products: Products,
        inputs: &[Dense<f32>],
        _specs: &[Spec],
        outputs: &[Spec],
    ) -> Vec<Dense<f32>> {
        self.reference_by(|op, inputs, outputs| products.call(op, inputs, outputs), inputs, outputs)
    }

    fn run_cpu(&self, call: &CpuCall<'_>) {
        cpu::fprop(self, call);
    }

    fn launches(&self, cx: &mut Lower<'_>) -> Result<()> {
        launch::fprop(self, cx)
    }
}

impl Op for FusedConv3dWgrad {
    fn kind(&self) -> &'static str {
        "conv3d.fused.wgrad"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>, String> {
        let (x, rest) = self.sources.check(inputs)?;
        let dy = match (self.relu, rest) {
            (false, [dy]) => dy,
            (true, [dy, y]) => {
                check_mask(dy, y)?;
                dy
            }
            _ => return Err(format!("{} operands behind the sources", rest.len())),
        };
        self.plain().infer(&[x, *dy])
    }

    fn flops(&self, inputs: &[Spec], outputs: &[Spec]) -> u64 {
        self.plain().flops(&self.plain_operands(inputs), outputs)
    }

    fn cpu_workspace(&self, inputs: &[Spec], outputs: &[Spec], threads: usize) -> usize {
        self.plain().cpu_workspace(&self.plain_operands(inputs), outputs, threads)
    }

    reference_by_definition!();

    fn reference32_of(&self, inputs: &[Dense<f32>], specs: &[Spec], outputs: &[Spec]) -> Vec<Dense<f32>> {
        self.reference_of(<f32 as Precision>::call, inputs, specs[0].dtype, outputs)
    }

    fn reference_on(
        &self,
        products: Products,
        inputs: &[Dense<f32>],
        _specs: &[Spec],
        outputs: &[Spec],
    ) -> Vec<Dense<f32>> {
        let call = |op: &dyn Op, inputs: &[Dense<f32>], outputs: &[Spec]| products.call(op, inputs, outputs);
        self.reference_of(call, inputs, products.dtype, outputs)
    }

    fn run_cpu(&self, call: &CpuCall<'_>) {
        cpu::wgrad(self, call);
    }

    fn launches(&self, cx: &mut Lower<'_>) -> Result<()> {
        launch::wgrad(self, cx)
    }
}

impl Op for FusedConv3dDgrad {
    fn kind(&self) -> &'static str {
        "conv3d.fused.dgrad"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>, String> {
        let (dy, filter) = match (self.relu, inputs) {
            (false, [dy, filter]) => (dy, filter),
            (true, [dy, y, filter]) => {
                check_mask(dy, y)?;
                (dy, filter)
            }
            _ => return Err(format!("{} operands, expected {}", inputs.len(), 1 + self.filter())),
        };
        let dx = self.plain().infer(&[*dy, *filter])?[0];
        let Some(first) = self.first else { return Ok(vec![dx]) };
        let joined = volume(&dx);
        if first == 0 || first >= joined.c {
            return Err(format!("{} channels cannot be split at {first}", joined.c));
        }
        let part = |channels| Spec::new(joined.with_channels(channels).shape(), dx.dtype);
        Ok(vec![part(first), part(joined.c - first)])
    }

    fn flops(&self, inputs: &[Spec], outputs: &[Spec]) -> u64 {
        self.plain().flops(&[inputs[0], inputs[self.filter()]], &[self.joined(outputs)])
    }

    fn cpu_workspace(&self, inputs: &[Spec], outputs: &[Spec], threads: usize) -> usize {
        cpu::dgrad_workspace(self, &inputs[0], outputs, threads)
    }

    reference_by_definition!();

    fn reference_on(
        &self,
        products: Products,
        inputs: &[Dense<f32>],
        _specs: &[Spec],
        outputs: &[Spec],
    ) -> Vec<Dense<f32>> {
        self.reference_by(|op, inputs, outputs| products.call(op, inputs, outputs), inputs, outputs)
    }

    fn run_cpu(&self, call: &CpuCall<'_>) {
        cpu::dgrad(self, call);
    }

    fn launches(&self, cx: &mut Lower<'_>) -> Result<()> {
        launch::dgrad(self, cx)
    }
}
