//! The transposed convolution with a batch norm in front, applied while its input is loaded, and the statistics of the next
//! one behind. By definition: `x * scale + shift`, the plain operation, then mean and biased variance of its result.
//!
//! There is no fused gradient by the input: nothing stands between it and batch norm's backward pass.

mod cases;
mod cpu;
mod launch;
mod reference;

use std::sync::Arc;

pub use cases::cases;

use super::{
    batch_norm_fused,
    conv_transpose3d::{ConvTranspose3d, ConvTranspose3dWgrad},
    sources::Load,
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
    tensor::Spec,
};

/// Operands `[x, (scale, shift), filter, bias]`, results `[y]` with doubled extents or `[y, mean, variance]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FusedConvTranspose3d {
    /// How the input is read.
    pub load: Load,
    /// Whether mean and biased variance of the result, per channel, are results too.
    pub statistics: bool,
}

/// Gradients by filter and bias: operands `[x, (scale, shift), dy]`, results `[dfilter, dbias]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FusedConvTranspose3dWgrad {
    /// How the transposed convolution read its input.
    pub load: Load,
}

/// The operands of the plain operation: without scale and shift.
fn plain_operands(load: Load, inputs: &[Spec]) -> Vec<Spec> {
    [inputs[0]].iter().chain(&inputs[load.operands()..]).copied().collect()
}

impl Op for FusedConvTranspose3d {
    fn kind(&self) -> &'static str {
        "conv_transpose3d.fused.fprop"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>, String> {
        self.load.check(inputs, "the input")?;
        let mut outputs = ConvTranspose3d.infer(&plain_operands(self.load, inputs))?;
        if self.statistics {
            let channels = outputs[0].shape.volume().expect("an activation has five axes").c;
            outputs.extend([Spec::f32_vector(channels); 2]);
        }
        Ok(outputs)
    }

    /// Without the statistics, which are kept: the result does not depend on whether they are taken.
    fn again(&self, inputs: &[ValueId], _outputs: &[ValueId]) -> Option<(Arc<dyn Op>, Vec<ValueId>)> {
        Some((Arc::new(Self { statistics: false, ..*self }), inputs.to_vec()))
    }

    fn flops(&self, inputs: &[Spec], outputs: &[Spec]) -> u64 {
        ConvTranspose3d.flops(&plain_operands(self.load, inputs), &outputs[..1])
    }

    fn cpu_workspace(&self, inputs: &[Spec], outputs: &[Spec], threads: usize) -> usize {
        let plain = ConvTranspose3d.cpu_workspace(&plain_operands(self.load, inputs), &outputs[..1], threads);
        if self.statistics { batch_norm_fused::statistics_workspace(&outputs[0], plain) } else { plain }
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

impl Op for FusedConvTranspose3dWgrad {
    fn kind(&self) -> &'static str {
        "conv_transpose3d.fused.wgrad"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>, String> {
        self.load.check(inputs, "the input")?;
        ConvTranspose3dWgrad.infer(&plain_operands(self.load, inputs))
    }

    fn flops(&self, inputs: &[Spec], outputs: &[Spec]) -> u64 {
        ConvTranspose3dWgrad.flops(&plain_operands(self.load, inputs), outputs)
    }

    fn cpu_workspace(&self, inputs: &[Spec], outputs: &[Spec], threads: usize) -> usize {
        ConvTranspose3dWgrad.cpu_workspace(&plain_operands(self.load, inputs), outputs, threads)
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
