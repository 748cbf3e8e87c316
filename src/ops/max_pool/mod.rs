//! Max pooling, 2x2x2, stride 2. A last odd plane is dropped.
//!
//! The gradient goes to the first maximum of each block in scan order (D, then H, then W); it is found again from the
//! input, so no index is kept.

mod cases;
mod cpu;
pub(super) mod launch;
mod reference;

pub use cases::cases;

use super::{activation, operands, same_type};
use crate::{
    Result,
    cpu::CpuCall,
    graph::{Backward, Op},
    machine::lower::Lower,
    reference_by_definition,
    tensor::{Spec, Volume},
};

/// Operand `[x]`, result `[y]` with halved extents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxPool;

/// Gradient: operands `[x, dy]`, result `[dx]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxPoolBackward;

fn halved(x: Volume) -> Volume {
    Volume { extent: x.extent.map(|extent| extent / 2), ..x }
}

impl Op for MaxPool {
    fn kind(&self) -> &'static str {
        "max_pool"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>, String> {
        let [x] = operands(inputs)?;
        let volume = activation(&x, "the input")?;
        if volume.extent.contains(&1) {
            return Err(format!("input {} is too thin to be halved", x.shape));
        }
        Ok(vec![Spec::new(halved(volume).shape(), x.dtype)])
    }

    fn backward(&self, cx: &mut Backward<'_>) -> Result<()> {
        if let Some(dy) = cx.gradient(0) {
            let dx = cx.record1("backward", MaxPoolBackward, &[cx.input(0), dy])?;
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

impl Op for MaxPoolBackward {
    fn kind(&self) -> &'static str {
        "max_pool.backward"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>, String> {
        let [x, dy] = operands(inputs)?;
        same_type(&x, &dy, "the gradient")?;
        if halved(activation(&x, "the input")?) != activation(&dy, "the gradient")? {
            return Err(format!("gradient {} is not half the input {}", dy.shape, x.shape));
        }
        Ok(vec![x])
    }

    reference_by_definition!();

    fn run_cpu(&self, call: &CpuCall<'_>) {
        cpu::backward(call);
    }

    fn launches(&self, cx: &mut Lower<'_>) -> Result<()> {
        launch::backward(cx)
    }
}
