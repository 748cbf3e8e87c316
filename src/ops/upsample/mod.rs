//! Nearest-neighbour upsampling by two along D, H and W: every voxel becomes a 2x2x2 block of copies.

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
    tensor::{Spec, Volume},
};

/// Operand `[x]`, result `[y]` with doubled extents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upsample;

/// Gradient: operand `[dy]`, result `[dx]`, the sum over each block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpsampleBackward;

impl Op for Upsample {
    fn kind(&self) -> &'static str {
        "upsample"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>, String> {
        let [x] = operands(inputs)?;
        let volume = activation(&x, "the input")?;
        let doubled = Volume { extent: volume.extent.map(|extent| 2 * extent), ..volume };
        Ok(vec![Spec::new(doubled.shape(), x.dtype)])
    }

    fn backward(&self, cx: &mut Backward<'_>) -> Result<()> {
        if let Some(dy) = cx.gradient(0) {
            let dx = cx.record1("backward", UpsampleBackward, &[dy])?;
            cx.set(0, dx);
        }
        Ok(())
    }

    reference_by_definition!();

    fn run_cpu(&self, call: &CpuCall<'_>) {
        cpu::forward(call);
    }

    fn launches(&self, cx: &mut Lower<'_>) -> Result<()> {
        launch::forward(cx)
    }
}

impl Op for UpsampleBackward {
    fn kind(&self) -> &'static str {
        "upsample.backward"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>, String> {
        let [gradient] = operands(inputs)?;
        let dy = activation(&gradient, "the gradient")?;
        if dy.extent.iter().any(|extent| extent % 2 != 0) {
            return Err(format!("gradient {} has an odd extent", dy.shape()));
        }
        let halved = Volume { extent: dy.extent.map(|extent| extent / 2), ..dy };
        Ok(vec![Spec::new(halved.shape(), gradient.dtype)])
    }

    reference_by_definition!();

    fn run_cpu(&self, call: &CpuCall<'_>) {
        cpu::backward(call);
    }

    fn launches(&self, cx: &mut Lower<'_>) -> Result<()> {
        launch::backward(cx)
    }
}
