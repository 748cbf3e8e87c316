//! `y = x`: the yardstick of memory bandwidth.

mod cases;
mod cpu;
pub(super) mod launch;
mod reference;

pub use cases::cases;

use super::operands;
use crate::{
    Result,
    cpu::CpuCall,
    graph::Op,
    machine::lower::Lower,
    reference_by_definition,
    tensor::{DType, Spec},
};

/// Operand `[x]` in fp32, result `[y]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copy;

impl Op for Copy {
    fn kind(&self) -> &'static str {
        "copy"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>, String> {
        let [x] = operands(inputs)?;
        if x.dtype != DType::F32 {
            return Err(format!("the operand is {}, expected fp32", x.dtype));
        }
        Ok(vec![x])
    }

    reference_by_definition!();

    fn run_cpu(&self, call: &CpuCall<'_>) {
        cpu::copy(call);
    }

    fn launches(&self, cx: &mut Lower<'_>) -> Result<()> {
        launch::copy(cx)
    }
}
