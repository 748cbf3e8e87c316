//! fp16 and bf16 arithmetic, scalar and packed.

use super::arithmetic::operands;
use super::function::Decoder;
use super::lanes::{w1, w2, w3};
use super::modifiers::Modifiers;
use super::op::{Op, Slot};
use super::{Decoded, Refusal};
use crate::counters::Class;
use crate::numeric::Rounding;
use crate::numeric::half::{Half, HalfMath};
use crate::numeric::pairs;
use crate::syntax::{Instruction, Type};

impl Decoder<'_> {
    pub(super) fn half(&mut self, base: &str, ins: &Instruction, m: &mut Modifiers) -> Decoded<Op> {
        self.class = Class::Half;
        let approximate = m.take("approx");
        let rounding = m.rounding();
        let ftz = m.take("ftz");
        let nan = m.take("NaN");
        let sat = m.take("sat");
        let relu = m.take("relu");
        let ty = m.ty()?;
        let half = if matches!(ty, Type::F16 | Type::F16x2) { Half::F16 } else { Half::Bf16 };
        let packed = matches!(ty, Type::F16x2 | Type::Bf16x2);
        self.flops = match base {
            "neg" | "abs" => 0,
            "fma" => 2,
            _ => 1,
        } * if packed { 2 } else { 1 };
        if rounding.is_some_and(|r| r != Rounding::Nearest)
            || approximate != matches!(base, "ex2" | "tanh")
            || (approximate && ftz != (base == "ex2" && half == Half::Bf16))
            || (nan && !matches!(base, "min" | "max"))
        {
            return Err(Refusal::Unsupported);
        }
        let math = HalfMath { half, ftz, sat, relu };
        let plain = !ftz && !sat;
        match base {
            "neg" | "abs" | "ex2" | "tanh" => {
                let [to, a] = operands(ins)?;
                if plain && matches!(base, "neg" | "abs") {
                    let (to, a) = (self.target_w(to)?, self.w(a, ty)?);
                    let signs = if packed { 0x8000_8000 } else { 0x8000 };
                    let cover = if packed { u32::MAX } else { 0xffff };
                    return Ok(match base {
                        "neg" => w1(move |a| (a ^ signs) & cover, to, a),
                        _ => w1(move |a| a & !signs & cover, to, a),
                    });
                }
                let f: Box<dyn Fn(u32) -> u32 + Send + Sync> = match base {
                    "neg" => Box::new(move |a| flush(math, a) ^ 0x8000),
                    "abs" => Box::new(move |a| flush(math, a) & 0x7fff),
                    "ex2" => {
                        self.class = Class::Special;
                        Box::new(move |a| math.output(math.input(a).exp2()))
                    }
                    _ => {
                        self.class = Class::Special;
                        Box::new(move |a| math.output(math.input(a).tanh()))
                    }
                };
                let (to, a) = (self.target_w(to)?, self.w(a, ty)?);
                if packed {
                    return Ok(w1(move |a| f(a & 0xffff) | f(a >> 16) << 16, to, a));
                }
                Ok(w1(move |a| f(a & 0xffff), to, a))
            }
            "fma" => {
                let [to, a, b, c] = operands(ins)?;
                let from = [self.w(a, ty)?, self.w(b, ty)?, self.w(c, ty)?];
                let to = self.target_w(to)?;
                if plain {
                    return Ok(Op::W3(
                        match half {
                            Half::F16 => Box::new(move |a, b, c| pairs::fma::<false>(relu, packed, a, b, c)),
                            Half::Bf16 => Box::new(move |a, b, c| pairs::fma::<true>(relu, packed, a, b, c)),
                        },
                        to,
                        from[0],
                        from[1],
                        from[2],
                    ));
                }
                let f = move |a: u32, b: u32, c: u32| math.fma(a & 0xffff, b & 0xffff, c & 0xffff);
                if packed {
                    return Ok(w3(move |a, b, c| f(a, b, c) | f(a >> 16, b >> 16, c >> 16) << 16, to, from));
                }
                Ok(w3(f, to, from))
            }
            _ => {
                let [to, a, b] = operands(ins)?;
                let (to, a, b) = (self.target_w(to)?, self.w(a, ty)?, self.w(b, ty)?);
                if plain && !(relu && matches!(base, "min" | "max")) {
                    let to = (to, a, b);
                    return match (base, half) {
                        ("add", Half::F16) => Ok(each(move |a, b| pairs::add::<false>(relu, a, b), packed, to)),
                        ("add", Half::Bf16) => Ok(each(move |a, b| pairs::add::<true>(relu, a, b), packed, to)),
                        ("sub", Half::F16) => Ok(each(move |a, b| pairs::sub::<false>(relu, a, b), packed, to)),
                        ("sub", Half::Bf16) => Ok(each(move |a, b| pairs::sub::<true>(relu, a, b), packed, to)),
                        ("mul", Half::F16) => Ok(each(move |a, b| pairs::mul::<false>(relu, a, b), packed, to)),
                        ("mul", Half::Bf16) => Ok(each(move |a, b| pairs::mul::<true>(relu, a, b), packed, to)),
                        ("min", Half::F16) => {
                            Ok(each(move |a, b| pairs::choose::<false>(false, nan, a, b), packed, to))
                        }
                        ("min", Half::Bf16) => {
                            Ok(each(move |a, b| pairs::choose::<true>(false, nan, a, b), packed, to))
                        }
                        ("max", Half::F16) => Ok(each(move |a, b| pairs::choose::<false>(true, nan, a, b), packed, to)),
                        ("max", Half::Bf16) => Ok(each(move |a, b| pairs::choose::<true>(true, nan, a, b), packed, to)),
                        _ => Err(Refusal::Unsupported),
                    };
                }
                let pair: Box<dyn Fn(u32, u32) -> u32 + Send + Sync> = match base {
                    "add" => Box::new(move |a, b| math.add(a, b)),
                    "sub" => Box::new(move |a, b| math.sub(a, b)),
                    "mul" => Box::new(move |a, b| math.mul(a, b)),
                    "min" => Box::new(move |a, b| math.extremum(a, b, false, nan)),
                    "max" => Box::new(move |a, b| math.extremum(a, b, true, nan)),
                    _ => return Err(Refusal::Unsupported),
                };
                if packed {
                    let f = move |a: u32, b: u32| pair(a & 0xffff, b & 0xffff) | pair(a >> 16, b >> 16) << 16;
                    return Ok(w2(f, to, a, b));
                }
                Ok(w2(move |a, b| pair(a & 0xffff, b & 0xffff), to, a, b))
            }
        }
    }
}

/// A function of low halves, for one or both halves of a register.
fn each(
    f: impl Fn(u32, u32) -> u32 + Copy + Send + Sync + 'static,
    packed: bool,
    (to, a, b): (Slot, Slot, Slot),
) -> Op {
    if packed {
        return w2(move |a, b| f(a, b) | f(a >> 16, b >> 16) << 16, to, a, b);
    }
    w2(f, to, a, b)
}

/// Sign operations keep NaN patterns, so they work on bits; only `.ftz` looks at the value.
fn flush(math: HalfMath, bits: u32) -> u32 {
    if math.ftz && bits & 0x7c00 == 0 { bits & 0x8000 } else { bits }
}
