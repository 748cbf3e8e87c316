//! Families of forms by type: integer arithmetic, comparisons, conversions. Expectations are computed on i128 and on
//! bit patterns of floats, with roundings found by comparing neighbours with the exact value.

use std::cmp::Ordering;

use crate::harness::{Table, nan64};

/// A float format by its bits.
#[derive(Clone, Copy, PartialEq)]
pub struct Float {
    exponent: u32,
    mantissa: u32,
    /// Without infinities: the topmost pattern is NaN, those below are numbers (e4m3).
    finite: bool,
}

impl Float {
    pub const F16: Float = Float { exponent: 5, mantissa: 10, finite: false };
    pub const BF16: Float = Float { exponent: 8, mantissa: 7, finite: false };
    pub const F32: Float = Float { exponent: 8, mantissa: 23, finite: false };
    pub const E4M3: Float = Float { exponent: 4, mantissa: 3, finite: true };
    pub const E5M2: Float = Float { exponent: 5, mantissa: 2, finite: false };

    fn sign(self) -> u32 {
        1 << (self.exponent + self.mantissa)
    }

    fn infinity(self) -> u32 {
        ((1 << self.exponent) - 1) << self.mantissa
    }

    pub fn nan(self) -> u32 {
        self.sign() - 1
    }

    pub fn largest(self) -> f64 {
        self.value(if self.finite { self.nan() - 1 } else { self.infinity() - 1 })
    }

    pub fn smallest_normal(self) -> f64 {
        self.value(1 << self.mantissa)
    }

    pub fn value(self, bits: u32) -> f64 {
        let sign = if bits & self.sign() != 0 { -1.0 } else { 1.0 };
        let magnitude = bits & (self.sign() - 1);
        if (self.finite && magnitude == self.nan()) || (!self.finite && magnitude > self.infinity()) {
            return f64::NAN;
        }
        if !self.finite && magnitude == self.infinity() {
            return sign * f64::INFINITY;
        }
        let (e, m) = (magnitude >> self.mantissa, magnitude & ((1 << self.mantissa) - 1));
        let bias = (1 << (self.exponent - 1)) - 1;
        let scale = 2f64.powi(e.max(1) as i32 - bias - self.mantissa as i32);
        sign * scale * (m + if e > 0 { 1 << self.mantissa } else { 0 }) as f64
    }

    /// The pattern of the magnitude next below or at a positive exact value, which `compare` orders against a float.
    fn floor(self, compare: &dyn Fn(f64) -> Ordering) -> u32 {
        let (mut low, mut high) = (0, if self.finite { self.nan() - 1 } else { self.infinity() });
        while low < high {
            let middle = (low + high).div_ceil(2);
            if compare(self.value(middle)) == Ordering::Less { high = middle - 1 } else { low = middle }
        }
        low
    }
}

/// How an exact value compares with a float.
trait Exact: Copy {
    fn negative(self) -> bool;
    fn magnitude(self) -> Self;
    /// `self` against `other`, both positive.
    fn against(self, other: f64) -> Ordering;
    /// Twice `self` against `a + b`, for ties.
    fn against_middle(self, a: f64, b: f64) -> Ordering;
}

impl Exact for f64 {
    fn negative(self) -> bool {
        self.is_sign_negative()
    }
    fn magnitude(self) -> f64 {
        self.abs()
    }
    fn against(self, other: f64) -> Ordering {
        self.total_cmp(&other)
    }
    fn against_middle(self, a: f64, b: f64) -> Ordering {
        // Formats here have at most 24 bits, so the middle is exact.
        self.total_cmp(&(a / 2.0 + b / 2.0))
    }
}

impl Exact for i128 {
    fn negative(self) -> bool {
        self < 0
    }
    fn magnitude(self) -> i128 {
        self.abs()
    }
    fn against(self, other: f64) -> Ordering {
        // Halves and quarters below 1 lie between the integers.
        let whole = other.floor();
        self.cmp(&(whole as i128)).then(if other > whole { Ordering::Less } else { Ordering::Equal })
    }
    fn against_middle(self, a: f64, b: f64) -> Ordering {
        self.against(a / 2.0 + b / 2.0)
    }
}

