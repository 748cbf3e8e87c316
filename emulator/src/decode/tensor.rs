//! Matrix instructions.

use super::function::Decoder;
use super::modifiers::Modifiers;
use super::op::Op;
use super::{Decoded, Refusal};
use crate::syntax::Instruction;

impl Decoder<'_> {
    pub(super) fn tensor(&mut self, _base: &str, _ins: &Instruction, _m: &mut Modifiers) -> Decoded<Op> {
        Err(Refusal::Unsupported)
    }
}
