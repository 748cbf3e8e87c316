//! Floating point and conversions, one form at a time.

use crate::harness::{Table, nan32, nan64};
use crate::sweeps::{Float, fma_rounded};

pub fn floats_of_32_bits(t: &mut Table) {
    let flush = |x: f32| if x.is_subnormal() { 0f32.copysign(x) } else { x };
    t.check_float("add.rn.f32 d, a, b;", |a, b, _| a + b);
    t.check_float("sub.f32 d, a, b;", |a, b, _| a - b);
    t.check_float("mul.f32 d, a, b;", |a, b, _| a * b);
    t.check_float("div.rn.f32 d, a, b;", |a, b, _| a / b);
    t.check_float("fma.rn.f32 d, a, b, c;", |a, b, c| a.mul_add(b, c));
    t.check_float("sqrt.rn.f32 d, a;", |a, _, _| a.sqrt());
    t.check_float("rcp.rn.f32 d, a;", |a, _, _| 1.0 / a);
    t.check_float("mul.ftz.f32 d, a, b;", |a, b, _| flush(flush(a) * flush(b)));
    t.check_float("add.sat.f32 d, a, b;", |a, b, _| if (a + b).is_nan() { 0.0 } else { (a + b).clamp(0.0, 1.0) + 0.0 });
    t.check_float("min.f32 d, a, b;", |a, b, _| match (a.is_nan(), b.is_nan(), a == b) {
        (true, _, _) => b,
        (_, true, _) => a,
        (_, _, true) => f32::from_bits(a.to_bits() | b.to_bits()),
        _ => a.min(b),
    });
    t.check_float("max.f32 d, a, b;", |a, b, _| match (a.is_nan(), b.is_nan(), a == b) {
        (true, _, _) => b,
        (_, true, _) => a,
        (_, _, true) => f32::from_bits(a.to_bits() & b.to_bits()),
        _ => a.max(b),
    });
    for mode in ["rz", "rm", "rp"] {
        t.check32(&format!("fma.{mode}.f32 d, a, b, c;"), |a, b, c| fma_rounded(Float::F32, a, b, c, mode));
    }
    t.check_float("max.NaN.f32 d, a, b;", |a, b, _| match (a.is_nan() || b.is_nan(), a == b) {
        (true, _) => f32::NAN,
        (_, true) => f32::from_bits(a.to_bits() & b.to_bits()),
        _ => a.max(b),
    });
    t.check32("abs.f32 d, a;", |a, _, _| a & 0x7fff_ffff);
    t.check32("neg.f32 d, a;", |a, _, _| a ^ 0x8000_0000);
    t.check32("copysign.f32 d, a, b;", |a, b, _| a & 0x8000_0000 | b & 0x7fff_ffff);
    // Directed rounding: the result brackets the exact value, which f64 holds for products of f32.
    let product = |a: u32, b: u32| f32::from_bits(a) as f64 * f32::from_bits(b) as f64;
    for (line, up) in [("mul.rp.f32 d, a, b;", true), ("mul.rm.f32 d, a, b;", false)] {
        t.check32(line, |a, b, _| {
            let exact = product(a, b);
            let near = exact as f32;
            let wrong = if up { (near as f64) < exact } else { near as f64 > exact };
            nan32(match (wrong, up) {
                (false, _) => near,
                (_, true) => near.next_up(),
                (_, false) => near.next_down(),
            })
        });
    }
    t.check32("mul.rz.f32 d, a, b;", |a, b, _| {
        let exact = product(a, b);
        let near = exact as f32;
        let past = (near as f64).abs() > exact.abs();
        nan32(if past { f32::from_bits(near.to_bits() - 1) } else { near })
    });
}

