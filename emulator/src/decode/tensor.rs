//! Matrix instructions.

use std::sync::Arc;

use super::arithmetic::operands;
use super::function::Decoder;
use super::modifiers::Modifiers;
use super::op::{Few, Op, Slot};
use super::{Decoded, Refusal, malformed};
use crate::counters::Class;
use crate::syntax::{Instruction, Operand, Type};
use crate::tensor::{
    Input, LoadMatrix, Multiply, Shape, Source, StoreMatrix, TransposeMatrix, Wgmma, WgmmaCommit, WgmmaWait,
};

/// The registers of a fragment that every form has at least one and at most four of.
fn few(list: &[Slot]) -> Decoded<Few> {
    Few::new(list).ok_or_else(|| Refusal::Malformed(format!("{} registers in a fragment", list.len())))
}

impl Decoder<'_> {
    pub(super) fn tensor(&mut self, base: &str, ins: &Instruction, m: &mut Modifiers) -> Decoded<Op> {
        self.class = Class::Tensor;
        match base {
            "ldmatrix" | "stmatrix" => self.matrix_transfer(base == "ldmatrix", ins, m),
            "movmatrix" => {
                for part in ["sync", "aligned", "m8n8", "trans", "b16"] {
                    m.need(part)?;
                }
                let [to, from] = operands(ins)?;
                Ok(Op::Rare(Box::new(TransposeMatrix { to: self.target_w(to)?, from: self.w(from, Type::B32)? })))
            }
            "mma" => self.multiply_matrices(ins, m),
            _ => self.warpgroup(ins, m),
        }
    }

    fn matrix_transfer(&mut self, load: bool, ins: &Instruction, m: &mut Modifiers) -> Decoded<Op> {
        self.class = if load { Class::LoadShared } else { Class::StoreShared };
        for part in ["sync", "aligned", "m8n8"] {
            m.need(part)?;
        }
        let count = m.one_of(&[("x1", 1), ("x2", 2), ("x4", 4)]).ok_or(Refusal::Unsupported)?;
        let transposed = m.take("trans");
        let generic = m.space().is_none();
        m.need("b16")?;
        let [first, second] = operands(ins)?;
        let (registers, address) = if load { (first, second) } else { (second, first) };
        let address = self.address(address)?;
        Ok(Op::Rare(if load {
            Box::new(LoadMatrix { to: few(&self.targets(registers, count)?)?, address, transposed, generic })
        } else {
            Box::new(StoreMatrix { from: self.list_w(registers, count)?, address, transposed, generic })
        }))
    }

    /// A list of 32-bit destinations.
    fn targets(&mut self, operand: &Operand, count: usize) -> Decoded<Vec<u32>> {
        let list = match operand {
            Operand::Vector(list) => list.as_slice(),
            one => std::slice::from_ref(one),
        };
        if list.len() != count {
            return malformed(format!("{operand} should have {count} registers"));
        }
        list.iter().map(|one| self.target_w(one)).collect()
    }

    fn multiply_matrices(&mut self, ins: &Instruction, m: &mut Modifiers) -> Decoded<Op> {
        for part in ["sync", "aligned"] {
            m.need(part)?;
        }
        let shape = m.next()?;
        for part in ["row", "col"] {
            m.need(part)?;
        }
        let (d_ty, a_ty, b_ty, c_ty) = (m.ty()?, m.ty()?, m.ty()?, m.ty()?);
        let input = match a_ty {
            Type::F16 => Input::F16,
            Type::Bf16 => Input::Bf16,
            Type::Tf32 => Input::Tf32,
            _ => return Err(Refusal::Unsupported),
        };
        let (k, registers_a, registers_b) = match (shape, input) {
            ("m16n8k16", Input::F16 | Input::Bf16) => (16, 4, 2),
            ("m16n8k8", Input::F16 | Input::Bf16) => (8, 2, 1),
            ("m16n8k8", Input::Tf32) => (8, 4, 2),
            ("m16n8k4", Input::Tf32) => (4, 2, 1),
            _ => return Err(Refusal::Unsupported),
        };
        let half = match (d_ty, c_ty, input) {
            (Type::F32, Type::F32, _) => false,
            (Type::F16, Type::F16, Input::F16) => true,
            _ => return Err(Refusal::Unsupported),
        };
        if a_ty != b_ty {
            return Err(Refusal::Unsupported);
        }
        let [d, a, b, c] = operands(ins)?;
        let sums = if half { 2 } else { 4 };
        let multiply = Multiply {
            input,
            k,
            a: few(&self.list_w(a, registers_a)?)?,
            b: few(&self.list_w(b, registers_b)?)?,
            c: few(&self.list_w(c, sums)?)?,
            d: few(&self.targets(d, sums)?)?,
            half,
        };
        Ok(Op::Rare(Box::new(multiply)))
    }

    fn warpgroup(&mut self, ins: &Instruction, m: &mut Modifiers) -> Decoded<Op> {
        let kind = m.next()?;
        for part in ["sync", "aligned"] {
            m.need(part)?;
        }
        match (kind, &ins.operands[..]) {
            ("fence", []) => Ok(Op::Nop),
            ("commit_group", []) => Ok(Op::Rare(Box::new(WgmmaCommit))),
            ("wait_group", [Operand::Integer(n)]) => Ok(Op::Rare(Box::new(WgmmaWait(*n as u32)))),
            ("mma_async", list) => self.warpgroup_multiply(list, m),
            _ => Err(Refusal::Unsupported),
        }
    }

    fn warpgroup_multiply(&mut self, list: &[Operand], m: &mut Modifiers) -> Decoded<Op> {
        let shape = m.next()?;
        let (d_ty, a_ty, b_ty) = (m.ty()?, m.ty()?, m.ty()?);
        let (input, k) = match a_ty {
            Type::F16 => (Input::F16, 16),
            Type::Bf16 => (Input::Bf16, 16),
            Type::Tf32 => (Input::Tf32, 8),
            _ => return Err(Refusal::Unsupported),
        };
        let half = match d_ty {
            Type::F32 => false,
            Type::F16 if input == Input::F16 => true,
            _ => return Err(Refusal::Unsupported),
        };
        let n = shape.strip_prefix("m64n").and_then(|rest| rest.split_once('k'));
        let Some((n, k_name)) = n else { return Err(Refusal::Unsupported) };
        let n: usize = n.parse().map_err(|_| Refusal::Unsupported)?;
        if k_name != k.to_string() || !n.is_multiple_of(8) || n == 0 || n > 256 || a_ty != b_ty {
            return Err(Refusal::Unsupported);
        }
        let [d, a, b, accumulate, rest @ ..] = list else { return malformed("wrong number of operands") };
        let flags = rest
            .iter()
            .map(|operand| match operand {
                Operand::Integer(value) => Ok(*value as i64),
                other => malformed(format!("{other} should be a constant")),
            })
            .collect::<Decoded<Vec<i64>>>()?;
        let in_registers = matches!(a, Operand::Vector(_));
        let expected = match (input, in_registers) {
            (Input::Tf32, _) => 2,
            (_, true) => 3,
            (_, false) => 4,
        };
        if flags.len() != expected || flags[..2].iter().any(|&scale| scale.abs() != 1) {
            return malformed("the scale and transpose operands do not fit the form");
        }
        let flag = |i: usize| flags.get(i).is_some_and(|&flag| flag != 0);
        let d = self.targets(d, n / if half { 4 } else { 2 })?;
        self.named.clear();
        let shape = Shape {
            input,
            n,
            k,
            d,
            a: if in_registers {
                Source::Registers(self.list_w(a, 4)?)
            } else {
                Source::Descriptor(self.d(a, Type::B64)?)
            },
            b: self.d(b, Type::B64)?,
            accumulate: self.p(accumulate)?,
            negate_a: flags[0] < 0,
            negate_b: flags[1] < 0,
            transpose_a: !in_registers && flag(2),
            transpose_b: if in_registers { flag(2) } else { flag(3) },
            half,
        };
        self.has_proxies = true;
        Ok(Op::Rare(Box::new(Wgmma(Arc::new(shape)))))
    }
}
