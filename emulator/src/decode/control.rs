//! Branches, returns, traps.

use super::function::Decoder;
use super::modifiers::Modifiers;
use super::op::Op;
use super::scope::Symbol;
use super::{Decoded, Refusal, malformed};
use crate::counters::Class;
use crate::syntax::{Instruction, Operand, Type};

impl Decoder<'_> {
    fn label(&mut self, name: &str) -> Decoded<u32> {
        match self.find(name) {
            Some(Symbol::Label(number)) => Ok(number),
            _ => malformed(format!("unknown label {name}")),
        }
    }

    pub(super) fn control(&mut self, base: &str, ins: &Instruction, m: &mut Modifiers) -> Decoded<Op> {
        self.class = Class::Control;
        match (base, &ins.operands[..]) {
            ("bra", [Operand::Name(name)]) => {
                m.take("uni");
                Ok(Op::Branch(self.label(name)?))
            }
            ("brx", [index, Operand::Name(targets)]) => {
                m.need("idx")?;
                m.take("uni");
                let index = self.w(index, Type::U32)?;
                let Some(Symbol::Targets(number)) = self.find(targets) else {
                    return malformed(format!("{targets} is not a list of branch targets"));
                };
                let names = self.branch_targets[number as usize].clone();
                let labels = names.iter().map(|name| self.label(name)).collect::<Decoded<Vec<_>>>()?;
                Ok(Op::BranchIndexed(index, labels))
            }
            ("ret" | "exit", []) => {
                m.take("uni");
                // From a function, to behind its call.
                let after = if base == "ret" { self.return_label() } else { None };
                Ok(after.map_or(Op::Exit, Op::Branch))
            }
            ("trap", []) => Ok(Op::Trap("the kernel executed trap".into())),
            ("brkpt", []) => Ok(Op::Nop),
            // There is no time here to sleep in, no dependent grid, and no register budget.
            ("nanosleep", [_]) => {
                m.need("u32")?;
                Ok(Op::Nop)
            }
            ("griddepcontrol", []) => {
                if m.take("wait") || m.take("launch_dependents") {
                    Ok(Op::Nop)
                } else {
                    Err(Refusal::Unsupported)
                }
            }
            ("setmaxnreg", [Operand::Integer(_)]) => {
                if !(m.take("inc") || m.take("dec")) {
                    return Err(Refusal::Unsupported);
                }
                m.need("sync")?;
                m.need("aligned")?;
                m.need("u32")?;
                Ok(Op::Nop)
            }
            _ => Err(Refusal::Unsupported),
        }
    }
}