/// The exact value in a format, rounded as `mode` says (rn, rz, rm, rp).
fn rounded<E: Exact>(format: Float, exact: E, mode: &str) -> u32 {
    let (x, negative) = (exact.magnitude(), exact.negative());
    let sign = if negative { format.sign() } else { 0 };
    let below = format.floor(&|other| x.against(other));
    if x.against(format.value(below)) == Ordering::Equal {
        return sign | below;
    }
    let above = below + 1;
    let up = match mode {
        "rz" => false,
        "rp" => !negative,
        "rm" => negative,
        _ => {
            // Beyond the largest number lies what would be the next one.
            let step = format.value(below) - format.value(below - u32::from(below > 0));
            let top = if format.value(above).is_finite() { format.value(above) } else { format.value(below) + step };
            match x.against_middle(format.value(below), top) {
                Ordering::Equal => below % 2 == 1,
                other => other == Ordering::Greater,
            }
        }
    };
    sign | if up { above } else { below }
}

pub fn nearest(format: Float, x: f64) -> u32 {
    rounded(format, x, "rn")
}

/// The sum of two halves: exact in f64 for all but far-apart bf16, where the smaller one only breaks ties.
pub fn sum(format: Float, a: u32, b: u32) -> u32 {
    fma(format, a, nearest(format, 1.0), b)
}

pub fn bf16_sum(a: u16, b: u16) -> u16 {
    sum(Float::BF16, a as u32, b as u32) as u16
}

/// a b + c with one rounding: the f64 sum, rounded to odd by the sign of its own error.
pub fn fma(format: Float, a: u32, b: u32, c: u32) -> u32 {
    fma_rounded(format, a, b, c, "rn")
}

/// The same with any rounding; the product of two numbers of up to 24 bits is exact in f64.
pub fn fma_rounded(format: Float, a: u32, b: u32, c: u32, mode: &str) -> u32 {
    let (product, c) = (format.value(a) * format.value(b), format.value(c));
    let near = product + c;
    if near.is_nan() {
        return format.nan();
    }
    // Knuth's two-sum gives the error exactly.
    let back = near - product;
    let error = (product - (near - back)) + (c - back);
    let exact = if !near.is_finite() || error == 0.0 || error.is_nan() || near.to_bits() & 1 == 1 {
        near
    } else if error > 0.0 {
        near.next_up()
    } else {
        near.next_down()
    };
    if exact == 0.0 {
        // Opposite zeros, and numbers that cancel, make the zero of the rounding; like ones keep their sign.
        let negative = product.is_sign_negative();
        let same = negative == c.is_sign_negative();
        return if if same { negative } else { mode == "rm" } { format.sign() } else { 0 };
    }
    rounded(format, exact, mode)
}

const WHOLE: [&str; 6] = ["u16", "s16", "u32", "s32", "u64", "s64"];

fn width(ty: &str) -> u32 {
    ty[1..].parse().unwrap()
}

/// The value of an integer type's bits.
fn whole(ty: &str, bits: u64) -> i128 {
    let unused = 64 - width(ty);
    let up = bits << unused;
    if ty.starts_with('s') { (up as i64 >> unused) as i128 } else { (up >> unused) as i128 }
}

fn cut(bits: u32, x: i128) -> u64 {
    if bits == 64 { x as u64 } else { x as u64 & ((1 << bits) - 1) }
}

/// Registers of a width: result, then three sources.
fn registers(bits: u32) -> [&'static str; 4] {
    match bits {
        64 => ["D", "A", "B", "C"],
        32 => ["d", "a", "b", "c"],
        _ => ["hd", "ha", "hb", "hc"],
    }
}

