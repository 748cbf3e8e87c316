//! Transposed 3-D convolution, kernel 2x2x2, stride 2: doubles the grid, and no two taps meet.
//!
//! `y[n, 2i + t, k] = bias[k] + sum over c of x[n, i, c] * filter[t, c, k]` for taps `t` in {0, 1}^3.

mod cases;
mod cpu;
pub(super) mod launch;
mod reference;

pub use cases::cases;

use super::{activation, operands, same_type, vector};
use crate::{
    Result,
    cpu::{CpuCall, TransposedConvolution},
    graph::{
        Backward, Op,
        reference::{Dense, Products},
    },
    machine::lower::Lower,
    reference_by_definition,
    tensor::{Shape, Spec, Volume},
};

/// Operands `[x, filter, bias]`, result `[y]` with doubled extents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvTranspose3d;

/// Gradient by the input: operands `[dy, filter]`, result `[dx]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvTranspose3dDgrad;

/// Gradients by filter and bias: operands `[x, dy]`, results `[dfilter, dbias]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvTranspose3dWgrad;

/// Extents of a filter: `[2, 2, 2, in, out]`.
pub fn filter_shape(channels_in: usize, channels_out: usize) -> Shape {
    Shape::new(&[2, 2, 2, channels_in, channels_out])
}

fn filter_channels(filter: &Spec) -> Result<(usize, usize), String> {
    match filter.shape.extents() {
        &[2, 2, 2, channels_in, channels_out] => Ok((channels_in, channels_out)),
        _ => Err(format!("the filter has extents {}, expected [2, 2, 2, in, out]", filter.shape)),
    }
}

fn volume(spec: &Spec) -> Volume {
    spec.shape.volume().expect("checked when the operation was recorded")
}

fn problem(x: Volume, channels_out: usize) -> TransposedConvolution {
    TransposedConvolution { batch: x.n, input: x.extent, channels_in: x.c, channels_out }
}

fn doubled(x: Volume, channels: usize) -> Volume {
    Volume { n: x.n, extent: x.extent.map(|extent| 2 * extent), c: channels }
}

fn flops(x: Volume, channels_out: usize) -> u64 {
    2 * 8 * x.voxels() as u64 * x.c as u64 * channels_out as u64
}

impl Op for ConvTranspose3d {
    fn kind(&self) -> &'static str {
        "conv_transpose3d.fprop"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>, String> {
        let [input, filter, bias] = operands(inputs)?;
        same_type(&input, &filter, "the filter")?;
        let x = activation(&input, "the input")?;
        let (channels_in, channels_out) = filter_channels(&filter)?;
        if x.c != channels_in {
            return Err(format!("input has {} channels, filter expects {channels_in}", x.c));
        }
        vector(&bias, channels_out, "the bias")?;
        Ok(vec![Spec::new(doubled(x, channels_out).shape(), input.dtype)])
    }

    fn backward(&self, cx: &mut Backward<'_>) -> Result<()> {
        let Some(dy) = cx.gradient(0) else { return Ok(()) };
        if cx.wants(1) || cx.wants(2) {
            let gradients = cx.record("wgrad", ConvTranspose3dWgrad, &[cx.input(0), dy])?;
            cx.set(1, gradients[0]);
            cx.set(2, gradients[1]);
        }
        if cx.wants(0) {
            let dx = cx.record1("dgrad", ConvTranspose3dDgrad, &[dy, cx.input(1)])?;
            cx.set(0, dx);
        }
        Ok(())
    }

    fn flops(&self, inputs: &[Spec], outputs: &[Spec]) -> u64 {
        flops(volume(&inputs[0]), volume(&outputs[0]).c)
    }

    fn cpu_workspace(&self, inputs: &[Spec], outputs: &[Spec], threads: usize) -> usize {
        let problem = problem(volume(&inputs[0]), volume(&outputs[0]).c);
        4 * problem.fprop_workspace(inputs[0].dtype, threads)
    }