pub fn floats_of_64_bits(t: &mut Table) {
    let f = f64::from_bits;
    t.check("add.f64 D, A, B;", |a, b, _| nan64(f(a) + f(b)));
    t.check("sub.f64 D, A, B;", |a, b, _| nan64(f(a) - f(b)));
    t.check("abs.f64 D, A;", |a, _, _| a & !(1 << 63));
    for largest in [false, true] {
        let pick = |a: u64, b: u64| match (f(a).is_nan(), f(b).is_nan(), f(a) == f(b)) {
            (true, ..) => nan64(f(b)),
            (_, true, _) => a,
            (.., true) => {
                if largest {
                    a & b
                } else {
                    a | b
                }
            }
            _ => {
                if (f(a) > f(b)) == largest {
                    a
                } else {
                    b
                }
            }
        };
        t.check(if largest { "max.f64 D, A, B;" } else { "min.f64 D, A, B;" }, |a, b, _| pick(a, b));
    }
    for mode in ["rz", "rm", "rp"] {
        t.judge(&format!("fma.{mode}.f64 D, A, B, C;"), |[a, b, c], found| {
            directed_fma(mode, f(a), f(b), f(c), f(found))
        });
    }
    t.check("add.rn.f64 D, A, B;", |a, b, _| nan64(f(a) + f(b)));
    t.check("mul.f64 D, A, B;", |a, b, _| nan64(f(a) * f(b)));
    t.check("fma.rn.f64 D, A, B, C;", |a, b, c| nan64(f(a).mul_add(f(b), f(c))));
    t.check("div.rn.f64 D, A, B;", |a, b, _| nan64(f(a) / f(b)));
    t.check("sqrt.rn.f64 D, A;", |a, _, _| nan64(f(a).sqrt()));
    t.check("neg.f64 D, A;", |a, _, _| a ^ 1 << 63);
}

pub fn conversions(t: &mut Table) {
    let f = |x: u64| f32::from_bits(x as u32);
    t.check("cvt.s64.s32 D, a;", |a, _, _| a as i32 as i64 as u64);
    t.check("cvt.u32.u8 d, a;", |a, _, _| a as u8 as u64);
    t.check("cvt.s32.s8 d, a;", |a, _, _| a as i8 as i32 as u32 as u64);
    t.check("cvt.sat.u8.s32 d, a;", |a, _, _| (a as i32).clamp(0, 255) as u64);
    t.check("cvt.sat.s16.s64 hd, A;", |a, _, _| (a as i64).clamp(-32768, 32767) as u16 as u64);
    t.check("cvt.rn.f32.s32 d, a;", |a, _, _| (a as i32 as f32).to_bits() as u64);
    t.check("cvt.rn.f32.u64 d, A;", |a, _, _| (a as f32).to_bits() as u64);
    t.check("cvt.rn.f64.s64 D, A;", |a, _, _| (a as i64 as f64).to_bits());
    t.check("cvt.rzi.s32.f32 d, a;", |a, _, _| f(a) as i32 as u32 as u64);
    t.check("cvt.rni.u32.f32 d, a;", |a, _, _| f(a).round_ties_even() as u32 as u64);
    t.check("cvt.rmi.s64.f32 D, a;", |a, _, _| if f(a).is_nan() { 1 << 63 } else { f(a).floor() as i64 as u64 });
    t.check("cvt.rpi.f32.f32 d, a;", |a, _, _| nan32(f(a).ceil()) as u64);
    t.check("cvt.f64.f32 D, a;", |a, _, _| nan64(f(a) as f64));
    t.check("cvt.rn.f32.f64 d, A;", |a, _, _| nan32(f64::from_bits(a) as f32) as u64);
    t.check("cvt.sat.f32.f32 d, a;", |a, _, _| if f(a) > 0.0 { f(a).min(1.0).to_bits() as u64 } else { 0 });
    let nan16 = |x: half::f16| if x.is_nan() { 0x7fff } else { x.to_bits() as u64 };
    let nan_b = |x: half::bf16| if x.is_nan() { 0x7fff } else { x.to_bits() as u64 };
    t.check("cvt.rn.f16.f32 hd, a;", |a, _, _| nan16(half::f16::from_f32(f(a))));
    t.check("cvt.rn.bf16.f32 hd, a;", |a, _, _| nan_b(half::bf16::from_f32(f(a))));
    t.check("cvt.f32.f16 d, ha;", |a, _, _| nan32(half::f16::from_bits(a as u16).to_f32()) as u64);
    t.check("cvt.f32.bf16 d, ha;", |a, _, _| nan32(half::bf16::from_bits(a as u16).to_f32()) as u64);
    t.check("cvt.rn.bf16x2.f32 d, a, b;", |a, b, _| {
        nan_b(half::bf16::from_f32(f(a))) << 16 | nan_b(half::bf16::from_f32(f(b)))
    });
    t.check("cvt.rn.f16x2.f32 d, a, b;", |a, b, _| {
        nan16(half::f16::from_f32(f(a))) << 16 | nan16(half::f16::from_f32(f(b)))
    });
}

