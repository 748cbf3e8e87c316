//! f32 arithmetic on bit patterns: rounding modes, `.ftz`, `.sat`, canonical NaN.

use super::round::{fma_to_odd, quotient_to_odd, root_to_odd, sum_to_odd};
use super::{Format, Rounding, narrow};

/// NaN results of f32 instructions carry this pattern.
pub(crate) const NAN: u32 = 0x7fff_ffff;

/// Denormals become zero of the same sign.
#[inline(always)]
pub(crate) fn flush(x: f32) -> f32 {
    let bits = x.to_bits();
    if bits & 0x7f80_0000 == 0 { f32::from_bits(bits & 0x8000_0000) } else { x }
}

#[inline(always)]
pub(crate) fn canonical(x: f32) -> u32 {
    if x.is_nan() { NAN } else { x.to_bits() }
}

/// `.sat`: to [0, 1], NaN to +0.
#[inline(always)]
pub(crate) fn saturate(x: f32) -> f32 {
    if x > 0.0 { if x < 1.0 { x } else { 1.0 } } else { 0.0 }
}

/// The modifiers that most f32 instructions share.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Single {
    pub rounding: Rounding,
    pub ftz: bool,
    pub sat: bool,
}

impl Single {
    #[inline(always)]
    pub(crate) fn input(self, bits: u32) -> f32 {
        let x = f32::from_bits(bits);
        if self.ftz { flush(x) } else { x }
    }

    #[inline(always)]
    pub(crate) fn output(self, x: f32) -> u32 {
        let x = if self.ftz { flush(x) } else { x };
        if self.sat { saturate(x).to_bits() } else { canonical(x) }
    }

    /// Rounds an exact or odd-rounded result.
    pub(crate) fn round(self, x: f64) -> u32 {
        self.output(f32::from_bits(narrow(x, Format::F32, self.rounding)))
    }

    pub(crate) fn add(self, a: u32, b: u32) -> u32 {
        let (a, b) = (self.input(a), self.input(b));
        // x + -x is -0 when rounding down; odd rounding never sees it because the sum is exact.
        if self.rounding == Rounding::Down && a == -b && a.to_bits() != b.to_bits() && a.is_finite() {
            return self.output(-0.0);
        }
        self.round(sum_to_odd(a as f64, b as f64))
    }

    pub(crate) fn mul(self, a: u32, b: u32) -> u32 {
        self.round(self.input(a) as f64 * self.input(b) as f64)
    }

    pub(crate) fn fma(self, a: u32, b: u32, c: u32) -> u32 {
        let (a, b, c) = (self.input(a) as f64, self.input(b) as f64, self.input(c) as f64);
        let product = a * b;
        if self.rounding == Rounding::Down && product == -c && product.to_bits() != c.to_bits() && c.is_finite() {
            return self.output(-0.0);
        }
        self.round(fma_to_odd(a, b, c))
    }

    pub(crate) fn div(self, a: u32, b: u32) -> u32 {
        self.round(quotient_to_odd(self.input(a) as f64, self.input(b) as f64))
    }

    pub(crate) fn sqrt(self, a: u32) -> u32 {
        self.round(root_to_odd(self.input(a) as f64))
    }

    /// A function that hardware approximates: computed in f64 and rounded, so it differs from a GPU by ulps.
    pub(crate) fn approximate(self, a: u32, f: impl Fn(f64) -> f64) -> u32 {
        self.output(f(self.input(a) as f64) as f32)
    }
}

/// `min`/`max` on f32 patterns. Without `.NaN` the number wins over a NaN; -0 counts as less than +0.
#[inline(always)]
pub(crate) fn extremum(a: u32, b: u32, largest: bool, nan_wins: bool) -> u32 {
    let (x, y) = (f32::from_bits(a), f32::from_bits(b));
    let first = if x == y { (a >> 31 == 0) == largest } else { (x > y) == largest };
    let chosen = if first { a } else { b };
    // Selections rather than branches: this vectorises.
    let chosen = if x.is_nan() { b } else { chosen };
    let chosen = if y.is_nan() { a } else { chosen };
    let no_number = x.is_nan() & y.is_nan() | nan_wins & (x.is_nan() | y.is_nan());
    if no_number { NAN } else { chosen }
}
