//! fp8 conversions, half-precision arithmetic of both kinds, and the approximate functions within the manual's bounds.

use crate::harness::Table;
use crate::sweeps::{Float, nearest};

pub fn eight_bit_floats(t: &mut Table) {
    for (name, format) in [("e4m3x2", Float::E4M3), ("e5m2x2", Float::E5M2)] {
        let narrow = move |x: f64, relu: bool| {
            if x.is_nan() {
                return format.nan();
            }
            if relu && x <= 0.0 {
                return 0;
            }
            // Saturation to the largest finite value.
            nearest(format, x.clamp(-format.largest(), format.largest()))
        };
        let f = |x: u64| f32::from_bits(x as u32) as f64;
        let h = |x: u64| half::f16::from_bits(x as u16).to_f64();
        for relu in [false, true] {
            let r = if relu { ".relu" } else { "" };
            t.check(&format!("cvt.rn.satfinite{r}.{name}.f32 hd, a, b;"), |a, b, _| {
                (narrow(f(a), relu) << 8 | narrow(f(b), relu)) as u64
            });
            t.check(&format!("cvt.rn.satfinite{r}.{name}.f16x2 hd, a;"), |a, _, _| {
                (narrow(h(a >> 16), relu) << 8 | narrow(h(a), relu)) as u64
            });
            t.check(&format!("cvt.rn{r}.f16x2.{name} d, ha;"), |a, _, _| {
                let widen = |bits: u64| {
                    let x = format.value(bits as u32 & 0xff);
                    if x.is_nan() {
                        0x7fff
                    } else if relu && x <= 0.0 {
                        0
                    } else {
                        nearest(Float::F16, x)
                    }
                };
                (widen(a >> 8) << 16 | widen(a)) as u64
            });
        }
    }
}

pub fn halves(t: &mut Table) {
    for (name, format) in [("f16", Float::F16), ("bf16", Float::BF16)] {
        for packed in [false, true] {
            let ty = if packed { format!("{name}x2") } else { name.to_owned() };
            let (d, a, b, c) = if packed { ("d", "a", "b", "c") } else { ("hd", "ha", "hb", "hc") };
            let both = |x: u64, y: u64, z: u64, f: &dyn Fn(u32, u32, u32) -> u32| {
                let part =
                    |i: u32| f((x >> i) as u32 & 0xffff, (y >> i) as u32 & 0xffff, (z >> i) as u32 & 0xffff) as u64;
                if packed { part(16) << 16 | part(0) } else { part(0) }
            };
            let v = |bits: u32| format.value(bits);
            let exponent = if format == Float::F16 { 0x7c00 } else { 0x7f80 };
            let flush = move |bits: u32| if bits & exponent == 0 { bits & 0x8000 } else { bits };
            let round = move |x: f64| if x.is_nan() { 0x7fff } else { nearest(format, x) };
            let sum = move |a: u32, b: u32| crate::sweeps::sum(format, a, b);
            let mul = move |a: u32, b: u32| round(v(a) * v(b));
            t.check(&format!("add.{ty} {d}, {a}, {b};"), |x, y, z| both(x, y, z, &|a, b, _| sum(a, b)));
            t.check(&format!("add.rn.{ty} {d}, {a}, {b};"), |x, y, z| both(x, y, z, &|a, b, _| sum(a, b)));
            t.check(&format!("sub.{ty} {d}, {a}, {b};"), |x, y, z| both(x, y, z, &|a, b, _| sum(a, b ^ 0x8000)));
            t.check(&format!("mul.{ty} {d}, {a}, {b};"), |x, y, z| both(x, y, z, &|a, b, _| mul(a, b)));
            t.check(&format!("neg.{ty} {d}, {a};"), |x, y, z| both(x, y, z, &|a, _, _| a ^ 0x8000));
            t.check(&format!("abs.{ty} {d}, {a};"), |x, y, z| both(x, y, z, &|a, _, _| a & 0x7fff));
            if format == Float::F16 {
                t.check(&format!("add.ftz.{ty} {d}, {a}, {b};"), |x, y, z| {
                    both(x, y, z, &|a, b, _| flush(sum(flush(a), flush(b))))
                });
                t.check(&format!("mul.sat.{ty} {d}, {a}, {b};"), |x, y, z| {
                    both(x, y, z, &|a, b, _| {
                        let product = v(mul(a, b));
                        if product > 0.0 { round(product.min(1.0)) } else { 0 }
                    })
                });
            }
            // The product of two halves is exact in f64; with a third, only the rounding to odd is safe.
            let fma = move |a: u32, b: u32, c: u32| crate::sweeps::fma(format, a, b, c);
            t.check(&format!("fma.rn.{ty} {d}, {a}, {b}, {c};"), |x, y, z| both(x, y, z, &fma));
            t.check(&format!("fma.rn.relu.{ty} {d}, {a}, {b}, {c};"), |x, y, z| {
                both(x, y, z, &|a, b, c| {
                    let bits = fma(a, b, c);
                    if v(bits) <= 0.0 { 0 } else { bits }
                })
            });
            for largest in [false, true] {
                let op = if largest { "max" } else { "min" };
                let pick = move |a: u32, b: u32, nan: bool| {
                    let (x, y) = (v(a), v(b));
                    match (x.is_nan(), y.is_nan()) {
                        (true, true) => 0x7fff,
                        (true, _) | (_, true) if nan => 0x7fff,
                        (true, _) => b,
                        (_, true) => a,
                        _ if x == y => {
                            if largest {
                                a & b
                            } else {
                                a | b
                            }
                        }
                        _ => {
                            if (x > y) == largest {
                                a
                            } else {
                                b
                            }
                        }
                    }
                };
                t.check(&format!("{op}.{ty} {d}, {a}, {b};"), |x, y, z| both(x, y, z, &|a, b, _| pick(a, b, false)));
                t.check(&format!("{op}.NaN.{ty} {d}, {a}, {b};"), |x, y, z| both(x, y, z, &|a, b, _| pick(a, b, true)));
            }
            // 2^-9.9 relative for ex2 of f16, 2^-7 of bf16; 2^-10.987 and 2^-8 absolute for tanh; a unit of rounding more.
            let op_ftz = if format == Float::F16 { "" } else { ".ftz" };
            let bound = if format == Float::F16 { 2f64.powf(-9.9) } else { 2f64.powi(-7) };
            for (op, ftz, f) in [("ex2", op_ftz, f64::exp2 as fn(f64) -> f64), ("tanh", "", f64::tanh)] {
                let line = format!("{op}.approx{ftz}.{ty} {d}, {a};");
                let is_close = |found: u32, a: u32| {
                    let (found, wanted) = (v(found), f(v(if ftz.is_empty() { a } else { flush(a) })));
                    let tiny = format.smallest_normal();
                    found.is_nan() && wanted.is_nan()
                        || found == wanted
                        || (found - wanted).abs()
                            <= bound * wanted.abs() + if ftz.is_empty() { tiny / 1024.0 } else { tiny }
                        || (found.is_infinite() && wanted > format.largest())
                };
                t.judge(&line, |[x, ..], found| {
                    let parts: &[u32] = if packed { &[0, 16] } else { &[0] };
                    let part = |bits: u64, i: u32| (bits >> i) as u32 & 0xffff;
                    if parts.iter().all(|&i| is_close(part(found, i), part(x, i))) { Ok(()) } else { Err(0) }
                });
            }
        }
    }
}

