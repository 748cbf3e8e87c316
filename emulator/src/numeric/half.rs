//! fp16 and bf16: branch-free conversions for whole warps, and scalar arithmetic with one rounding.

use super::round::{fma_to_odd, sum_to_odd};
use super::{Format, Rounding, narrow, single};

/// fp16 or bf16.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Half {
    F16,
    Bf16,
}

/// fp16 to f32, exactly, in a form that vectorises: a multiplication normalises the denormals.
#[inline(always)]
pub(crate) fn f16_to_f32(bits: u32) -> f32 {
    let magnitude = (bits & 0x7fff) << 13;
    let scaled = f32::from_bits(magnitude) * f32::from_bits(0x7780_0000); // 2^112
    let special = f32::from_bits(magnitude | 0x7f80_0000);
    let value = if bits & 0x7c00 == 0x7c00 { special } else { scaled };
    f32::from_bits(value.to_bits() | (bits & 0x8000) << 16)
}

#[inline(always)]
pub(crate) fn bf16_to_f32(bits: u32) -> f32 {
    f32::from_bits(bits << 16)
}

/// f32 to bf16, to nearest even.
#[inline(always)]
pub(crate) fn f32_to_bf16(x: f32) -> u32 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    if x.is_nan() { 0x7fff } else { rounded }
}

/// f32 to fp16, to nearest even.
#[inline(always)]
pub(crate) fn f32_to_f16(x: f32) -> u32 {
    let bits = x.to_bits();
    let sign = bits >> 16 & 0x8000;
    let magnitude = bits & 0x7fff_ffff;
    // Denormal results: adding 0.5 * 2^-14 * 2^... aligns the last kept bit with the last bit of an f32.
    let denormal = (f32::from_bits(magnitude) + 0.5).to_bits().wrapping_sub(0x3f00_0000);
    let normal = magnitude.wrapping_sub(0x3800_0000).wrapping_add(0xfff + (magnitude >> 13 & 1)) >> 13;
    let finite = if magnitude < 0x3880_0000 { denormal } else { normal };
    let value = if magnitude >= 0x4780_0000 { 0x7c00 } else { finite };
    if magnitude > 0x7f80_0000 { 0x7fff } else { sign | value }
}

impl Half {
    pub(crate) fn format(self) -> Format {
        match self {
            Half::F16 => Format::F16,
            Half::Bf16 => Format::BF16,
        }
    }

    #[inline(always)]
    pub(crate) fn widen(self, bits: u32) -> f32 {
        match self {
            Half::F16 => f16_to_f32(bits & 0xffff),
            Half::Bf16 => bf16_to_f32(bits & 0xffff),
        }
    }

    /// To nearest even.
    #[inline(always)]
    pub(crate) fn narrow(self, x: f32) -> u32 {
        match self {
            Half::F16 => f32_to_f16(x),
            Half::Bf16 => f32_to_bf16(x),
        }
    }
}

/// The modifiers of half-precision arithmetic.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HalfMath {
    pub half: Half,
    pub ftz: bool,
    pub sat: bool,
    pub relu: bool,
}

impl HalfMath {
    pub(crate) fn input(self, bits: u32) -> f64 {
        let x = self.half.widen(bits);
        let denormal = self.ftz && bits & if self.half == Half::F16 { 0x7c00 } else { 0x7f80 } == 0;
        if denormal { 0.0f64.copysign(x as f64) } else { x as f64 }
    }

    pub(crate) fn output(self, exact: f64) -> u32 {
        let bits = narrow(exact, self.half.format(), Rounding::Nearest);
        self.finish(bits)
    }

    fn finish(self, bits: u32) -> u32 {
        let exponent = if self.half == Half::F16 { 0x7c00 } else { 0x7f80 };
        let bits = if self.ftz && bits & exponent == 0 { bits & 0x8000 } else { bits };
        let value = self.half.widen(bits);
        if self.sat {
            return self.half.narrow(single::saturate(value));
        }
        if self.relu && (value <= 0.0) && !value.is_nan() {
            return 0;
        }
        bits
    }

    pub(crate) fn add(self, a: u32, b: u32) -> u32 {
        self.output(sum_to_odd(self.input(a), self.input(b)))
    }

    pub(crate) fn sub(self, a: u32, b: u32) -> u32 {
        self.output(sum_to_odd(self.input(a), -self.input(b)))
    }

    pub(crate) fn mul(self, a: u32, b: u32) -> u32 {
        self.output(self.input(a) * self.input(b))
    }

    pub(crate) fn fma(self, a: u32, b: u32, c: u32) -> u32 {
        self.output(fma_to_odd(self.input(a), self.input(b), self.input(c)))
    }

    pub(crate) fn extremum(self, a: u32, b: u32, largest: bool, nan_wins: bool) -> u32 {
        let (x, y) = (self.input(a) as f32, self.input(b) as f32);
        let chosen = f32::from_bits(single::extremum(x.to_bits(), y.to_bits(), largest, nan_wins));
        if chosen.is_nan() { 0x7fff } else { self.half.narrow(chosen) }
    }
}
