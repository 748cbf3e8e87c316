//! Registers that belong to products which nothing has waited for: their sums and their fragments of A.
//!
//! The sums have their old values until the wait, and A is read then; on a GPU, either may have happened. So touching them
//! is a fault, except that further products may add to the same sums and use the same fragments.

use super::warpgroup::{Shape, Source};
use crate::decode::Instruction;
use crate::execute::Context;
use crate::fault::{Checked, FaultKind, problem};

/// What a pending product does with a register.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Held {
    sum: bool,
    input: bool,
}

impl Context<'_, '_> {
    /// Marks the registers of a product.
    pub(super) fn hold_registers(&mut self, shape: &Shape) {
        if !self.launch.view.checks.in_flight {
            return;
        }
        let held = &mut self.warp.held;
        held.resize(self.launch.kernel.words as usize, Held::default());
        for &slot in &shape.d {
            held[slot as usize].sum = true;
        }
        if let Source::Registers(slots) = &shape.a {
            for &slot in slots {
                held[slot as usize].input = true;
            }
        }
    }

    /// Whether an instruction keeps away from the registers of pending products.
    pub(crate) fn check_held(&self, instruction: &Instruction) -> Checked {
        let is_product = instruction.about.opcode.starts_with("wgmma.mma_async");
        for &slot in &instruction.about.named {
            let Some(held) = self.warp.held.get(slot as usize) else { continue };
            if held.sum || (held.input && !is_product) {
                let role = if held.sum { "sums" } else { "operand" };
                let message = format!("a register with the {role} of a wgmma that nothing has waited for");
                return problem(FaultKind::AsyncInFlight, 0, message);
            }
        }
        Ok(())
    }
}
