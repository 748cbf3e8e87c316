//! Integer arithmetic of 16, 32 and 64 bits, packed pairs, extended precision.

use super::arithmetic::operands;
use super::function::Decoder;
use super::lanes::{d1, d2, d3, w1, w2, w3, ww_to_d, wwd_to_d};
use super::modifiers::Modifiers;
use super::op::{Carry, CarryKind, Op};
use super::{Decoded, Refusal};
use crate::syntax::{Instruction, Type};

/// Sign- or zero-extends the low 16 bits.
fn extend16(x: u32, signed: bool) -> i32 {
    if signed { x as u16 as i16 as i32 } else { (x & 0xffff) as i32 }
}

/// Applies a function to both halves of a word.
fn both(f: impl Fn(u32, u32) -> u32) -> impl Fn(u32, u32) -> u32 {
    move |a, b| f(a & 0xffff, b & 0xffff) & 0xffff | f(a >> 16, b >> 16) << 16
}

impl Decoder<'_> {
    pub(super) fn is_carry(&self, base: &str, ins: &Instruction) -> bool {
        matches!(base, "addc" | "subc" | "madc") || ins.opcode.iter().any(|part| part == "cc")
    }

    pub(super) fn carry(&mut self, base: &str, ins: &Instruction, m: &mut Modifiers) -> Decoded<Op> {
        let mad = base.starts_with("mad");
        let high = mad && m.one_of(&[("lo", false), ("hi", true)]).ok_or(Refusal::Unsupported)?;
        let carry_out = m.take("cc");
        let ty = m.ty()?;
        let wide = match ty {
            Type::U32 | Type::S32 | Type::B32 => false,
            Type::U64 | Type::S64 | Type::B64 => true,
            _ => return Err(Refusal::Unsupported),
        };
        let kind = match (base, high) {
            ("add" | "addc", _) => CarryKind::Add,
            ("sub" | "subc", _) => CarryKind::Sub,
            (_, false) => CarryKind::MadLow,
            (_, true) => CarryKind::MadHigh,
        };
        let from = &ins.operands[..];
        if from.len() != if mad { 4 } else { 3 } {
            return super::malformed("wrong number of operands");
        }
        let d = if wide { self.target_d(&from[0])? } else { self.target_w(&from[0])? };
        let mut read = |i: usize| if wide { self.d(&from[i], ty) } else { self.w(&from[i], ty) };
        let (a, b) = (read(1)?, read(2)?);
        let c = if mad { read(3)? } else { a };
        let carry_in = base.ends_with('c');
        Ok(Op::Carry(Carry { kind, wide, signed: ty.is_signed(), carry_in, carry_out, d, a, b, c }))
    }

    pub(super) fn integer(&mut self, base: &str, ins: &Instruction, m: &mut Modifiers) -> Decoded<Op> {
        match base {
            "mul" | "mad" => return self.multiply(base == "mad", ins, m),
            "mul24" | "mad24" => return self.multiply24(base == "mad24", ins, m),
            _ => {}
        }
        let sat = m.take("sat");
        let relu = m.take_any("relu");
        let ty = m.ty()?;
        let signed = ty.is_signed();
        if (sat && (ty != Type::S32 || !matches!(base, "add" | "sub")))
            || (relu && !(signed && matches!(base, "min" | "max")))
        {
            return Err(Refusal::Unsupported);
        }
        match (base, ty.bytes(), ins.operands.len()) {
            ("abs" | "neg", bytes, 2) => {
                let [to, a] = operands(ins)?;
                let negate = base == "neg";
                if !signed {
                    return Err(Refusal::Unsupported);
                }
                if bytes == 8 {
                    let f = move |x: u64| if negate || (x as i64) < 0 { x.wrapping_neg() } else { x };
                    return Ok(d1(f, self.target_d(to)?, self.d(a, ty)?));
                }
                if bytes == 2 {
                    let f = move |x: u32| {
                        let x = extend16(x, true);
                        (if negate || x < 0 { -x } else { x }) as u32 & 0xffff
                    };
                    return Ok(w1(f, self.target_w(to)?, self.w(a, ty)?));
                }
                let f = move |x: u32| if negate || (x as i32) < 0 { x.wrapping_neg() } else { x };
                Ok(w1(f, self.target_w(to)?, self.w(a, ty)?))
            }
            ("sad", ..) => self.sad(ins, ty),
            (_, 8, 3) => self.integer64(base, ins, ty),
            (_, 2, 3) => self.integer16(base, ins, ty),
            (_, 4, 3) if matches!(ty, Type::U16x2 | Type::S16x2) => self.integer_pair(base, ins, ty, relu),
            (_, 4, 3) => {
                let [to, a, b] = operands(ins)?;
                let (to, a, b) = (self.target_w(to)?, self.w(a, ty)?, self.w(b, ty)?);
                Ok(match (base, signed) {
                    ("add", _) if sat => w2(|a, b| (a as i32).saturating_add(b as i32) as u32, to, a, b),
                    ("sub", _) if sat => w2(|a, b| (a as i32).saturating_sub(b as i32) as u32, to, a, b),
                    ("add", _) => w2(u32::wrapping_add, to, a, b),
                    ("sub", _) => w2(u32::wrapping_sub, to, a, b),
                    // Division by zero: what GPUs return, all ones (PTX leaves it open).
                    ("div", false) => w2(|a, b| a.checked_div(b).unwrap_or(u32::MAX), to, a, b),
                    ("div", true) => {
                        w2(|a, b| if b == 0 { u32::MAX } else { (a as i32).wrapping_div(b as i32) as u32 }, to, a, b)
                    }
                    ("rem", false) => w2(|a, b| a.checked_rem(b).unwrap_or(a), to, a, b),
                    ("rem", true) => {
                        w2(|a, b| if b == 0 { a } else { (a as i32).wrapping_rem(b as i32) as u32 }, to, a, b)
                    }
                    ("min", false) => w2(|a, b| a.min(b), to, a, b),
                    ("max", false) => w2(|a, b| a.max(b), to, a, b),
                    ("min", true) if relu => w2(|a, b| (a as i32).min(b as i32).max(0) as u32, to, a, b),
                    ("max", true) if relu => w2(|a, b| (a as i32).max(b as i32).max(0) as u32, to, a, b),
                    ("min", true) => w2(|a, b| (a as i32).min(b as i32) as u32, to, a, b),
                    ("max", true) => w2(|a, b| (a as i32).max(b as i32) as u32, to, a, b),
                    _ => return Err(Refusal::Unsupported),
                })
            }
            _ => Err(Refusal::Unsupported),
        }
    }

    fn integer64(&mut self, base: &str, ins: &Instruction, ty: Type) -> Decoded<Op> {
        let [to, a, b] = operands(ins)?;
        let (to, a, b) = (self.target_d(to)?, self.d(a, ty)?, self.d(b, ty)?);
        Ok(match (base, ty.is_signed()) {
            ("add", _) => d2(u64::wrapping_add, to, a, b),
            ("sub", _) => d2(u64::wrapping_sub, to, a, b),
            ("div", false) => d2(|a, b| a.checked_div(b).unwrap_or(u64::MAX), to, a, b),
            ("div", true) => {
                d2(|a, b| if b == 0 { u64::MAX } else { (a as i64).wrapping_div(b as i64) as u64 }, to, a, b)
            }
            ("rem", false) => d2(|a, b| a.checked_rem(b).unwrap_or(a), to, a, b),
            ("rem", true) => d2(|a, b| if b == 0 { a } else { (a as i64).wrapping_rem(b as i64) as u64 }, to, a, b),
            ("min", false) => d2(|a, b| a.min(b), to, a, b),
            ("max", false) => d2(|a, b| a.max(b), to, a, b),
            ("min", true) => d2(|a, b| (a as i64).min(b as i64) as u64, to, a, b),
            ("max", true) => d2(|a, b| (a as i64).max(b as i64) as u64, to, a, b),
            _ => return Err(Refusal::Unsupported),
        })
    }

    fn integer16(&mut self, base: &str, ins: &Instruction, ty: Type) -> Decoded<Op> {
        let [to, a, b] = operands(ins)?;
        let (to, a, b) = (self.target_w(to)?, self.w(a, ty)?, self.w(b, ty)?);
        let signed = ty.is_signed();
        let f: fn(i32, i32) -> i32 = match base {
            "add" => i32::wrapping_add,
            "sub" => i32::wrapping_sub,
            "div" => |a, b| if b == 0 { -1 } else { a.wrapping_div(b) },
            "rem" => |a, b| if b == 0 { a } else { a.wrapping_rem(b) },
            "min" => |a, b| a.min(b),
            "max" => |a, b| a.max(b),
            _ => return Err(Refusal::Unsupported),
        };
        Ok(w2(move |a, b| f(extend16(a, signed), extend16(b, signed)) as u32 & 0xffff, to, a, b))
    }

    fn integer_pair(&mut self, base: &str, ins: &Instruction, ty: Type, relu: bool) -> Decoded<Op> {
        let [to, a, b] = operands(ins)?;
        let (to, a, b) = (self.target_w(to)?, self.w(a, ty)?, self.w(b, ty)?);
        let signed = ty.is_signed();
        let f: fn(i32, i32) -> i32 = match base {
            "add" => i32::wrapping_add,
            "min" => |a, b| a.min(b),
            "max" => |a, b| a.max(b),
            _ => return Err(Refusal::Unsupported),
        };
        let least = if relu { 0 } else { i32::MIN };
        Ok(w2(both(move |a, b| f(extend16(a, signed), extend16(b, signed)).max(least) as u32), to, a, b))
    }

    fn sad(&mut self, ins: &Instruction, ty: Type) -> Decoded<Op> {
        let [to, a, b, c] = operands(ins)?;
        let signed = ty.is_signed();
        match ty.bytes() {
            8 => {
                let from = [self.d(a, ty)?, self.d(b, ty)?, self.d(c, ty)?];
                let f = move |a: u64, b: u64, c: u64| {
                    let gap = if signed { (a as i64).abs_diff(b as i64) } else { a.abs_diff(b) };
                    c.wrapping_add(gap)
                };
                Ok(d3(f, self.target_d(to)?, from))
            }
            bytes => {
                let from = [self.w(a, ty)?, self.w(b, ty)?, self.w(c, ty)?];
                let cover = if bytes == 2 { 0xffff } else { u32::MAX };
                let f = move |a: u32, b: u32, c: u32| {
                    let gap = match (bytes, signed) {
                        (2, _) => extend16(a, signed).abs_diff(extend16(b, signed)),
                        (_, true) => (a as i32).abs_diff(b as i32),
                        (_, false) => a.abs_diff(b),
                    };
                    c.wrapping_add(gap) & cover
                };
                Ok(w3(f, self.target_w(to)?, from))
            }
        }
    }

    fn multiply(&mut self, add: bool, ins: &Instruction, m: &mut Modifiers) -> Decoded<Op> {
        let part = m.one_of(&[("lo", 0), ("hi", 1), ("wide", 2)]).ok_or(Refusal::Unsupported)?;
        let sat = m.take("sat");
        let ty = m.ty()?;
        let signed = ty.is_signed();
        if sat && !(add && part == 1 && ty == Type::S32) {
            return Err(Refusal::Unsupported);
        }
        let from = &ins.operands[..];
        if from.len() != 3 + add as usize {
            return super::malformed("wrong number of operands");
        }
        // Without an addend, multiply-add runs with a constant zero only where that costs nothing.
        match (ty.bytes(), part) {
            (4, 2) => {
                let (to, a, b) = (self.target_d(&from[0])?, self.w(&from[1], ty)?, self.w(&from[2], ty)?);
                let wide = move |a: u32, b: u32| {
                    if signed { (a as i32 as i64 * b as i32 as i64) as u64 } else { a as u64 * b as u64 }
                };
                if !add {
                    return Ok(if signed {
                        ww_to_d(|a, b| (a as i32 as i64 * b as i32 as i64) as u64, to, a, b)
                    } else {
                        ww_to_d(|a, b| a as u64 * b as u64, to, a, b)
                    });
                }
                let c = self.d(&from[3], Type::B64)?;
                Ok(wwd_to_d(move |a, b, c| wide(a, b).wrapping_add(c), to, [a, b, c]))
            }
            (2, _) => {
                let (to, a, b) = (self.target_w(&from[0])?, self.w(&from[1], ty)?, self.w(&from[2], ty)?);
                let c = if add { self.w(&from[3], ty)? } else { self.constant_w(0) };
                let f = move |a: u32, b: u32, c: u32| {
                    let product = extend16(a, signed).wrapping_mul(extend16(b, signed)) as u32;
                    match part {
                        0 => product.wrapping_add(c) & 0xffff,
                        1 => (product >> 16).wrapping_add(c) & 0xffff,
                        _ => product.wrapping_add(c),
                    }
                };
                Ok(w3(f, to, [a, b, c]))
            }
            (4, part) => {
                let (to, a, b) = (self.target_w(&from[0])?, self.w(&from[1], ty)?, self.w(&from[2], ty)?);
                let high = move |a: u32, b: u32| {
                    if signed {
                        ((a as i32 as i64 * b as i32 as i64) >> 32) as u32
                    } else {
                        ((a as u64 * b as u64) >> 32) as u32
                    }
                };
                if !add {
                    return Ok(if part == 0 { w2(u32::wrapping_mul, to, a, b) } else { w2(high, to, a, b) });
                }
                let c = self.w(&from[3], ty)?;
                Ok(match (part, sat) {
                    (0, _) => w3(|a, b, c| a.wrapping_mul(b).wrapping_add(c), to, [a, b, c]),
                    (_, true) => w3(move |a, b, c| (high(a, b) as i32).saturating_add(c as i32) as u32, to, [a, b, c]),
                    (_, false) => w3(move |a, b, c| high(a, b).wrapping_add(c), to, [a, b, c]),
                })
            }
            (8, 0 | 1) => {
                let (to, a, b) = (self.target_d(&from[0])?, self.d(&from[1], ty)?, self.d(&from[2], ty)?);
                let f = move |a: u64, b: u64| match (part, signed) {
                    (0, _) => a.wrapping_mul(b),
                    (_, true) => ((a as i64 as i128 * b as i64 as i128) >> 64) as u64,
                    (_, false) => ((a as u128 * b as u128) >> 64) as u64,
                };
                if !add {
                    return Ok(if part == 0 { d2(u64::wrapping_mul, to, a, b) } else { d2(f, to, a, b) });
                }
                let c = self.d(&from[3], ty)?;
                Ok(d3(move |a, b, c| f(a, b).wrapping_add(c), to, [a, b, c]))
            }
            _ => Err(Refusal::Unsupported),
        }
    }

    fn multiply24(&mut self, add: bool, ins: &Instruction, m: &mut Modifiers) -> Decoded<Op> {
        let high = m.one_of(&[("lo", false), ("hi", true)]).ok_or(Refusal::Unsupported)?;
        let ty = m.ty()?;
        let signed = ty.is_signed();
        if ty.bytes() != 4 || ins.operands.len() != 3 + add as usize {
            return Err(Refusal::Unsupported);
        }
        let from = &ins.operands[..];
        let (to, a, b) = (self.target_w(&from[0])?, self.w(&from[1], ty)?, self.w(&from[2], ty)?);
        let c = if add { self.w(&from[3], ty)? } else { self.constant_w(0) };
        let f = move |a: u32, b: u32, c: u32| {
            let cut = |x: u32| if signed { ((x << 8) as i32 >> 8) as i64 } else { (x & 0xff_ffff) as i64 };
            let product = cut(a) * cut(b);
            (if high { product >> 16 } else { product } as u32).wrapping_add(c)
        };
        Ok(w3(f, to, [a, b, c]))
    }

    pub(super) fn dot(&mut self, base: &str, ins: &Instruction, m: &mut Modifiers) -> Decoded<Op> {
        let upper = base == "dp2a" && m.one_of(&[("lo", false), ("hi", true)]).ok_or(Refusal::Unsupported)?;
        let (ta, tb) = (m.ty()?, m.ty()?);
        let [to, a, b, c] = operands(ins)?;
        let from = [self.w(a, Type::B32)?, self.w(b, Type::B32)?, self.w(c, Type::B32)?];
        let byte = |x: u32, i: u32, signed: bool| {
            let x = (x >> (8 * i)) as u8;
            if signed { x as i8 as i32 } else { x as i32 }
        };
        let (sa, sb) = (ta.is_signed(), tb.is_signed());
        let to = self.target_w(to)?;
        Ok(if base == "dp4a" {
            let f = move |a: u32, b: u32, c: u32| {
                (0..4).fold(c, |sum, i| sum.wrapping_add((byte(a, i, sa) * byte(b, i, sb)) as u32))
            };
            w3(f, to, from)
        } else {
            let f = move |a: u32, b: u32, c: u32| {
                (0..2).fold(c, |sum, i| {
                    let half = extend16(a >> (16 * i), sa);
                    sum.wrapping_add((half * byte(b, i + 2 * upper as u32, sb)) as u32)
                })
            };
            w3(f, to, from)
        })
    }
}
