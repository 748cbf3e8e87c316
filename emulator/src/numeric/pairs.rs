//! fp16 and bf16 arithmetic for whole warps: in f32 and without branches, so that it vectorises.
//!
//! A sum, difference or product of two such numbers may be rounded to f32 first: its 24 bits are at least twice the
//! significand plus two (Figueroa), and denormal results are exact in f32. `fma` needs more: its product is exact in
//! f32, and the sum is rounded to odd, which a second rounding to at most 22 bits cannot spoil.

use super::half::{Half, HalfMath, bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16};
use super::single::extremum;
use crate::memory::W;

/// The number in the low half of a register.
#[inline(always)]
fn widen<const BF16: bool>(bits: u32) -> f32 {
    if BF16 { bf16_to_f32(bits) } else { f16_to_f32(bits & 0xffff) }
}

#[inline(always)]
fn finish<const BF16: bool>(relu: bool, x: f32) -> u32 {
    let bits = if BF16 { f32_to_bf16(x) } else { f32_to_f16(x) };
    // NaN stays NaN.
    if relu & (x <= 0.0) { 0 } else { bits }
}

#[inline(always)]
pub(crate) fn add<const BF16: bool>(relu: bool, a: u32, b: u32) -> u32 {
    finish::<BF16>(relu, widen::<BF16>(a) + widen::<BF16>(b))
}

#[inline(always)]
pub(crate) fn sub<const BF16: bool>(relu: bool, a: u32, b: u32) -> u32 {
    finish::<BF16>(relu, widen::<BF16>(a) - widen::<BF16>(b))
}

#[inline(always)]
pub(crate) fn mul<const BF16: bool>(relu: bool, a: u32, b: u32) -> u32 {
    finish::<BF16>(relu, widen::<BF16>(a) * widen::<BF16>(b))
}

/// `min` or `max`, which give one of their operands.
#[inline(always)]
pub(crate) fn choose<const BF16: bool>(largest: bool, nan_wins: bool, a: u32, b: u32) -> u32 {
    let (x, y) = (widen::<BF16>(a), widen::<BF16>(b));
    let bits = extremum(x.to_bits(), y.to_bits(), largest, nan_wins);
    finish::<BF16>(false, f32::from_bits(bits))
}

/// `a * b + c` of the low halves, and whether f32 was too narrow for the product.
#[inline(always)]
fn fma_of<const BF16: bool>(relu: bool, a: u32, b: u32, c: u32) -> (u32, bool) {
    let (x, y, z) = (widen::<BF16>(a), widen::<BF16>(b), widen::<BF16>(c));
    let product = x * y;
    let sum = product + z;
    // What the sum has lost, exactly.
    let shadow = sum - product;
    let error = (product - (sum - shadow)) + (z - shadow);
    let bits = sum.to_bits();
    let inexact = (error != 0.0) & (bits & 0x7fff_ffff < 0x7f80_0000);
    let shrunk = (bits ^ error.to_bits()) >> 31;
    let odd = if inexact { bits.wrapping_sub(shrunk) | 1 } else { bits };
    let magnitude = product.to_bits() & 0x7fff_ffff;
    // Only bf16 has the exponents for it: beyond 2^126, or small enough to lose bits.
    let risky = BF16
        & ((magnitude.wrapping_sub(0x7e80_0000) <= 0x0100_0000)
            | ((magnitude < 0x0d80_0000) & (x != 0.0) & (y != 0.0)));
    (finish::<BF16>(relu, f32::from_bits(odd)), risky)
}

/// `fma` of one or two halves per register.
#[inline(always)]
pub(crate) fn fma<const BF16: bool>(relu: bool, packed: bool, a: &W, b: &W, c: &W) -> W {
    let mut out = [0; 32];
    let mut any_risky = false;
    for lane in 0..32 {
        let (value, risky) = fma_of::<BF16>(relu, a[lane], b[lane], c[lane]);
        out[lane] = value;
        any_risky |= risky;
    }
    if packed {
        for lane in 0..32 {
            let (value, risky) = fma_of::<BF16>(relu, a[lane] >> 16, b[lane] >> 16, c[lane] >> 16);
            out[lane] |= value << 16;
            any_risky |= risky;
        }
    }
    if any_risky { fma_slowly(relu, packed, a, b, c) } else { out }
}

#[inline(never)]
fn fma_slowly(relu: bool, packed: bool, a: &W, b: &W, c: &W) -> W {
    let math = HalfMath { half: Half::Bf16, ftz: false, sat: false, relu };
    std::array::from_fn(|lane| {
        let part = |shift: u32| {
            let [a, b, c] = [a, b, c].map(|row| row[lane] >> shift & 0xffff);
            math.fma(a, b, c) << shift
        };
        part(0) | if packed { part(16) } else { 0 }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every pattern class: zeros, denormals, powers of two and their neighbours, the largest, infinity, NaN.
    fn patterns(bf16: bool, count: usize) -> Vec<u32> {
        let mantissa = if bf16 { 7 } else { 10 };
        let fields = 1u32 << (15 - mantissa);
        let last = (1 << mantissa) - 1;
        let mut list: Vec<u32> = (0..fields).flat_map(|e| [0, 1, last].map(|m| e << mantissa | m)).collect();
        let mut state = 1u64;
        list.extend((0..count).map(|_| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as u32 & 0x7fff
        }));
        list.iter().flat_map(|&bits| [bits, bits | 0x8000]).collect()
    }

    /// Compares a share of all pairs, one in `step`.
    fn compare<const BF16: bool>(count: usize, step: usize) {
        let list = patterns(BF16, count);
        let half = if BF16 { Half::Bf16 } else { Half::F16 };
        for relu in [false, true] {
            let math = HalfMath { half, ftz: false, sat: false, relu };
            for (i, &a) in list.iter().enumerate() {
                for (j, &b) in list.iter().enumerate().skip(i % step).step_by(step) {
                    let pairs = [
                        ("add", add::<BF16>(relu, a, b), math.add(a, b)),
                        ("sub", sub::<BF16>(relu, a, b), math.sub(a, b)),
                        ("mul", mul::<BF16>(relu, a, b), math.mul(a, b)),
                        ("min", choose::<BF16>(false, relu, a, b), math.extremum(a, b, false, relu)),
                        ("max", choose::<BF16>(true, relu, a, b), math.extremum(a, b, true, relu)),
                    ];
                    for (name, found, wanted) in pairs {
                        assert_eq!(found, wanted, "{half:?} {name} {a:04x} {b:04x}");
                    }
                    // Every pair meets a few third operands, in both halves of the register.
                    let c: W = std::array::from_fn(|lane| list[(i * 31 + j * 17 + lane * 7) % list.len()]);
                    let row = fma::<BF16>(relu, true, &[a << 16 | b; 32], &[b << 16 | a; 32], &c.map(|c| c << 16 | c));
                    for lane in 0..32 {
                        let wanted = math.fma(a, b, c[lane]);
                        assert_eq!(row[lane], wanted << 16 | wanted, "{half:?} fma {a:04x} {b:04x} {:04x}", c[lane]);
                    }
                }
            }
        }
    }

    #[test]
    fn fp16_in_f32_equals_one_rounding_of_the_exact_result() {
        compare::<false>(160, 5);
    }

    #[test]
    fn bf16_in_f32_equals_one_rounding_of_the_exact_result() {
        compare::<true>(40, 41);
    }
}
