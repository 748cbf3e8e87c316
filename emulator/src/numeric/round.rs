//! Rounding of an exact (or odd-rounded) f64 to any narrower format, in any direction.
//!
//! Every narrow operation computes in f64 with *round to odd* when f64 itself is inexact: the last bit then says
//! "something was cut off", and a second rounding to at most 51 bits cannot go wrong in any mode.

/// A rounding direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rounding {
    /// Ties to even.
    Nearest,
    /// Ties away from zero (`.rna`).
    Away,
    Zero,
    Down,
    Up,
}

/// A binary float format with a sign bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Format {
    mantissa: u32,
    exponent: u32,
    nan: u32,
    /// The largest finite pattern.
    max: u32,
    infinity: Option<u32>,
}

impl Format {
    pub(crate) const F32: Format =
        Format { mantissa: 23, exponent: 8, nan: 0x7fff_ffff, max: 0x7f7f_ffff, infinity: Some(0x7f80_0000) };
    pub(crate) const F16: Format =
        Format { mantissa: 10, exponent: 5, nan: 0x7fff, max: 0x7bff, infinity: Some(0x7c00) };
    pub(crate) const BF16: Format =
        Format { mantissa: 7, exponent: 8, nan: 0x7fff, max: 0x7f7f, infinity: Some(0x7f80) };
    /// Nineteen significant bits; stored in the upper bits of an f32.
    pub(crate) const TF32: Format =
        Format { mantissa: 10, exponent: 8, nan: 0x3ffff, max: 0x3fbff, infinity: Some(0x3fc00) };
    /// No infinity; only the all-ones pattern is NaN.
    pub(crate) const E4M3: Format = Format { mantissa: 3, exponent: 4, nan: 0x7f, max: 0x7e, infinity: None };
    pub(crate) const E5M2: Format = Format { mantissa: 2, exponent: 5, nan: 0x7f, max: 0x7b, infinity: Some(0x7c) };

    /// `.satfinite`: infinities become the largest finite number.
    pub(crate) fn clamp(self, bits: u32, satfinite: bool) -> u32 {
        let magnitude = bits & (self.sign_bit() - 1);
        let overflown = self.infinity == Some(magnitude);
        if satfinite && overflown { bits & self.sign_bit() | self.max } else { bits }
    }

    fn sign_bit(self) -> u32 {
        1 << (self.mantissa + self.exponent)
    }

    /// The value of a pattern, exactly.
    pub(crate) fn widen(self, bits: u32) -> f64 {
        let magnitude = bits & (self.sign_bit() - 1);
        let sign = if bits & self.sign_bit() != 0 { -1.0 } else { 1.0 };
        if magnitude > self.max {
            return if self.infinity == Some(magnitude) { sign * f64::INFINITY } else { f64::NAN };
        }
        let bias = (1i32 << (self.exponent - 1)) - 1;
        let field = (magnitude >> self.mantissa) as i32;
        let fraction = (magnitude & ((1 << self.mantissa) - 1)) as f64 / (1u64 << self.mantissa) as f64;
        let value =
            if field == 0 { fraction * power_of_two(1 - bias) } else { (1.0 + fraction) * power_of_two(field - bias) };
        sign * value
    }
}

fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

/// Rounds `x` to `format`. Results beyond the range become infinity, or the largest number where the direction (or
/// the lack of an infinity) says so.
pub(crate) fn narrow(x: f64, format: Format, rounding: Rounding) -> u32 {
    if x.is_nan() {
        return format.nan;
    }
    let bits = x.to_bits();
    let negative = bits >> 63 != 0;
    let sign = if negative { format.sign_bit() } else { 0 };
    let overflow = match rounding {
        Rounding::Nearest | Rounding::Away => format.infinity.unwrap_or(format.nan),
        Rounding::Zero => format.max,
        Rounding::Down => {
            if negative {
                format.infinity.unwrap_or(format.nan)
            } else {
                format.max
            }
        }
        Rounding::Up => {
            if negative {
                format.max
            } else {
                format.infinity.unwrap_or(format.nan)
            }
        }
    };
    if x.is_infinite() {
        return sign | format.infinity.unwrap_or(format.nan);
    }
    if x == 0.0 {
        return sign;
    }
    // value = significand * 2^(exponent - 52). f64 denormals lie below every format here: only their sticky matters.
    let field = (bits >> 52 & 0x7ff) as i32;
    let (significand, exponent) =
        if field == 0 { (1u64 << 52 | 1, -1023) } else { (bits & ((1 << 52) - 1) | 1 << 52, field - 1023) };
    let smallest = 2 - (1i32 << (format.exponent - 1));
    let shift = (52 - format.mantissa as i32 + (smallest - exponent).max(0)).min(60) as u32;
    let kept = significand >> shift;
    let rest = significand & ((1u64 << shift) - 1);
    let tie = 1u64 << (shift - 1);
    let up = match rounding {
        Rounding::Nearest => rest > tie || (rest == tie && kept & 1 == 1),
        Rounding::Away => rest >= tie,
        Rounding::Zero => false,
        Rounding::Down => negative && rest != 0,
        Rounding::Up => !negative && rest != 0,
    };
    let scale = (exponent - smallest).max(0) as u64;
    // The implicit bit of `kept` carries into the exponent field, which also makes rounding up to the next binade right.
    let magnitude = (scale << format.mantissa) + kept + u64::from(up);
    let magnitude = if magnitude > format.max as u64 { overflow } else { magnitude as u32 };
    sign | magnitude
}

/// `a + b` rounded to odd.
pub(crate) fn sum_to_odd(a: f64, b: f64) -> f64 {
    let sum = a + b;
    if !sum.is_finite() {
        return sum;
    }
    let shadow = sum - a;
    let error = (a - (sum - shadow)) + (b - shadow);
    to_odd(sum, error)
}

/// `a * b + c` rounded to odd, where `a * b` is exact in f64 (factors of at most 26 bits).
pub(crate) fn fma_to_odd(a: f64, b: f64, c: f64) -> f64 {
    sum_to_odd(a * b, c)
}

/// `a / b` rounded to odd, for factors of at most 26 bits.
pub(crate) fn quotient_to_odd(a: f64, b: f64) -> f64 {
    let quotient = a / b;
    if !quotient.is_finite() || quotient == 0.0 || b.is_infinite() {
        return quotient;
    }
    let remainder = (-quotient).mul_add(b, a);
    to_odd(quotient, if b < 0.0 { -remainder } else { remainder })
}

/// The square root rounded to odd.
pub(crate) fn root_to_odd(a: f64) -> f64 {
    let root = a.sqrt();
    if !root.is_finite() || root == 0.0 {
        return root;
    }
    to_odd(root, (-root).mul_add(root, a))
}

/// `nearest` is the rounded value and `error` has the sign of what was cut off: moves to the odd neighbour.
fn to_odd(nearest: f64, error: f64) -> f64 {
    let bits = nearest.to_bits();
    if error == 0.0 || bits & 1 == 1 {
        return nearest;
    }
    if (error > 0.0) == (nearest > 0.0) { f64::from_bits(bits + 1) } else { f64::from_bits(bits - 1) }
}
