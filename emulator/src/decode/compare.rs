//! `setp`, `set`, `selp`, `slct`.

use super::arithmetic::operands;
use super::function::Decoder;
use super::lanes::{compare_d, compare_w, dd_to_w, w2, w3};
use super::modifiers::Modifiers;
use super::op::{Fn2, Join, Op, SetTarget};
use super::{Decoded, Refusal, malformed};
use crate::counters::Class;
use crate::memory::{D, W};
use crate::numeric::half::Half;
use crate::numeric::single::flush;
use crate::syntax::{Instruction, Operand, Type};

/// Which outcomes satisfy a comparison.
const LESS: u32 = 1;
const EQUAL: u32 = 2;
const GREATER: u32 = 4;
const UNORDERED: u32 = 8;

const COMPARISONS: [(&str, u32); 18] = [
    ("eq", EQUAL),
    ("ne", LESS | GREATER),
    ("lt", LESS),
    ("le", LESS | EQUAL),
    ("gt", GREATER),
    ("ge", GREATER | EQUAL),
    ("lo", LESS),
    ("ls", LESS | EQUAL),
    ("hi", GREATER),
    ("hs", GREATER | EQUAL),
    ("equ", EQUAL | UNORDERED),
    ("neu", LESS | GREATER | UNORDERED),
    ("ltu", LESS | UNORDERED),
    ("leu", LESS | EQUAL | UNORDERED),
    ("gtu", GREATER | UNORDERED),
    ("geu", GREATER | EQUAL | UNORDERED),
    ("num", LESS | EQUAL | GREATER),
    ("nan", UNORDERED),
];

#[inline(always)]
fn holds<T: PartialOrd>(a: T, b: T, wanted: u32) -> bool {
    let (less, equal, greater) = (a < b, a == b, a > b);
    let outcome = less as u32 * LESS + equal as u32 * EQUAL + greater as u32 * GREATER;
    let outcome = if outcome == 0 { UNORDERED } else { outcome };
    outcome & wanted != 0
}

type Scalar = Box<dyn Fn(u32, u32) -> bool + Send + Sync>;

/// A comparison of up to 32 bits as a scalar function.
fn scalar(ty: Type, wanted: u32, ftz: bool) -> Decoded<Scalar> {
    Ok(match ty {
        Type::F32 if ftz => Box::new(move |a, b| holds(flush(f32::from_bits(a)), flush(f32::from_bits(b)), wanted)),
        Type::F32 => Box::new(move |a, b| holds(f32::from_bits(a), f32::from_bits(b), wanted)),
        Type::F16 | Type::Bf16 => {
            let half = if ty == Type::F16 { Half::F16 } else { Half::Bf16 };
            let input = move |bits: u32| {
                let x = half.widen(bits);
                if ftz && half == Half::F16 && bits & 0x7c00 == 0 { 0.0 } else { x }
            };
            Box::new(move |a, b| holds(input(a), input(b), wanted))
        }
        Type::S32 => Box::new(move |a, b| holds(a as i32, b as i32, wanted)),
        Type::U32 | Type::B32 => Box::new(move |a, b| holds(a, b, wanted)),
        Type::S16 => Box::new(move |a, b| holds(a as i16, b as i16, wanted)),
        Type::U16 | Type::B16 => Box::new(move |a, b| holds(a as u16, b as u16, wanted)),
        _ => return Err(Refusal::Unsupported),
    })
}

fn lanes_w(ty: Type, wanted: u32, ftz: bool) -> Decoded<Fn2<W, W, u32>> {
    Ok(match ty {
        // The common ones without a call per lane.
        Type::F32 if !ftz => compare_w(move |a, b| holds(f32::from_bits(a), f32::from_bits(b), wanted)),
        Type::S32 => compare_w(move |a, b| holds(a as i32, b as i32, wanted)),
        Type::U32 | Type::B32 => compare_w(move |a, b| holds(a, b, wanted)),
        _ => compare_w(scalar(ty, wanted, ftz)?),
    })
}

fn lanes_d(ty: Type, wanted: u32) -> Decoded<Fn2<D, D, u32>> {
    Ok(match ty {
        Type::F64 => compare_d(move |a, b| holds(f64::from_bits(a), f64::from_bits(b), wanted)),
        Type::S64 => compare_d(move |a, b| holds(a as i64, b as i64, wanted)),
        Type::U64 | Type::B64 => compare_d(move |a, b| holds(a, b, wanted)),
        _ => return Err(Refusal::Unsupported),
    })
}

