//! f32 and f64 arithmetic and functions.

use super::arithmetic::operands;
use super::function::Decoder;
use super::lanes::{compare_d, compare_w, d1, d2, d3, w1, w2, w3};
use super::modifiers::Modifiers;
use super::op::{Op, SetTarget};
use super::{Decoded, Refusal};
use crate::counters::Class;
use crate::numeric::single::{Single, canonical, extremum};
use crate::numeric::{Rounding, double};
use crate::simd;
use crate::syntax::{Instruction, Type};

impl Decoder<'_> {
    pub(super) fn single(&mut self, base: &str, ins: &Instruction, m: &mut Modifiers) -> Decoded<Op> {
        self.class = Class::Float32;
        self.flops = match base {
            "fma" | "mad" => 2,
            "neg" | "abs" => 0,
            _ => 1,
        };
        let division = if base == "div" { m.one_of(&[("approx", ()), ("full", ())]).is_some() } else { false };
        let rounding = m.rounding().unwrap_or(Rounding::Nearest);
        let ftz = m.take("ftz");
        let sat = m.take("sat");
        let nan = m.take("NaN");
        let signed_magnitude = m.take("xorsign") && m.take("abs");
        if m.ty()? != Type::F32 || rounding == Rounding::Away {
            return Err(Refusal::Unsupported);
        }
        let math = Single { rounding, ftz, sat };
        let plain = rounding == Rounding::Nearest && !ftz && !sat;
        let nearest = rounding == Rounding::Nearest;
        let ty = Type::F32;
        match base {
            "neg" | "abs" => {
                let [to, a] = operands(ins)?;
                let negate = base == "neg";
                let f = move |a: u32| {
                    let x = math.input(a).to_bits();
                    if negate { x ^ 0x8000_0000 } else { x & 0x7fff_ffff }
                };
                Ok(w1(f, self.target_w(to)?, self.w(a, ty)?))
            }
            "fma" | "mad" => {
                let [to, a, b, c] = operands(ins)?;
                let from = [self.w(a, ty)?, self.w(b, ty)?, self.w(c, ty)?];
                let to = self.target_w(to)?;
                if plain {
                    return Ok(Op::W3(simd::fma(), to, from[0], from[1], from[2]));
                }
                if nearest {
                    let fma = simd::fma();
                    return Ok(Op::W3(
                        Box::new(move |a, b, c| {
                            let flush = |row: &[u32; 32]| row.map(|x| math.input(x).to_bits());
                            fma(&flush(a), &flush(b), &flush(c)).map(|x| math.output(f32::from_bits(x)))
                        }),
                        to,
                        from[0],
                        from[1],
                        from[2],
                    ));
                }
                Ok(w3(move |a, b, c| math.fma(a, b, c), to, from))
            }
            "min" | "max" => {
                let largest = base == "max";
                let from = &ins.operands[..];
                let pair = move |a: u32, b: u32| {
                    let (a, b) = (math.input(a).to_bits(), math.input(b).to_bits());
                    if signed_magnitude {
                        let sign = (a ^ b) & 0x8000_0000;
                        let out = extremum(a & 0x7fff_ffff, b & 0x7fff_ffff, largest, nan);
                        return if f32::from_bits(out).is_nan() { out } else { out | sign };
                    }
                    extremum(a, b, largest, nan)
                };
                if from.len() == 3 && !signed_magnitude && !ftz {
                    let (to, a, b) = (self.target_w(&from[0])?, self.w(&from[1], ty)?, self.w(&from[2], ty)?);
                    return Ok(match (largest, nan) {
                        (true, false) => w2(|a, b| extremum(a, b, true, false), to, a, b),
                        (false, false) => w2(|a, b| extremum(a, b, false, false), to, a, b),
                        (true, true) => w2(|a, b| extremum(a, b, true, true), to, a, b),
                        (false, true) => w2(|a, b| extremum(a, b, false, true), to, a, b),
                    });
                }
                if from.len() == 4 && !signed_magnitude {
                    let list = [self.w(&from[1], ty)?, self.w(&from[2], ty)?, self.w(&from[3], ty)?];
                    return Ok(w3(move |a, b, c| pair(pair(a, b), c), self.target_w(&from[0])?, list));
                }
                let [to, a, b] = operands(ins)?;
                Ok(w2(pair, self.target_w(to)?, self.w(a, ty)?, self.w(b, ty)?))
            }
            _ => {
                let [to, a, b] = operands(ins)?;
                let (to, a, b) = (self.target_w(to)?, self.w(a, ty)?, self.w(b, ty)?);
                let x = f32::from_bits;
                Ok(match base {
                    "add" if plain => w2(move |a, b| canonical(x(a) + x(b)), to, a, b),
                    "sub" if plain => w2(move |a, b| canonical(x(a) - x(b)), to, a, b),
                    "mul" if plain => w2(move |a, b| canonical(x(a) * x(b)), to, a, b),
                    "add" if nearest => w2(move |a, b| math.output(math.input(a) + math.input(b)), to, a, b),
                    "sub" if nearest => w2(move |a, b| math.output(math.input(a) - math.input(b)), to, a, b),
                    "mul" if nearest => w2(move |a, b| math.output(math.input(a) * math.input(b)), to, a, b),
                    "add" => w2(move |a, b| math.add(a, b), to, a, b),
                    "sub" => w2(move |a, b| math.add(a, b ^ 0x8000_0000), to, a, b),
                    "mul" => w2(move |a, b| math.mul(a, b), to, a, b),
                    "div" if division || nearest => {
                        self.class = Class::Special;
                        w2(move |a, b| math.output(math.input(a) / math.input(b)), to, a, b)
                    }
                    _ => w2(move |a, b| math.div(a, b), to, a, b),
                })
            }
        }
    }

    /// Functions of one argument. The approximate ones are computed in f64, so they differ from a GPU's by ulps.
    pub(super) fn single_function(&mut self, base: &str, ins: &Instruction, m: &mut Modifiers) -> Decoded<Op> {
        self.class = Class::Special;
        self.flops = 1;
        let approximate = m.take("approx");
        let rounding = m.rounding();
        let ftz = m.take("ftz");
        let ty = m.ty()?;
        if ty != Type::F32 || approximate == rounding.is_some() || rounding == Some(Rounding::Away) {
            return Err(Refusal::Unsupported);
        }
        let math = Single { rounding: rounding.unwrap_or(Rounding::Nearest), ftz, sat: false };
        let nearest = math.rounding == Rounding::Nearest;
        let [to, a] = operands(ins)?;
        let (to, a) = (self.target_w(to)?, self.w(a, ty)?);
        Ok(match (base, approximate) {
            // Correctly rounded, which f64 and a second rounding would give as well.
            ("rcp", true) => w1(move |a| math.output(1.0 / math.input(a)), to, a),
            ("rcp", false) if nearest => w1(move |a| math.output(1.0 / math.input(a)), to, a),
            ("sqrt", _) if approximate || nearest => w1(move |a| math.output(math.input(a).sqrt()), to, a),
            ("rcp", false) => w1(move |a| math.div(0x3f80_0000, a), to, a),
            ("sqrt", false) => w1(move |a| math.sqrt(a), to, a),
            ("rsqrt", true) => w1(move |a| math.approximate(a, |x| 1.0 / x.sqrt()), to, a),
            ("sin", true) => w1(move |a| math.approximate(a, f64::sin), to, a),
            ("cos", true) => w1(move |a| math.approximate(a, f64::cos), to, a),
            ("lg2", true) => w1(move |a| math.approximate(a, f64::log2), to, a),
            ("ex2", true) => w1(move |a| math.approximate(a, f64::exp2), to, a),
            ("tanh", true) => w1(move |a| math.approximate(a, f64::tanh), to, a),
            _ => return Err(Refusal::Unsupported),
        })
    }

    pub(super) fn double(&mut self, base: &str, ins: &Instruction, m: &mut Modifiers) -> Decoded<Op> {
        self.class = Class::Float64;
        self.flops = if matches!(base, "fma" | "mad") { 2 } else { 1 };
        let approximate = m.take("approx") && m.take("ftz");
        let rounding = m.rounding().unwrap_or(Rounding::Nearest);
        let ty = m.ty()?;
        if ty != Type::F64 || rounding == Rounding::Away || (approximate && !matches!(base, "rcp" | "rsqrt")) {
            return Err(Refusal::Unsupported);
        }
        let x = f64::from_bits;
        let y = |value: f64| double::canonical(value).to_bits();
        match base {
            "neg" | "abs" | "rcp" | "sqrt" | "rsqrt" => {
                let [to, a] = operands(ins)?;
                let (to, a) = (self.target_d(to)?, self.d(a, ty)?);
                let flush = |v: f64| if v.abs() < f64::MIN_POSITIVE { 0.0f64.copysign(v) } else { v };
                // The approximate reciprocals keep the upper word of the result, as the hardware's do.
                let coarse = move |v: f64| y(flush(v)) & 0xffff_ffff_0000_0000;
                Ok(match base {
                    "neg" => d1(|a| a ^ 1 << 63, to, a),
                    "abs" => d1(|a| a & !(1 << 63), to, a),
                    "rcp" if approximate => d1(move |a| coarse(1.0 / flush(x(a))), to, a),
                    "rsqrt" if approximate => d1(move |a| coarse(1.0 / flush(x(a)).sqrt()), to, a),
                    "rcp" => d1(move |a| y(double::div(1.0, x(a), rounding)), to, a),
                    "sqrt" => d1(move |a| y(double::sqrt(x(a), rounding)), to, a),
                    _ => return Err(Refusal::Unsupported),
                })
            }
            "fma" | "mad" => {
                let [to, a, b, c] = operands(ins)?;
                let from = [self.d(a, ty)?, self.d(b, ty)?, self.d(c, ty)?];
                Ok(d3(move |a, b, c| y(double::fma(x(a), x(b), x(c), rounding)), self.target_d(to)?, from))
            }
            _ => {
                let [to, a, b] = operands(ins)?;
                let (to, a, b) = (self.target_d(to)?, self.d(a, ty)?, self.d(b, ty)?);
                let nearest = rounding == Rounding::Nearest;
                let largest = base == "max";
                Ok(match base {
                    "add" if nearest => d2(move |a, b| y(x(a) + x(b)), to, a, b),
                    "sub" if nearest => d2(move |a, b| y(x(a) - x(b)), to, a, b),
                    "mul" if nearest => d2(move |a, b| y(x(a) * x(b)), to, a, b),
                    "div" if nearest => d2(move |a, b| y(x(a) / x(b)), to, a, b),
                    "add" => d2(move |a, b| y(double::add(x(a), x(b), rounding)), to, a, b),
                    "sub" => d2(move |a, b| y(double::add(x(a), -x(b), rounding)), to, a, b),
                    "mul" => d2(move |a, b| y(double::mul(x(a), x(b), rounding)), to, a, b),
                    "div" => d2(move |a, b| y(double::div(x(a), x(b), rounding)), to, a, b),
                    "min" | "max" => {
                        let f = move |a: u64, b: u64| {
                            let (v, w) = (x(a), x(b));
                            if v.is_nan() || w.is_nan() {
                                return if v.is_nan() { y(w) } else { a };
                            }
                            let first = if v == w { (a >> 63 == 0) == largest } else { (v > w) == largest };
                            if first { a } else { b }
                        };
                        d2(f, to, a, b)
                    }
                    _ => return Err(Refusal::Unsupported),
                })
            }
        }
    }

    /// `copysign` and `testp`.
    pub(super) fn float_bits(&mut self, base: &str, ins: &Instruction, m: &mut Modifiers) -> Decoded<Op> {
        if base == "copysign" {
            let ty = m.ty()?;
            let [to, a, b] = operands(ins)?;
            return Ok(match ty {
                Type::F32 => {
                    let f = |a: u32, b: u32| a & 0x8000_0000 | b & 0x7fff_ffff;
                    w2(f, self.target_w(to)?, self.w(a, ty)?, self.w(b, ty)?)
                }
                Type::F64 => {
                    let f = |a: u64, b: u64| a & 1 << 63 | b & !(1 << 63);
                    d2(f, self.target_d(to)?, self.d(a, ty)?, self.d(b, ty)?)
                }
                _ => return Err(Refusal::Unsupported),
            });
        }
        self.class = Class::Predicate;
        let test: fn(f64, bool) -> bool = m
            .one_of::<fn(f64, bool) -> bool>(&[
                ("finite", |x, _| x.is_finite()),
                ("infinite", |x, _| x.is_infinite()),
                ("number", |x, _| !x.is_nan()),
                ("notanumber", |x, _| x.is_nan()),
                // Zero counts as normal.
                ("normal", |x, denormal| x.is_finite() && !denormal),
                ("subnormal", |_, denormal| denormal),
            ])
            .ok_or(Refusal::Unsupported)?;
        let ty = m.ty()?;
        let [to, a] = operands(ins)?;
        let target = SetTarget { result: self.target_p(to)?, complement: None, join: None };
        Ok(match ty {
            Type::F32 => {
                let a = self.w(a, ty)?;
                let f = compare_w(move |a, _| test(f32::from_bits(a) as f64, f32::from_bits(a).is_subnormal()));
                Op::SetW(f, target, a, a)
            }
            Type::F64 => {
                let a = self.d(a, ty)?;
                let f = compare_d(move |a, _| test(f64::from_bits(a), f64::from_bits(a).is_subnormal()));
                Op::SetD(f, target, a, a)
            }
            _ => return Err(Refusal::Unsupported),
        })
    }
}
