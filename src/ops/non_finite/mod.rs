//! Looks for gradients that left the range of numbers: infinities, and what is no number.
//!
//! fp16 ends at 65504, and a scaled loss comes near it on purpose. The flag that this leaves on the device lets the
//! [optimizer](super::optimizer) skip the step there; the host reads it afterwards and lowers the scale
//! ([`crate::train::loss_scale`]).

mod cases;
mod cpu;
pub(super) mod launch;
mod reference;

pub use cases::cases;

use crate::{
    Result,
    cpu::CpuCall,
    graph::Op,
    machine::lower::Lower,
    reference_by_definition,
    tensor::{DType, Shape, Spec},
};

/// Operands: any number of fp32 tensors; result `[flag]`: 1 if an element of theirs is not finite, else 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NonFinite;

/// The spec of a flag.
pub fn flag_spec() -> Spec {
    Spec::new(Shape::vector(1), DType::U32)
}

impl Op for NonFinite {
    fn kind(&self) -> &'static str {
        "non_finite"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>, String> {
        match inputs.iter().find(|spec| spec.dtype != DType::F32) {
            Some(spec) => Err(format!("an operand is {}, expected fp32", spec.dtype)),
            None => Ok(vec![flag_spec()]),
        }
    }

    reference_by_definition!();

    fn run_cpu(&self, call: &CpuCall<'_>) {
        cpu::run(call);
    }

    fn launches(&self, cx: &mut Lower<'_>) -> Result<()> {
        launch::lower(cx)
    }
}