impl Decoder<'_> {
    pub(super) fn compare(&mut self, base: &str, ins: &Instruction, m: &mut Modifiers) -> Decoded<Op> {
        match base {
            "setp" => self.set_predicate(ins, m),
            "set" => self.set_register(ins, m),
            "selp" => {
                let ty = m.ty()?;
                let [to, a, b, p] = operands(ins)?;
                let p = self.p(p)?;
                Ok(if ty.bytes() == 8 {
                    Op::SelectD(self.target_d(to)?, self.d(a, ty)?, self.d(b, ty)?, p)
                } else {
                    Op::SelectW(self.target_w(to)?, self.w(a, ty)?, self.w(b, ty)?, p)
                })
            }
            _ => {
                let ftz = m.take("ftz");
                let (ty, by) = (m.ty()?, m.ty()?);
                let [to, a, b, c] = operands(ins)?;
                if ty.bytes() == 8 || !matches!(by, Type::S32 | Type::F32) || (ftz && by != Type::F32) {
                    return Err(Refusal::Unsupported);
                }
                let from = [self.w(a, ty)?, self.w(b, ty)?, self.w(c, by)?];
                let to = self.target_w(to)?;
                Ok(if by == Type::S32 {
                    w3(|a, b, c| if c as i32 >= 0 { a } else { b }, to, from)
                } else {
                    let at = move |c: u32| if ftz { flush(f32::from_bits(c)) } else { f32::from_bits(c) };
                    w3(move |a, b, c| if at(c) >= 0.0 { a } else { b }, to, from)
                })
            }
        }
    }

    fn comparison(&mut self, m: &mut Modifiers) -> Decoded<(u32, Option<Join>)> {
        let wanted = m.one_of(&COMPARISONS).ok_or(Refusal::Unsupported)?;
        let join = m.one_of(&[("and", Join::And), ("or", Join::Or), ("xor", Join::Xor)]);
        Ok((wanted, join))
    }

    fn set_predicate(&mut self, ins: &Instruction, m: &mut Modifiers) -> Decoded<Op> {
        self.class = Class::Predicate;
        let (wanted, join) = self.comparison(m)?;
        let ftz = m.take("ftz");
        let ty = m.ty()?;
        let from = &ins.operands[..];
        if from.len() != 3 + join.is_some() as usize {
            return malformed("wrong number of operands");
        }
        let (result, complement) = match &from[0] {
            Operand::Pair(p, q) => (self.target_p(p)?, Some(self.target_p(q)?)),
            p => (self.target_p(p)?, None),
        };
        let join = match join {
            Some(join) => Some((join, self.p(&from[3])?)),
            None => None,
        };
        if matches!(ty, Type::F16x2 | Type::Bf16x2) {
            // Two comparisons, one per half; the second predicate is the upper half's, not a complement.
            let (Some(upper), None) = (complement, join) else { return Err(Refusal::Unsupported) };
            let (a, b) = (self.w(&from[1], ty)?, self.w(&from[2], ty)?);
            let compare = scalar(if ty == Type::F16x2 { Type::F16 } else { Type::Bf16 }, wanted, ftz)?;
            return Ok(Op::Mixed(Box::new(move |r, mask| {
                let (a, b) = (r.w[a as usize], r.w[b as usize]);
                let (mut low, mut high) = (0, 0);
                for lane in 0..32 {
                    low |= (compare(a[lane] & 0xffff, b[lane] & 0xffff) as u32) << lane;
                    high |= (compare(a[lane] >> 16, b[lane] >> 16) as u32) << lane;
                }
                r.put_p(result, low, mask);
                r.put_p(upper, high, mask);
            })));
        }
        let target = SetTarget { result, complement, join };
        if ty.bytes() == 8 {
            return Ok(Op::SetD(lanes_d(ty, wanted)?, target, self.d(&from[1], ty)?, self.d(&from[2], ty)?));
        }
        Ok(Op::SetW(lanes_w(ty, wanted, ftz)?, target, self.w(&from[1], ty)?, self.w(&from[2], ty)?))
    }

    fn set_register(&mut self, ins: &Instruction, m: &mut Modifiers) -> Decoded<Op> {
        let (wanted, join) = self.comparison(m)?;
        let ftz = m.take("ftz");
        let (to_ty, ty) = (m.ty()?, m.ty()?);
        if join.is_some() {
            return Err(Refusal::Unsupported);
        }
        let truth = match to_ty {
            Type::U32 | Type::S32 => u32::MAX,
            Type::F32 => 0x3f80_0000,
            Type::U16 | Type::S16 => 0xffff,
            Type::F16 | Type::F16x2 => 0x3c00,
            Type::Bf16 | Type::Bf16x2 => 0x3f80,
            _ => return Err(Refusal::Unsupported),
        };
        let [to, a, b] = operands(ins)?;
        let to = self.target_w(to)?;
        if matches!(ty, Type::F16x2 | Type::Bf16x2) {
            let compare = scalar(if ty == Type::F16x2 { Type::F16 } else { Type::Bf16 }, wanted, ftz)?;
            let truth = if matches!(to_ty, Type::U32 | Type::S32) { 0xffff } else { truth };
            let one = move |a: u32, b: u32| if compare(a, b) { truth } else { 0 };
            let f = move |a: u32, b: u32| one(a & 0xffff, b & 0xffff) | one(a >> 16, b >> 16) << 16;
            return Ok(w2(f, to, self.w(a, ty)?, self.w(b, ty)?));
        }
        if ty.bytes() == 8 {
            let compare: Box<dyn Fn(u64, u64) -> bool + Send + Sync> = match ty {
                Type::F64 => Box::new(move |a, b| holds(f64::from_bits(a), f64::from_bits(b), wanted)),
                Type::S64 => Box::new(move |a, b| holds(a as i64, b as i64, wanted)),
                _ => Box::new(move |a, b| holds(a, b, wanted)),
            };
            return Ok(dd_to_w(move |a, b| if compare(a, b) { truth } else { 0 }, to, self.d(a, ty)?, self.d(b, ty)?));
        }
        let compare = scalar(ty, wanted, ftz)?;
        Ok(w2(move |a, b| if compare(a, b) { truth } else { 0 }, to, self.w(a, ty)?, self.w(b, ty)?))
    }
}