pub fn integers(t: &mut Table) {
    for ty in WHOLE {
        let bits = width(ty);
        let [d, a, b, c] = registers(bits);
        let v = |x: u64| whole(ty, x);
        let all_ones = cut(bits, -1);
        let mut two = |op: &str, f: &dyn Fn(i128, i128) -> i128| {
            t.check(&format!("{op}.{ty} {d}, {a}, {b};"), |x, y, _| cut(bits, f(v(x), v(y))));
        };
        two("add", &|a, b| a + b);
        two("sub", &|a, b| a - b);
        two("mul.lo", &|a, b| a.wrapping_mul(b));
        two("mul.hi", &|a, b| {
            if bits == 64 && !ty.starts_with('s') { ((a as u128 * b as u128) >> 64) as i128 } else { (a * b) >> bits }
        });
        two("min", &|a, b| a.min(b));
        two("max", &|a, b| a.max(b));
        // Division by zero gives all ones, and its remainder the dividend.
        two("div", &|a, b| if b == 0 { all_ones as i128 } else { a / b });
        two("rem", &|a, b| if b == 0 { a } else { a % b });
        let three = [("mad.lo", false), ("sad", true)];
        for (op, distance) in three {
            t.check(&format!("{op}.{ty} {d}, {a}, {b}, {c};"), |x, y, z| {
                let (x, y) = (v(x), v(y));
                cut(bits, if distance { (x - y).abs() } else { x.wrapping_mul(y) }.wrapping_add(v(z)))
            });
        }
        if ty.starts_with('s') {
            t.check(&format!("abs.{ty} {d}, {a};"), |x, _, _| cut(bits, v(x).abs()));
            t.check(&format!("neg.{ty} {d}, {a};"), |x, _, _| cut(bits, -v(x)));
        }
        if bits < 64 {
            let wide = registers(2 * bits)[0];
            t.check(&format!("mul.wide.{ty} {wide}, {a}, {b};"), |x, y, _| cut(2 * bits, v(x) * v(y)));
            let [wide, _, _, third] = registers(2 * bits);
            t.check(&format!("mad.wide.{ty} {wide}, {a}, {b}, {third};"), |x, y, z| {
                cut(2 * bits, v(x) * v(y) + cut(2 * bits, z as i128) as i128)
            });
        }
        let shift = if ty.starts_with('s') { "s" } else { "u" };
        t.check(&format!("shr.{shift}{bits} {d}, {a}, b;"), |x, n, _| cut(bits, v(x) >> (n as u32).min(64)));
    }
    for bits in [16, 32, 64] {
        let [d, a, b, _] = registers(bits);
        t.check(&format!("shl.b{bits} {d}, {a}, b;"), |x, n, _| {
            if n as u32 >= bits { 0 } else { cut(bits, (x << (n as u32)) as i128) }
        });
        t.check(&format!("shr.b{bits} {d}, {a}, b;"), |x, n, _| {
            if n as u32 >= bits { 0 } else { cut(bits, x as i128) >> (n as u32) }
        });
        t.check(&format!("and.b{bits} {d}, {a}, {b};"), |x, y, _| cut(bits, (x & y) as i128));
        t.check(&format!("or.b{bits} {d}, {a}, {b};"), |x, y, _| cut(bits, (x | y) as i128));
        t.check(&format!("xor.b{bits} {d}, {a}, {b};"), |x, y, _| cut(bits, (x ^ y) as i128));
        t.check(&format!("not.b{bits} {d}, {a};"), |x, _, _| cut(bits, !x as i128));
        t.check(&format!("cnot.b{bits} {d}, {a};"), |x, _, _| (cut(bits, x as i128) == 0) as u64);
        t.check(&format!("selp.b{bits} {d}, {a}, {b}, p;"), |x, y, z| {
            cut(bits, if z & 1 == 1 { x } else { y } as i128)
        });
    }
}

pub fn comparisons(t: &mut Table) {
    use Ordering::{Equal, Greater, Less};
    let signs: [(&str, &[Ordering]); 6] = [
        ("eq", &[Equal]),
        ("ne", &[Less, Greater]),
        ("lt", &[Less]),
        ("le", &[Less, Equal]),
        ("gt", &[Greater]),
        ("ge", &[Greater, Equal]),
    ];
    for ty in WHOLE {
        let [_, a, b, _] = registers(width(ty));
        for (name, wanted) in signs {
            t.check(&format!("setp.{name}.{ty} q, {a}, {b};"), |x, y, _| {
                wanted.contains(&whole(ty, x).cmp(&whole(ty, y))) as u64
            });
        }
    }
    for (ty, format) in
        [("f16", Some(Float::F16)), ("bf16", Some(Float::BF16)), ("f32", Some(Float::F32)), ("f64", None)]
    {
        let bits = match ty {
            "f64" => 64,
            "f32" => 32,
            _ => 16,
        };
        let [_, a, b, _] = registers(bits);
        let value = move |x: u64| format.map_or(f64::from_bits(x), |format| format.value(cut(bits, x as i128) as u32));
        for unordered in [false, true] {
            for (name, wanted) in signs {
                let name = if unordered { format!("{name}u") } else { name.to_owned() };
                t.check(&format!("setp.{name}.{ty} q, {a}, {b};"), |x, y, _| {
                    value(x).partial_cmp(&value(y)).map_or(unordered, |order| wanted.contains(&order)) as u64
                });
            }
        }
        for (name, is_nan) in [("num", false), ("nan", true)] {
            t.check(&format!("setp.{name}.{ty} q, {a}, {b};"), |x, y, _| {
                ((value(x).is_nan() || value(y).is_nan()) == is_nan) as u64
            });
        }
    }
}