pub fn halves(t: &mut Table) {
    let h = |x: u64| half::f16::from_bits(x as u16);
    let nan16 = |x: f64| if x.is_nan() { 0x7fff } else { half::f16::from_f64(x).to_bits() as u64 };
    t.check("add.f16 hd, ha, hb;", |a, b, _| nan16(h(a).to_f64() + h(b).to_f64()));
    t.check("mul.f16 hd, ha, hb;", |a, b, _| nan16(h(a).to_f64() * h(b).to_f64()));
    let packed = |a: u64, b: u64, f: &dyn Fn(u64, u64) -> u64| {
        f(a >> 16 & 0xffff, b >> 16 & 0xffff) << 16 | f(a & 0xffff, b & 0xffff)
    };
    t.check("mul.f16x2 d, a, b;", |a, b, _| packed(a, b, &|a, b| nan16(h(a).to_f64() * h(b).to_f64())));
    t.check("fma.rn.relu.f16 hd, ha, hb, hc;", |a, b, c| {
        let x = h(a).to_f64() * h(b).to_f64() + h(c).to_f64();
        if x <= 0.0 { 0 } else { nan16(x) }
    });
    t.check("neg.f16x2 d, a;", |a, _, _| (a as u32 ^ 0x8000_8000) as u64);
}

/// What a directed fma of f64 may give. The exact value is `near + error` with Dekker's and Knuth's terms; where these
/// lose bits to the ends of the range, the result must still lie within a step of it.
fn directed_fma(mode: &str, a: f64, b: f64, c: f64, found: f64) -> Result<(), u64> {
    let rounded = a.mul_add(b, c);
    let ok = |fine: bool, wanted: f64| if fine { Ok(()) } else { Err(nan64(wanted)) };
    if rounded.is_nan() || a.is_infinite() || b.is_infinite() || c.is_infinite() {
        return ok(nan64(found) == nan64(rounded), rounded);
    }
    let product = a * b;
    let lost = a.mul_add(b, -product);
    let near = product + c;
    let back = near - product;
    let error = (product - (near - back)) + (c - back) + lost;
    let plain = |x: f64| x == 0.0 || (1e-250..1e250).contains(&x.abs());
    let step = near.abs().next_up() - near.abs();
    if !(plain(product) && plain(near) && plain(a) && plain(b)) || near == 0.0 || error.abs() > step / 4.0 {
        let inside = rounded.next_down() <= found && found <= rounded.next_up();
        return ok(inside || (found.is_infinite() && rounded.abs() >= f64::MAX), rounded);
    }
    let down = if error < 0.0 { near.next_down() } else { near };
    let up = if error > 0.0 { near.next_up() } else { near };
    let wanted = match mode {
        "rm" => down,
        "rp" => up,
        _ => {
            if near > 0.0 {
                down
            } else {
                up
            }
        }
    };
    ok(found == wanted, wanted)
}
