//! `cvt` between all number types, with fast paths for what kernels use most; `cvta` and `isspacep`.

use super::arithmetic::operands;
use super::function::Decoder;
use super::lanes::{compare_d, d_to_w, d1, w_to_d, w1, w2, w3};
use super::modifiers::Modifiers;
use super::op::{Op, Reg, SetTarget, Slot};
use super::{Decoded, Refusal};
use crate::counters::Class;
use crate::execute::{LOCAL_WINDOW, PARAM_WINDOW, SHARED_WINDOW, WINDOW_MASK};
use crate::memory::D;
use crate::numeric::convert::Conversion;
use crate::numeric::half::Half;
use crate::numeric::single::canonical;
use crate::numeric::{Format, Rounding, narrow};
use crate::syntax::{Instruction, Operand, Space, Type};

impl Decoder<'_> {
    pub(super) fn convert(&mut self, ins: &Instruction, m: &mut Modifiers) -> Decoded<Op> {
        self.class = Class::Convert;
        if m.take("pack") {
            return self.convert_pack(ins, m);
        }
        let integral = m.integral();
        let rounding = if integral.is_none() { m.rounding() } else { None };
        let satfinite = m.take("satfinite");
        let relu = m.take("relu");
        let satfinite = satfinite || m.take("satfinite");
        let ftz = m.take("ftz");
        let sat = m.take("sat");
        let (to_ty, ty) = (m.ty()?, m.ty()?);
        if ins.operands.len() == 3 || matches!(to_ty, Type::E4m3x2 | Type::E5m2x2) {
            return self.convert_pair(ins, to_ty, ty, rounding, relu, satfinite);
        }
        if matches!(ty, Type::E4m3x2 | Type::E5m2x2) {
            return self.widen_pair(ins, to_ty, ty, relu);
        }
        if satfinite && to_ty != Type::Tf32 {
            return Err(Refusal::Unsupported);
        }
        let [to, a] = operands(ins)?;
        let from = self.source(a, ty)?;
        let Some(to_reg) = self.target(to)? else { return Ok(Op::Nop) };
        let declared = match to {
            Operand::Name(name) => self.register(name).map_or(Type::B64, |(ty, _)| ty),
            _ => Type::B64,
        };
        let plain = !ftz && !sat && !relu;
        let nearest = rounding.unwrap_or(Rounding::Nearest) == Rounding::Nearest;
        // The usual ones, as loops that vectorise.
        match (to_reg, from) {
            (Reg::D(d), Reg::W(w)) => match (to_ty, ty) {
                (Type::S64 | Type::U64, Type::S32) if plain => return Ok(w_to_d(|a| a as i32 as i64 as u64, d, w)),
                (Type::S64 | Type::U64, Type::U32) if plain => return Ok(w_to_d(u64::from, d, w)),
                (Type::F64, Type::S32) if nearest => return Ok(w_to_d(|a| (a as i32 as f64).to_bits(), d, w)),
                _ => {}
            },
            (Reg::W(w), Reg::D(d)) => {
                if let (Type::U32 | Type::S32, Type::U64 | Type::S64) = (to_ty, ty)
                    && plain
                {
                    return Ok(d_to_w(|a| a as u32, w, d));
                }
            }
            (Reg::W(to), Reg::W(from)) if plain => match (to_ty, ty) {
                (Type::F32, Type::S32) if nearest => return Ok(w1(|a| (a as i32 as f32).to_bits(), to, from)),
                (Type::F32, Type::U32) if nearest => return Ok(w1(|a| (a as f32).to_bits(), to, from)),
                // Casts saturate and make NaN zero, as the instruction does; they truncate, too.
                (Type::S32, Type::F32) if integral == Some(Rounding::Zero) => {
                    return Ok(w1(|a| f32::from_bits(a) as i32 as u32, to, from));
                }
                (Type::U32, Type::F32) if integral == Some(Rounding::Zero) => {
                    return Ok(w1(|a| f32::from_bits(a) as u32, to, from));
                }
                (Type::S32, Type::F32) => {
                    let direction = integral.unwrap_or(Rounding::Zero);
                    return Ok(by_direction(direction, |x| x as i32 as u32, to, from));
                }
                (Type::U32, Type::F32) => {
                    let direction = integral.unwrap_or(Rounding::Zero);
                    return Ok(by_direction(direction, |x| x as u32, to, from));
                }
                (Type::F32, Type::F32) => {
                    if let Some(direction) = integral {
                        return Ok(by_direction(direction, canonical, to, from));
                    }
                }
                (Type::F32, Type::F16) => {
                    return Ok(w1(|a| canonical(Half::F16.widen(a)), to, from));
                }
                (Type::F32, Type::Bf16) => {
                    return Ok(w1(|a| canonical(Half::Bf16.widen(a)), to, from));
                }
                (Type::F16, Type::F32) if rounding == Some(Rounding::Nearest) => {
                    return Ok(w1(|a| Half::F16.narrow(f32::from_bits(a)), to, from));
                }
                (Type::Bf16, Type::F32) if rounding == Some(Rounding::Nearest) => {
                    return Ok(w1(|a| Half::Bf16.narrow(f32::from_bits(a)), to, from));
                }
                _ => {}
            },
            _ => {}
        }
        let conversion =
            Conversion::new(to_ty, ty, rounding, integral, ftz, sat, relu, satfinite).ok_or(Refusal::Unsupported)?;
        // A signed result fills its register; an unsigned one is followed by zeros.
        let cover = if declared.bytes() >= 8 { u64::MAX } else { (1 << (declared.bytes() * 8)) - 1 };
        match (to_reg, from) {
            (Reg::W(to), Reg::W(from)) => Ok(w1(move |a| (conversion.apply(a as u64) & cover) as u32, to, from)),
            (Reg::W(to), Reg::D(from)) => Ok(d_to_w(move |a| (conversion.apply(a) & cover) as u32, to, from)),
            (Reg::D(to), Reg::W(from)) => Ok(w_to_d(move |a| conversion.apply(a as u64), to, from)),
            (Reg::D(to), Reg::D(from)) => Ok(d1(move |a| conversion.apply(a), to, from)),
        }
    }

    /// Two f32 values packed into one register: the first operand becomes the upper half.
    fn convert_pair(
        &mut self,
        ins: &Instruction,
        to_ty: Type,
        ty: Type,
        rounding: Option<Rounding>,
        relu: bool,
        satfinite: bool,
    ) -> Decoded<Op> {
        let rounding = rounding.ok_or(Refusal::Unsupported)?;
        let (format, bits) = match to_ty {
            Type::F16x2 => (Format::F16, 16),
            Type::Bf16x2 => (Format::BF16, 16),
            Type::E4m3x2 => (Format::E4M3, 8),
            Type::E5m2x2 => (Format::E5M2, 8),
            _ => return Err(Refusal::Unsupported),
        };
        if (bits == 8 && (!satfinite || rounding != Rounding::Nearest)) || rounding == Rounding::Away {
            return Err(Refusal::Unsupported);
        }
        let one = move |x: f64| {
            if relu && x <= 0.0 {
                return 0;
            }
            format.clamp(narrow(x, format, rounding), satfinite && !x.is_nan())
        };
        if ty == Type::F16x2 {
            let [to, a] = operands(ins)?;
            let f = move |a: u32| one(Half::F16.widen(a) as f64) | one(Half::F16.widen(a >> 16) as f64) << bits;
            return Ok(w1(f, self.target_w(to)?, self.w(a, ty)?));
        }
        if ty != Type::F32 {
            return Err(Refusal::Unsupported);
        }
        let [to, a, b] = operands(ins)?;
        let (to, a, b) = (self.target_w(to)?, self.w(a, ty)?, self.w(b, ty)?);
        if !satfinite && rounding == Rounding::Nearest && bits == 16 {
            // NaN stays NaN.
            let x = move |bits: u32| {
                let x = f32::from_bits(bits);
                if relu & (x <= 0.0) { 0.0 } else { x }
            };
            return Ok(match to_ty {
                Type::Bf16x2 => w2(move |a, b| Half::Bf16.narrow(x(a)) << 16 | Half::Bf16.narrow(x(b)), to, a, b),
                _ => w2(move |a, b| Half::F16.narrow(x(a)) << 16 | Half::F16.narrow(x(b)), to, a, b),
            });
        }
        let x = |bits: u32| f32::from_bits(bits) as f64;
        Ok(w2(move |a, b| one(x(a)) << bits | one(x(b)), to, a, b))
    }

    fn widen_pair(&mut self, ins: &Instruction, to_ty: Type, ty: Type, relu: bool) -> Decoded<Op> {
        if to_ty != Type::F16x2 {
            return Err(Refusal::Unsupported);
        }
        let format = if ty == Type::E4m3x2 { Format::E4M3 } else { Format::E5M2 };
        let [to, a] = operands(ins)?;
        let one = move |bits: u32| {
            let x = format.widen(bits & 0xff);
            if relu && x <= 0.0 { 0 } else { narrow(x, Format::F16, Rounding::Nearest) }
        };
        Ok(w1(move |a| one(a) | one(a >> 8) << 16, self.target_w(to)?, self.w(a, Type::B16)?))
    }

    /// `cvt.pack.sat`: two integers saturated and packed, over the lower part of a third.
    fn convert_pack(&mut self, ins: &Instruction, m: &mut Modifiers) -> Decoded<Op> {
        m.need("sat")?;
        let (to_ty, ty) = (m.ty()?, m.ty()?);
        let (low, high, bits) = match to_ty {
            Type::U8 => (0, 255, 8),
            Type::S8 => (-128, 127, 8),
            Type::U16 => (0, 65535, 16),
            Type::S16 => (-32768, 32767, 16),
            _ => return Err(Refusal::Unsupported),
        };
        if ty != Type::S32 {
            return Err(Refusal::Unsupported);
        }
        let cover = (1u32 << bits) - 1;
        let one = move |x: u32| (x as i32).clamp(low, high) as u32 & cover;
        if m.take("b32") {
            let [to, a, b, c] = operands(ins)?;
            let from = [self.w(a, ty)?, self.w(b, ty)?, self.w(c, Type::B32)?];
            return Ok(w3(
                move |a, b, c| c.checked_shl(2 * bits).unwrap_or(0) | one(a) << bits | one(b),
                self.target_w(to)?,
                from,
            ));
        }
        let [to, a, b] = operands(ins)?;
        Ok(w2(move |a, b| one(a) << bits | one(b), self.target_w(to)?, self.w(a, ty)?, self.w(b, ty)?))
    }

    /// Generic addresses are a window per space; global and constant addresses are their own.
    pub(super) fn convert_address(&mut self, base: &str, ins: &Instruction, m: &mut Modifiers) -> Decoded<Op> {
        self.class = Class::Integer;
        if base == "isspacep" {
            let space = m.space().ok_or(Refusal::Unsupported)?;
            let [to, a] = operands(ins)?;
            let target = SetTarget { result: self.target_p(to)?, complement: None, join: None };
            let a = self.d(a, Type::U64)?;
            let f = compare_d(move |a, _| match space {
                Space::Shared => a & WINDOW_MASK == SHARED_WINDOW,
                Space::Local => a & WINDOW_MASK == LOCAL_WINDOW,
                Space::Param => a & WINDOW_MASK == PARAM_WINDOW,
                _ => !matches!(a & WINDOW_MASK, SHARED_WINDOW | LOCAL_WINDOW | PARAM_WINDOW),
            });
            return Ok(Op::SetD(f, target, a, a));
        }
        let back = m.take("to");
        let space = m.space().ok_or(Refusal::Unsupported)?;
        let ty = m.ty()?;
        if ty.bytes() != 8 {
            return Err(Refusal::Unsupported);
        }
        let [to, a] = operands(ins)?;
        let window = Self::generic_offset(space);
        let to = self.target_d(to)?;
        let from = match self.source(a, ty)? {
            Reg::D(slot) => slot,
            Reg::W(slot) => {
                return Ok(w_to_d(move |a| a as u64 + window, to, slot));
            }
        };
        if window == 0 {
            return Ok(Op::MovD(to, from));
        }
        Ok(Op::D1(
            Box::new(move |a: &D| a.map(|at| if back { at.wrapping_sub(window) } else { at.wrapping_add(window) })),
            to,
            from,
        ))
    }
}

/// A conversion behind a rounding to an integral value.
fn by_direction(direction: Rounding, f: impl Fn(f32) -> u32 + Send + Sync + 'static, to: Slot, from: Slot) -> Op {
    let x = f32::from_bits;
    match direction {
        Rounding::Nearest => w1(move |a| f(x(a).round_ties_even()), to, from),
        Rounding::Away => w1(move |a| f(x(a).round()), to, from),
        Rounding::Zero => w1(move |a| f(x(a).trunc()), to, from),
        Rounding::Down => w1(move |a| f(x(a).floor()), to, from),
        Rounding::Up => w1(move |a| f(x(a).ceil()), to, from),
    }
}
