//! The few loops that need more than the baseline instruction set to be fast: chosen once, when a kernel is decoded.

use crate::memory::W;
use crate::numeric::Rounding;
use crate::numeric::single::{Single, canonical};
use crate::tensor::{TileA, TileB, TileC};

/// A fused multiply-add of 32 lanes, rounded once to nearest, NaN canonical.
pub(crate) type Fma = Box<dyn Fn(&W, &W, &W) -> W + Send + Sync>;

/// The fastest exact implementation on this host.
pub(crate) fn fma() -> Fma {
    #[cfg(target_arch = "x86_64")]
    if has_fma() {
        return Box::new(|a, b, c| {
            // SAFETY: this closure is built only if the host has AVX2 and FMA, which never goes away while it runs.
            unsafe { fma_avx2(a, b, c) }
        });
    }
    Box::new(fma_portable)
}

/// Whether the wide loops may be used.
#[cfg(target_arch = "x86_64")]
pub(crate) fn has_fma() -> bool {
    std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma")
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn fma_avx2(a: &W, b: &W, c: &W) -> W {
    let mut out = [0; 32];
    for lane in 0..32 {
        out[lane] = canonical(f32::from_bits(a[lane]).mul_add(f32::from_bits(b[lane]), f32::from_bits(c[lane])));
    }
    out
}

/// Exact without hardware support: the sum is rounded to odd in f64 first.
pub(crate) fn fma_portable(a: &W, b: &W, c: &W) -> W {
    let math = Single { rounding: Rounding::Nearest, ftz: false, sat: false };
    let mut out = [0; 32];
    for lane in 0..32 {
        out[lane] = math.fma(a[lane], b[lane], c[lane]);
    }
    out
}

/// C += A B for the first `k` columns of A: products and sums in f32, in ascending k.
pub(crate) fn multiply(a: &TileA, b: &TileB, c: &mut TileC, k: usize) {
    #[cfg(target_arch = "x86_64")]
    if has_fma() {
        // SAFETY: the host has AVX2, as just asked.
        return unsafe { multiply_avx2(a, b, c, k) };
    }
    multiply_with(a, b, c, k);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn multiply_avx2(a: &TileA, b: &TileB, c: &mut TileC, k: usize) {
    multiply_with(a, b, c, k);
}

#[inline(always)]
fn multiply_with(a: &TileA, b: &TileB, c: &mut TileC, k: usize) {
    for (row, sums) in a.iter().zip(c) {
        let mut sum = *sums;
        // No fused multiply-add: the products are exact, and all hosts shall agree.
        for (&x, column) in row.iter().zip(b).take(k) {
            for j in 0..8 {
                sum[j] += x * column[j];
            }
        }
        *sums = sum;
    }
}
