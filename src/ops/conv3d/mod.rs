//! 3-D convolution, stride 1, zero "same" padding.
//!
//! `y[n, o, k] = bias[k] + sum over taps t and channels c of x[n, o + t - p, c] * filter[t, c, k]`, where `x` is zero
//! outside the volume and `p = (kernel - 1) / 2` planes are padded before (so an even kernel pads one more behind).

mod cases;
mod cpu;
pub(super) mod launch;
mod reference;

pub use cases::cases;

use super::{activation, operands, relu::ReluBackward, same_type, vector};
use crate::{
    Result,
    cpu::{Convolution, CpuCall},
    graph::{
        Backward, Op,
        reference::{Dense, Products},
    },
    machine::lower::Lower,
    reference_by_definition,
    tensor::{Shape, Spec, Volume},
};

/// Operands `[x, filter, bias]`, result `[y]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv3d {
    /// Extents of the filter along D, H, W.
    pub kernel: [usize; 3],
    /// Whether the result is clamped at zero from below.
    pub relu: bool,
}

/// Gradient by the input: operands `[dy, filter]`, result `[dx]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv3dDgrad {
    /// Extents of the filter along D, H, W.
    pub kernel: [usize; 3],
}

/// Gradients by filter and bias: operands `[x, dy]`, results `[dfilter, dbias]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv3dWgrad {
    /// Extents of the filter along D, H, W.
    pub kernel: [usize; 3],
}

/// Extents of a filter: `[kD, kH, kW, in, out]`.
pub fn filter_shape(kernel: [usize; 3], channels_in: usize, channels_out: usize) -> Shape {
    let [d, h, w] = kernel;
    Shape::new(&[d, h, w, channels_in, channels_out])
}

/// Planes of zeros before the volume: Keras's rule for "same".
pub fn pad_before(kernel: [usize; 3]) -> [usize; 3] {
    kernel.map(|extent| (extent - 1) / 2)
}

fn problem(kernel: [usize; 3], x: Volume, channels_out: usize) -> Convolution {
    Convolution {
        batch: x.n,
        input: x.extent,
        output: x.extent,
        kernel,
        pad_before: pad_before(kernel),
        channels_in: x.c,
        channels_out,
    }
}

fn volume(spec: &Spec) -> Volume {
    spec.shape.volume().expect("checked when the operation was recorded")
}

fn flops(kernel: [usize; 3], voxels: usize, channels_in: usize, channels_out: usize) -> u64 {
    2 * kernel.iter().product::<usize>() as u64 * voxels as u64 * channels_in as u64 * channels_out as u64
}

/// Checks the filter against the kernel and the channels that it meets; returns (in, out).
fn filter_channels(kernel: [usize; 3], filter: &Spec) -> Result<(usize, usize), String> {
    let &[d, h, w, channels_in, channels_out] = filter.shape.extents() else {
        return Err(format!("the filter has extents {}, expected [kD, kH, kW, in, out]", filter.shape));
    };
    if [d, h, w] != kernel {
        return Err(format!("the filter has extents {}, expected a kernel of {kernel:?}", filter.shape));
    }
    Ok((channels_in, channels_out))
}

impl Op for Conv3d {
    fn kind(&self) -> &'static str {
        "conv3d.fprop"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>, String> {
        let [input, filter, bias] = operands(inputs)?;
        same_type(&input, &filter, "the filter")?;
        let x = activation(&input, "the input")?;
        let (channels_in, channels_out) = filter_channels(self.kernel, &filter)?;
        if x.c != channels_in {
            return Err(format!("input has {} channels, filter expects {channels_in}", x.c));
        }
        vector(&bias, channels_out, "the bias")?;
        Ok(vec![Spec::new(x.with_channels(channels_out).shape(), input.dtype)])
    }

