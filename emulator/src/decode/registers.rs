//! `mov` in all its shapes: copies, packing, unpacking, clocks.

use super::arithmetic::operands;
use super::function::Decoder;
use super::lanes::{d_to_w, w2, ww_to_d};
use super::modifiers::Modifiers;
use super::op::{Op, Reg};
use super::{Decoded, Refusal, malformed};
use crate::counters::Class;
use crate::syntax::{Instruction, Operand, Type};

impl Decoder<'_> {
    pub(super) fn mov(&mut self, ins: &Instruction, m: &mut Modifiers) -> Decoded<Op> {
        self.class = Class::Move;
        let ty = m.ty()?;
        let [to, from] = operands(ins)?;
        if ty == Type::Pred {
            self.class = Class::Predicate;
            let a = self.p(from)?;
            return Ok(Op::Predicate(Box::new(|a, _| a), self.target_p(to)?, a, a));
        }
        match (to, from) {
            (Operand::Vector(list), from) => self.unpack(ty, list, from),
            (to, Operand::Vector(list)) => self.pack(ty, to, list),
            (to, Operand::Name(name))
                if matches!(name.as_str(), "%clock" | "%clock64" | "%globaltimer" | "%clock_hi") =>
            {
                match self.target(to)? {
                    Some(to) => Ok(Op::Clock(to)),
                    None => Ok(Op::Nop),
                }
            }
            (to, from) => {
                let from = self.source(from, ty)?;
                match self.target(to)? {
                    Some(to) => self.copy(to, from),
                    None => Ok(Op::Nop),
                }
            }
        }
    }

    fn pack(&mut self, ty: Type, to: &Operand, list: &[Operand]) -> Decoded<Op> {
        match (ty.bytes(), list) {
            (4, [a, b]) => {
                let (a, b) = (self.w(a, Type::B16)?, self.w(b, Type::B16)?);
                Ok(w2(|a, b| a & 0xffff | b << 16, self.target_w(to)?, a, b))
            }
            (8, [a, b]) => {
                let (a, b) = (self.w(a, Type::B32)?, self.w(b, Type::B32)?);
                Ok(ww_to_d(|a, b| a as u64 | (b as u64) << 32, self.target_d(to)?, a, b))
            }
            (8, [a, b, c, d]) => {
                let list = [a, b, c, d].map(|one| self.w(one, Type::B16));
                let to = self.target_d(to)? as usize;
                let mut slots = [0; 4];
                for (slot, found) in slots.iter_mut().zip(list) {
                    *slot = found?;
                }
                Ok(Op::Mixed(Box::new(move |r, mask| {
                    for lane in crate::memory::lanes(mask) {
                        let part = |i: usize| ((r.w[slots[i] as usize][lane] & 0xffff) as u64) << (16 * i);
                        r.d[to][lane] = part(0) | part(1) | part(2) | part(3);
                    }
                })))
            }
            (4, [a, b, c, d]) | (2, [a, b, c, d]) if ty.bytes() == 4 => {
                let mut slots = [0; 4];
                for (slot, one) in slots.iter_mut().zip([a, b, c, d]) {
                    *slot = self.w(one, Type::B8)?;
                }
                Ok(super::lanes::w4(
                    |a, b, c, d| a & 255 | (b & 255) << 8 | (c & 255) << 16 | d << 24,
                    self.target_w(to)?,
                    slots,
                ))
            }
            (2, [a, b]) => {
                let (a, b) = (self.w(a, Type::B8)?, self.w(b, Type::B8)?);
                Ok(w2(|a, b| a & 255 | (b & 255) << 8, self.target_w(to)?, a, b))
            }
            _ => Err(Refusal::Unsupported),
        }
    }

    fn unpack(&mut self, ty: Type, list: &[Operand], from: &Operand) -> Decoded<Op> {
        let count = list.len() as u32;
        let bits = ty.bytes() * 8 / count.max(1);
        if !matches!((ty.bytes(), count), (8, 2 | 4) | (4, 2 | 4) | (2, 2)) {
            return Err(Refusal::Unsupported);
        }
        if ty.bytes() == 8
            && count == 2
            && let [low, Operand::Sink] = list
        {
            return Ok(d_to_w(|a| a as u32, self.target_w(low)?, self.d(from, ty)?));
        }
        let from = self.source(from, ty)?;
        if matches!(from, Reg::D(_)) != (ty.bytes() == 8) {
            return malformed(format!("the source is not {ty}"));
        }
        let mut slots = Vec::new();
        for one in list {
            slots.push(match one {
                Operand::Sink => None,
                one => Some(self.target_w(one)?),
            });
        }
        let cover = if bits == 32 { u32::MAX } else { (1 << bits) - 1 };
        if let Reg::W(from) = from {
            return Ok(Op::Mixed(Box::new(move |r, mask| {
                let row = r.w[from as usize];
                for (i, slot) in slots.iter().enumerate() {
                    let Some(slot) = *slot else { continue };
                    let part = row.map(|word| word >> (i as u32 * bits) & cover);
                    r.put_w(slot, &part, mask, u32::MAX);
                }
            })));
        }
        Ok(Op::Mixed(Box::new(move |r, mask| {
            let row = r.wide(from);
            for (i, slot) in slots.iter().enumerate() {
                let Some(slot) = *slot else { continue };
                let to = &mut r.w[slot as usize];
                for lane in crate::memory::lanes(mask) {
                    to[lane] = (row[lane] >> (i as u32 * bits)) as u32 & cover;
                }
            }
        })))
    }
}