/// Relative or absolute bounds of the manual.
pub fn approximate(t: &mut Table) {
    /// The name, the function, and the error allowed for an argument and its exact result.
    type Form = (&'static str, fn(f64) -> f64, fn(f64, f64) -> f64);
    let forms: [Form; 8] = [
        ("rcp", |x| 1.0 / x, |_, y| y.abs() * 2f64.powi(-23)),
        ("sqrt", f64::sqrt, |_, y| y.abs() * 2f64.powi(-23)),
        ("rsqrt", |x| 1.0 / x.sqrt(), |_, y| y.abs() * 2f64.powf(-22.9)),
        ("sin", f64::sin, |_, _| 2f64.powf(-20.5)),
        ("cos", f64::cos, |_, _| 2f64.powf(-20.5)),
        ("lg2", f64::log2, |x, y| if (0.5..2.0).contains(&x) { 2f64.powi(-22) } else { y.abs() * 2f64.powi(-22) }),
        ("ex2", f64::exp2, |_, y| y.abs() * 2f64.powi(-22)),
        ("tanh", f64::tanh, |_, y| y.abs() * 2f64.powi(-11)),
    ];
    let tiny = f32::MIN_POSITIVE as f64;
    for (name, f, bound) in forms {
        for ftz in ["", ".ftz"] {
            if name == "tanh" && !ftz.is_empty() {
                continue;
            }
            let flush = |x: f64| if !ftz.is_empty() && x.abs() < tiny { 0f64.copysign(x) } else { x };
            t.judge(&format!("{name}.approx{ftz}.f32 d, a;"), |[a, ..], found| {
                let x = flush(f32::from_bits(a as u32) as f64);
                let (exact, found) = (f(x), f32::from_bits(found as u32) as f64);
                let wanted = flush(exact);
                let fine = match (exact.is_nan(), exact.abs() > f32::MAX as f64) {
                    (true, _) => found.is_nan(),
                    (_, true) => found.is_infinite() && found.signum() == exact.signum(),
                    // Denormal results may be off by half a step of theirs.
                    _ => (found - wanted).abs() <= bound(x, exact) + 2f64.powi(-150),
                };
                if fine { Ok(()) } else { Err((wanted as f32).to_bits() as u64) }
            });
        }
    }
    t.check("rcp.approx.ftz.f64 D, A;", |a, _, _| coarse(a, |x| 1.0 / x));
    t.check("rsqrt.approx.ftz.f64 D, A;", |a, _, _| coarse(a, |x| 1.0 / x.sqrt()));
}

/// The upper word of the result, denormals flushed on both sides.
fn coarse(a: u64, f: impl Fn(f64) -> f64) -> u64 {
    let flush = |x: f64| if x.is_subnormal() { 0f64.copysign(x) } else { x };
    crate::harness::nan64(flush(f(flush(f64::from_bits(a))))) & 0xffff_ffff_0000_0000
}
