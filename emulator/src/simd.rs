//! The few loops that need more than the baseline instruction set to be fast: chosen once, when a kernel is decoded.

use crate::memory::W;
use crate::numeric::Rounding;
use crate::numeric::single::{Single, canonical};
use crate::tensor::{Left, Multiply, PendingMatrix};

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

/// `mma.sync` on the registers of a warp.
pub(crate) fn product(multiply: &Multiply, w: &mut [W]) {
    #[cfg(target_arch = "x86_64")]
    if has_fma() {
        // SAFETY: the host has AVX2, as just asked.
        return unsafe { product_avx2(multiply, w) };
    }
    multiply.apply(w);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn product_avx2(multiply: &Multiply, w: &mut [W]) {
    multiply.apply(w);
}

/// Eight columns of a `wgmma`, added to the registers of a warp.
pub(crate) fn block(product: &PendingMatrix, block: usize, a: &Left, columns: &[W; 2], w: &mut [W]) {
    #[cfg(target_arch = "x86_64")]
    if has_fma() {
        // SAFETY: the host has AVX2, as just asked.
        return unsafe { block_avx2(product, block, a, columns, w) };
    }
    product.block(block, a, columns, w);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn block_avx2(product: &PendingMatrix, block: usize, a: &Left, columns: &[W; 2], w: &mut [W]) {
    product.block(block, a, columns, w);
}
