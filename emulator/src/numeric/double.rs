//! f64 arithmetic in directed rounding modes, in whole numbers: neither products nor results that underflow lose anything
//! before they are rounded.

use super::Rounding;

/// NaN results carry this pattern, whatever the operands' payloads.
pub(crate) const NAN: u64 = 0x7ff8_0000_0000_0000;

/// The exponent of the last place of the smallest numbers.
const LEAST: i32 = -1074;

pub(crate) fn canonical(x: f64) -> f64 {
    if x.is_nan() { f64::from_bits(NAN) } else { x }
}

/// An exact number: `significand` times two to the `exponent`, and a little more if something is `cut` off.
#[derive(Debug, Clone, Copy)]
struct Exact {
    negative: bool,
    significand: u128,
    exponent: i32,
    cut: bool,
}

impl Exact {
    /// Of a finite number.
    fn of(x: f64) -> Exact {
        let (bits, field) = (x.to_bits(), (x.to_bits() >> 52 & 0x7ff) as i32);
        let fraction = bits & ((1 << 52) - 1);
        let significand = u128::from(fraction | if field == 0 { 0 } else { 1 << 52 });
        Exact { negative: x.is_sign_negative(), significand, exponent: field.max(1) - 1075, cut: false }
    }

    /// Of at most 106 bits.
    fn times(self, other: Exact) -> Exact {
        Exact {
            negative: self.negative != other.negative,
            significand: self.significand * other.significand,
            exponent: self.exponent + other.exponent,
            cut: false,
        }
    }

    /// Bits before the point.
    fn top(self) -> i32 {
        self.exponent + 128 - self.significand.leading_zeros() as i32
    }

    /// In units of two to this power; what lies below is cut off.
    fn at(self, exponent: i32) -> (u128, bool) {
        match exponent - self.exponent {
            shift @ ..=0 => (self.significand << -shift, false),
            shift @ 1..128 => (self.significand >> shift, self.significand << (128 - shift) != 0),
            _ => (0, self.significand != 0),
        }
    }

    /// The sum of two numbers that are not zero, of at most 106 bits each.
    fn plus(self, other: Exact) -> Exact {
        // Where bits of one are cut off, the other is so much larger that more than a hundred bits stay.
        let unit = self.top().max(other.top()) - 126;
        let ((a, a_cut), (b, b_cut)) = (self.at(unit), other.at(unit));
        if self.negative == other.negative {
            return Exact { significand: a + b, exponent: unit, cut: a_cut || b_cut, ..self };
        }
        // The smaller one was cut off, so one unit less is left, and a little more.
        let (sign, larger, smaller, cut) =
            if a > b { (self.negative, a, b, b_cut) } else { (other.negative, b, a, a_cut) };
        let significand = larger - smaller - u128::from(cut);
        Exact { negative: sign, significand, exponent: unit, cut }
    }

    /// The f64 next in this direction, which is not [`Rounding::Nearest`].
    fn round(self, rounding: Rounding) -> f64 {
        let length = 128 - self.significand.leading_zeros() as i32;
        let last = (self.exponent + length - 53).max(LEAST);
        let (kept, below) = self.at(last);
        let away = match rounding {
            Rounding::Down => self.negative,
            Rounding::Up => !self.negative,
            _ => false,
        };
        // The implicit bit carries into the exponent.
        let bits = (((last - LEAST) as u64) << 52) + kept as u64 + u64::from(away && (below || self.cut));
        let infinity = f64::INFINITY.to_bits();
        let magnitude = if bits < infinity || away { bits.min(infinity) } else { infinity - 1 };
        f64::from_bits(magnitude | u64::from(self.negative) << 63)
    }
}

/// What needs no rounding: to nearest the host's own result, and in every mode those of infinities and NaNs.
fn settled(nearest: f64, operands: &[f64], rounding: Rounding) -> Option<f64> {
    let is_settled = rounding == Rounding::Nearest || operands.iter().any(|x| !x.is_finite());
    is_settled.then(|| canonical(nearest))
}

/// The zero that is the sum of these two, or of a number and its opposite.
fn zero(a: f64, b: f64, rounding: Rounding) -> f64 {
    match (a.is_sign_negative(), b.is_sign_negative()) {
        (true, true) => -0.0,
        (false, false) => 0.0,
        _ if rounding == Rounding::Down => -0.0,
        _ => 0.0,
    }
}

pub(crate) fn add(a: f64, b: f64, rounding: Rounding) -> f64 {
    fma(a, 1.0, b, rounding)
}

pub(crate) fn mul(a: f64, b: f64, rounding: Rounding) -> f64 {
    let nearest = a * b;
    if let Some(settled) = settled(nearest, &[a, b], rounding) {
        return settled;
    }
    if a == 0.0 || b == 0.0 { nearest } else { Exact::of(a).times(Exact::of(b)).round(rounding) }
}

pub(crate) fn fma(a: f64, b: f64, c: f64, rounding: Rounding) -> f64 {
    if let Some(settled) = settled(a.mul_add(b, c), &[a, b, c], rounding) {
        return settled;
    }
    let is_zero = a == 0.0 || b == 0.0;
    let product = Exact::of(a).times(Exact::of(b));
    let of_product = if product.negative { -0.0 } else { 0.0 };
    match (is_zero, c == 0.0) {
        (true, true) => zero(of_product, c, rounding),
        (true, false) => c,
        (false, true) => product.round(rounding),
        (false, false) => match product.plus(Exact::of(c)) {
            Exact { significand: 0, cut: false, .. } => zero(of_product, c, rounding),
            sum => sum.round(rounding),
        },
    }
}

pub(crate) fn div(a: f64, b: f64, rounding: Rounding) -> f64 {
    let nearest = a / b;
    if let Some(settled) = settled(nearest, &[a, b], rounding) {
        return settled;
    }
    if a == 0.0 || b == 0.0 {
        return canonical(nearest);
    }
    let (a, b) = (Exact::of(a), Exact::of(b));
    // As many bits as there is room for: at least 74 of the quotient.
    let shift = a.significand.leading_zeros() as i32;
    let dividend = a.significand << shift;
    let (significand, rest) = (dividend / b.significand, dividend % b.significand);
    let exponent = a.exponent - shift - b.exponent;
    Exact { negative: a.negative != b.negative, significand, exponent, cut: rest != 0 }.round(rounding)
}

pub(crate) fn sqrt(a: f64, rounding: Rounding) -> f64 {
    let nearest = a.sqrt();
    if let Some(settled) = settled(nearest, &[a], rounding) {
        return settled;
    }
    if a <= 0.0 {
        return canonical(nearest);
    }
    let a = Exact::of(a);
    // An even exponent, and at least 126 bits, of which the root has half.
    let shift = a.significand.leading_zeros() as i32;
    let shift = shift - (a.exponent - shift).rem_euclid(2);
    let square = a.significand << shift;
    let significand = square.isqrt();
    let cut = significand * significand != square;
    Exact { negative: false, significand, exponent: (a.exponent - shift) / 2, cut }.round(rounding)
}
