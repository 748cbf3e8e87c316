//! Concatenation along the channels, and its inverse.

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
    tensor::Spec,
};

/// Operands `[a, b]`, result `[y]` with the channels of both, a's first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Concat;

/// Operand `[y]`, results `[a, b]`: the first channels and the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    /// Channels of the first result.
    pub first: usize,
}

impl Op for Concat {
    fn kind(&self) -> &'static str {
        "concat"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>, String> {
        let [first, second] = operands(inputs)?;
        same_type(&first, &second, "the second input")?;
        let (a, b) = (activation(&first, "the first input")?, activation(&second, "the second input")?);
        if a.with_channels(0) != b.with_channels(0) {
            return Err(format!("inputs {} and {} differ in extents", a.shape(), b.shape()));
        }
        Ok(vec![Spec::new(a.with_channels(a.c + b.c).shape(), first.dtype)])
    }

    fn backward(&self, cx: &mut Backward<'_>) -> Result<()> {
        let Some(dy) = cx.gradient(0) else { return Ok(()) };
        let first = cx.spec(cx.input(0)).shape.volume().expect("checked when recorded").c;
        let parts = cx.record("split", Split { first }, &[dy])?;
        cx.set(0, parts[0]);
        cx.set(1, parts[1]);
        Ok(())
    }

    reference_by_definition!();

    fn run_cpu(&self, call: &CpuCall<'_>) {
        cpu::join(call);
    }

    fn launches(&self, cx: &mut Lower<'_>) -> Result<()> {
        launch::join(cx)
    }
}

impl Op for Split {
    fn kind(&self) -> &'static str {
        "concat.split"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>, String> {
        let [joined] = operands(inputs)?;
        let y = activation(&joined, "the input")?;
        if self.first == 0 || self.first >= y.c {
            return Err(format!("{} channels cannot be split at {}", y.c, self.first));
        }
        let part = |channels| Spec::new(y.with_channels(channels).shape(), joined.dtype);
        Ok(vec![part(self.first), part(y.c - self.first)])
    }

    reference_by_definition!();

    fn run_cpu(&self, call: &CpuCall<'_>) {
        cpu::split(call);
    }

    fn launches(&self, cx: &mut Lower<'_>) -> Result<()> {
        launch::split(cx)
    }
}