pub fn conversions(t: &mut Table) {
    let all = ["u8", "s8", "u16", "s16", "u32", "s32", "u64", "s64"];
    let floats = [("f16", Some(Float::F16)), ("bf16", Some(Float::BF16)), ("f32", Some(Float::F32)), ("f64", None)];
    let holder = |bits: u32| registers(bits.max(16));
    for from in all {
        let a = holder(width(from))[1];
        for to in all {
            let d = holder(width(to))[0];
            let bits = width(to);
            // A signed result fills its register.
            let fill = |x: i128| {
                cut(bits.max(16), if to.starts_with('s') { whole(to, x as u64) } else { cut(bits, x) as i128 })
            };
            t.check(&format!("cvt.{to}.{from} {d}, {a};"), |x, _, _| fill(whole(from, x)));
            t.check(&format!("cvt.sat.{to}.{from} {d}, {a};"), |x, _, _| {
                let (low, high) = (whole(to, 1 << (bits - 1)), whole(to, u64::MAX));
                let (low, high) = if to.starts_with('s') { (low, -low - 1) } else { (0, high) };
                fill(whole(from, x).clamp(low, high))
            });
        }
        for (to, format) in floats {
            let Some(format) = format else { continue };
            let d = registers(if to == "f32" { 32 } else { 16 })[0];
            for mode in ["rn", "rz", "rm", "rp"] {
                t.check(&format!("cvt.{mode}.{to}.{from} {d}, {a};"), |x, _, _| {
                    rounded(format, whole(from, x), mode) as u64
                });
            }
        }
        t.check(&format!("cvt.rn.f64.{from} D, {a};"), |x, _, _| (whole(from, x) as f64).to_bits());
    }
    for (from, format) in floats {
        let from_bits = format.map_or(64, |format| 1 + format.exponent + format.mantissa);
        let a = registers(from_bits)[1];
        let value =
            move |x: u64| format.map_or(f64::from_bits(x), |format| format.value(cut(from_bits, x as i128) as u32));
        for to in all {
            let (d, bits) = (holder(width(to))[0], width(to));
            let modes = [
                ("rni", f64::round_ties_even as fn(f64) -> f64),
                ("rzi", f64::trunc),
                ("rmi", f64::floor),
                ("rpi", f64::ceil),
            ];
            for (mode, f) in modes {
                t.check(&format!("cvt.{mode}.{to}.{from} {d}, {a};"), |x, _, _| {
                    let x = value(x);
                    let top = 1i128 << (bits - 1);
                    let (low, high) = if to.starts_with('s') { (-top, top - 1) } else { (0, 2 * top - 1) };
                    // The manual's NaN: 0, or the top bit where either side has 64 bits.
                    let whole_x = match (x.is_nan(), bits == 64 || from == "f64") {
                        (true, true) => return cut(bits.max(16), whole(to, 1 << (bits - 1))),
                        (true, false) => 0,
                        _ => (f(x) as i128).clamp(low, high),
                    };
                    cut(bits.max(16), whole_x)
                });
            }
        }
        for (to, target) in floats {
            let d = registers(target.map_or(64, |target| 1 + target.exponent + target.mantissa))[0];
            match target {
                None if from != "f64" => t.check(&format!("cvt.f64.{from} {d}, {a};"), |x, _, _| nan64(value(x))),
                Some(target) if target.mantissa < format.map_or(52, |format| format.mantissa) => {
                    for mode in ["rn", "rz", "rm", "rp"] {
                        t.check(&format!("cvt.{mode}.{to}.{from} {d}, {a};"), |x, _, _| {
                            let x = value(x);
                            (if x.is_nan() { target.nan() } else { rounded(target, x, mode) }) as u64
                        });
                    }
                }
                _ => {}
            }
        }
    }
}
