//! Max pooling of a tensor that is normalised while it is loaded, and its gradient.
//!
//! By definition `x * scale + shift`, then the plain operation. Values are compared *after* scale and shift: where the scale is
//! negative, the largest result comes from the smallest `x`. The gradient is that of the normalised tensor, and may be
//! added to another one, such as a skip connection's.

mod cases;
mod cpu;
mod reference;

pub use cases::cases;

use super::{
    max_pool::{MaxPool, MaxPoolBackward, launch},
    sources::Load,
};
use crate::{
    Result,
    cpu::CpuCall,
    graph::Op,
    machine::lower::Lower,
    reference_by_definition,
    tensor::{Spec, Volume},
};

/// Operands `[x, scale, shift]`, result `[y]` with halved extents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FusedMaxPool;

/// Gradient: operands `[x, (scale, shift), dy, (addend)]`, result `[dx]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FusedMaxPoolBackward {
    /// How the pool read its input.
    pub load: Load,
    /// Whether another gradient of what was pooled is added.
    pub accumulate: bool,
}

impl FusedMaxPoolBackward {
    /// The operand that is the gradient; the addend is the next.
    fn dy(&self) -> usize {
        self.load.operands()
    }
}

fn volume(spec: &Spec) -> Volume {
    spec.shape.volume().expect("checked when the operation was recorded")
}

impl Op for FusedMaxPool {
    fn kind(&self) -> &'static str {
        "max_pool.fused"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>, String> {
        let (x, rest) = Load::Normalised.check(inputs, "the input")?;
        if !rest.is_empty() {
            return Err(format!("{} operands, expected 3", inputs.len()));
        }
        MaxPool.infer(&[x])
    }

    reference_by_definition!();

    fn run_cpu(&self, call: &CpuCall<'_>) {
        cpu::forward(call);
    }

    fn launches(&self, cx: &mut Lower<'_>) -> Result<()> {
        launch::fused_forward(cx, Load::Normalised)
    }
}

impl Op for FusedMaxPoolBackward {
    fn kind(&self) -> &'static str {
        "max_pool.fused.backward"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>, String> {
        let (x, rest) = self.load.check(inputs, "the input")?;
        match (self.accumulate, rest) {
            (false, [dy]) => MaxPoolBackward.infer(&[x, *dy]),
            (true, [dy, addend]) if *addend == x => MaxPoolBackward.infer(&[x, *dy]),
            (true, [_, addend]) => Err(format!("gradient {addend} and input {x} differ")),
            _ => Err(format!("{} operands behind the input", rest.len())),
        }
    }

    fn in_place(&self) -> Vec<(usize, usize)> {
        if self.accumulate { vec![(self.dy() + 1, 0)] } else { Vec::new() }
    }

    reference_by_definition!();

    fn run_cpu(&self, call: &CpuCall<'_>) {
        cpu::backward(self, call);
    }

    fn launches(&self, cx: &mut Lower<'_>) -> Result<()> {
        launch::fused_backward(cx, self.load, self.accumulate)
    }
}