    fn backward(&self, cx: &mut Backward<'_>) -> Result<()> {
        let Some(mut dy) = cx.gradient(0) else { return Ok(()) };
        if self.relu {
            dy = cx.record1("relu_backward", ReluBackward, &[cx.output(0), dy])?;
        }
        if cx.wants(1) || cx.wants(2) {
            let gradients = cx.record("wgrad", Conv3dWgrad { kernel: self.kernel }, &[cx.input(0), dy])?;
            cx.set(1, gradients[0]);
            cx.set(2, gradients[1]);
        }
        if cx.wants(0) {
            let dx = cx.record1("dgrad", Conv3dDgrad { kernel: self.kernel }, &[dy, cx.input(1)])?;
            cx.set(0, dx);
        }
        Ok(())
    }

    fn flops(&self, inputs: &[Spec], outputs: &[Spec]) -> u64 {
        let (x, y) = (volume(&inputs[0]), volume(&outputs[0]));
        flops(self.kernel, y.voxels(), x.c, y.c)
    }

    fn cpu_workspace(&self, inputs: &[Spec], outputs: &[Spec], threads: usize) -> usize {
        let problem = problem(self.kernel, volume(&inputs[0]), volume(&outputs[0]).c);
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
        cpu::fprop(self, call);
    }

    fn launches(&self, cx: &mut Lower<'_>) -> Result<()> {
        launch::fprop(self, cx)
    }
}

impl Op for Conv3dDgrad {
    fn kind(&self) -> &'static str {
        "conv3d.dgrad"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>, String> {
        let [gradient, filter] = operands(inputs)?;
        same_type(&gradient, &filter, "the filter")?;
        let dy = activation(&gradient, "the gradient")?;
        let (channels_in, channels_out) = filter_channels(self.kernel, &filter)?;
        if dy.c != channels_out {
            return Err(format!("gradient has {} channels, filter makes {channels_out}", dy.c));
        }
        Ok(vec![Spec::new(dy.with_channels(channels_in).shape(), gradient.dtype)])
    }

    fn flops(&self, inputs: &[Spec], outputs: &[Spec]) -> u64 {
        let (dy, dx) = (volume(&inputs[0]), volume(&outputs[0]));
        flops(self.kernel, dy.voxels(), dx.c, dy.c)
    }

    fn cpu_workspace(&self, inputs: &[Spec], outputs: &[Spec], threads: usize) -> usize {
        let problem = problem(self.kernel, volume(&outputs[0]), volume(&inputs[0]).c);
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
        cpu::dgrad(self, call);
    }

    fn launches(&self, cx: &mut Lower<'_>) -> Result<()> {
        launch::dgrad(self, cx)
    }
}

impl Op for Conv3dWgrad {
    fn kind(&self) -> &'static str {
        "conv3d.wgrad"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>, String> {
        let [x, dy] = operands(inputs)?;
        same_type(&x, &dy, "the gradient")?;
        let (x, dy) = (activation(&x, "the input")?, activation(&dy, "the gradient")?);
        if x.with_channels(0) != dy.with_channels(0) {
            return Err(format!("input {} and gradient {} differ in extents", x.shape(), dy.shape()));
        }
        Ok(vec![Spec::f32(filter_shape(self.kernel, x.c, dy.c)), Spec::f32_vector(dy.c)])
    }

    fn flops(&self, inputs: &[Spec], _outputs: &[Spec]) -> u64 {
        let (x, dy) = (volume(&inputs[0]), volume(&inputs[1]));
        flops(self.kernel, dy.voxels(), x.c, dy.c)
    }

    fn cpu_workspace(&self, inputs: &[Spec], _outputs: &[Spec], threads: usize) -> usize {
        let problem = problem(self.kernel, volume(&inputs[0]), volume(&inputs[1]).c);
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
        cpu::wgrad(self, call);
    }

    fn launches(&self, cx: &mut Lower<'_>) -> Result<()> {
        launch::wgrad(self, cx)
    }
}