    reference_by_definition!();

    fn reference_on(
        &self,
        products: Products,
        inputs: &[Dense<f32>],
        _specs: &[Spec],
        outputs: &[Spec],
    ) -> Vec<Dense<f32>> {
        self.reference_by(products, inputs, outputs)
    }

    fn run_cpu(&self, call: &CpuCall<'_>) {
        cpu::fprop(call);
    }

    fn launches(&self, cx: &mut Lower<'_>) -> Result<()> {
        launch::fprop(cx)
    }
}

impl Op for ConvTranspose3dDgrad {
    fn kind(&self) -> &'static str {
        "conv_transpose3d.dgrad"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>, String> {
        let [gradient, filter] = operands(inputs)?;
        same_type(&gradient, &filter, "the filter")?;
        let dy = activation(&gradient, "the gradient")?;
        let (channels_in, channels_out) = filter_channels(&filter)?;
        if dy.c != channels_out {
            return Err(format!("gradient has {} channels, filter makes {channels_out}", dy.c));
        }
        if dy.extent.iter().any(|extent| extent % 2 != 0) {
            return Err(format!("gradient {} has an odd extent", dy.shape()));
        }
        let dx = Volume { n: dy.n, extent: dy.extent.map(|extent| extent / 2), c: channels_in };
        Ok(vec![Spec::new(dx.shape(), gradient.dtype)])
    }

    fn flops(&self, inputs: &[Spec], outputs: &[Spec]) -> u64 {
        flops(volume(&outputs[0]), volume(&inputs[0]).c)
    }

    fn cpu_workspace(&self, inputs: &[Spec], outputs: &[Spec], threads: usize) -> usize {
        let problem = problem(volume(&outputs[0]), volume(&inputs[0]).c);
        4 * problem.dgrad_workspace(inputs[0].dtype, threads)
    }

    reference_by_definition!();

    fn reference_on(
        &self,
        products: Products,
        inputs: &[Dense<f32>],
        _specs: &[Spec],
        outputs: &[Spec],
    ) -> Vec<Dense<f32>> {
        self.reference_by(products, inputs, outputs)
    }

    fn run_cpu(&self, call: &CpuCall<'_>) {
        cpu::dgrad(call);
    }

    fn launches(&self, cx: &mut Lower<'_>) -> Result<()> {
        launch::dgrad(cx)
    }
}

impl Op for ConvTranspose3dWgrad {
    fn kind(&self) -> &'static str {
        "conv_transpose3d.wgrad"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>, String> {
        let [x, dy] = operands(inputs)?;
        same_type(&x, &dy, "the gradient")?;
        let (x, dy) = (activation(&x, "the input")?, activation(&dy, "the gradient")?);
        if doubled(x, dy.c) != dy {
            return Err(format!("gradient {} is not twice the input {}", dy.shape(), x.shape()));
        }
        Ok(vec![Spec::f32(filter_shape(x.c, dy.c)), Spec::f32_vector(dy.c)])
    }

    fn flops(&self, inputs: &[Spec], _outputs: &[Spec]) -> u64 {
        flops(volume(&inputs[0]), volume(&inputs[1]).c)
    }

    fn cpu_workspace(&self, inputs: &[Spec], _outputs: &[Spec], threads: usize) -> usize {
        let problem = problem(volume(&inputs[0]), volume(&inputs[1]).c);
        4 * problem.wgrad_workspace(inputs[0].dtype, threads)
    }

    reference_by_definition!();

    fn reference_on(
        &self,
        products: Products,
        inputs: &[Dense<f32>],
        _specs: &[Spec],
        outputs: &[Spec],
    ) -> Vec<Dense<f32>> {
        self.reference_by(products, inputs, outputs)
    }

    fn run_cpu(&self, call: &CpuCall<'_>) {
        cpu::wgrad(call);
    }

    fn launches(&self, cx: &mut Lower<'_>) -> Result<()> {
        launch::wgrad(cx)
    }
}
