//! The first choice: which family an opcode belongs to, by its base and its type.

use super::function::Decoder;
use super::modifiers::Modifiers;
use super::op::Op;
use super::{Decoded, Refusal};
use crate::syntax::{Instruction, Type};

impl Decoder<'_> {
    /// Decodes one instruction.
    pub(super) fn operation(&mut self, ins: &Instruction) -> Decoded<Op> {
        let base = ins.opcode[0].as_str();
        let ty = ins.opcode[1..].iter().rev().find_map(|part| Type::from_name(part));
        let mut m = Modifiers::new(&ins.opcode);
        let m = &mut m;
        let op = match (base, ty) {
            (
                "add" | "sub" | "mul" | "fma" | "neg" | "abs" | "min" | "max" | "ex2" | "tanh",
                Some(Type::F16 | Type::F16x2 | Type::Bf16 | Type::Bf16x2),
            ) => self.half(base, ins, m),
            ("add" | "sub" | "mul" | "fma" | "mad" | "neg" | "abs" | "min" | "max" | "div", Some(Type::F32)) => {
                self.single(base, ins, m)
            }
            ("rcp" | "sqrt" | "rsqrt" | "sin" | "cos" | "lg2" | "ex2" | "tanh", Some(Type::F32)) => {
                self.single_function(base, ins, m)
            }
            (
                "add" | "sub" | "mul" | "fma" | "mad" | "neg" | "abs" | "min" | "max" | "div" | "rcp" | "sqrt"
                | "rsqrt",
                Some(Type::F64),
            ) => self.double(base, ins, m),
            ("copysign" | "testp", _) => self.float_bits(base, ins, m),
            ("add" | "sub" | "addc" | "subc" | "madc", _) | ("mad", _) if self.is_carry(base, ins) => {
                self.carry(base, ins, m)
            }
            (
                "add" | "sub" | "mul" | "mad" | "mul24" | "mad24" | "sad" | "div" | "rem" | "abs" | "neg" | "min"
                | "max",
                _,
            ) => self.integer(base, ins, m),
            ("dp4a" | "dp2a", _) => self.dot(base, ins, m),
            ("and" | "or" | "xor" | "not" | "cnot" | "shl" | "shr" | "shf" | "lop3" | "prmt", _) => {
                self.bits(base, ins, m)
            }
            ("popc" | "clz" | "bfind" | "brev" | "bfe" | "bfi" | "bmsk" | "szext" | "fns", _) => {
                self.bit_fields(base, ins, m)
            }
            ("setp" | "set" | "selp" | "slct", _) => self.compare(base, ins, m),
            ("mov", _) => self.mov(ins, m),
            ("cvt", _) => self.convert(ins, m),
            ("cvta" | "isspacep", _) => self.convert_address(base, ins, m),
            (
                "ld" | "ldu" | "st" | "atom" | "red" | "prefetch" | "prefetchu" | "applypriority" | "discard"
                | "createpolicy",
                _,
            ) => self.memory(base, ins, m),
            ("bra" | "brx" | "ret" | "exit" | "trap" | "brkpt" | "nanosleep" | "griddepcontrol" | "setmaxnreg", _) => {
                self.control(base, ins, m)
            }
            (
                "bar" | "barrier" | "membar" | "fence" | "shfl" | "vote" | "match" | "redux" | "activemask" | "elect",
                _,
            ) => self.synchronise(base, ins, m),
            ("ldmatrix" | "stmatrix" | "movmatrix" | "mma" | "wgmma", _) => self.tensor(base, ins, m),
            ("cp" | "mbarrier", _) => self.asynchronous(base, ins, m),
            _ => Err(Refusal::Unsupported),
        }?;
        m.finish()?;
        Ok(op)
    }
}

/// The operands as an array.
pub(super) fn operands<const N: usize>(ins: &Instruction) -> Decoded<&[crate::syntax::Operand; N]> {
    ins.operands.as_slice().try_into().map_err(|_| {
        Refusal::Malformed(format!("{} has {} operands instead of {N}", ins.opcode.join("."), ins.operands.len()))
    })
}
