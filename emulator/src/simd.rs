//! The few loops that need more than the baseline instruction set to be fast: chosen once, when a kernel is decoded.

#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(test)]
mod tests;

use crate::memory::W;
use crate::numeric::Rounding;
use crate::numeric::single::{Single, canonical};
use crate::tensor::{
    self, Factors, LANES, Left, Multiply, PendingMatrix, Right, Rule, Scratch, Sums, TensorCores, accumulate,
};

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
fn has_avx512() -> bool {
    std::arch::is_x86_feature_detected!("avx512f")
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

/// Asks for a cache line that will be read soon.
#[inline(always)]
pub(crate) fn prefetch<T>(place: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: every x86-64 host has the instruction; it changes nothing and never faults, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(place).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}

/// `mma.sync` on the registers of a warp.
pub(crate) fn product(multiply: &Multiply, cores: TensorCores, scratch: &mut Scratch, w: &mut [W]) {
    if cores != TensorCores::Sequential {
        let rule = Rule { cores, input: multiply.input, half: multiply.half };
        return multiply.apply(scratch, w, |_, a, b, c, k| accumulate_groups(&rule, a, b, c, k));
    }
    #[cfg(target_arch = "x86_64")]
    if !multiply.half && has_avx512() {
        // SAFETY: the host has AVX-512F, as just asked.
        return unsafe { avx512::product(multiply, w) };
    }
    #[cfg(target_arch = "x86_64")]
    if has_fma() {
        // SAFETY: the host has AVX2, as just asked.
        return unsafe { product_avx2(multiply, scratch, w) };
    }
    multiply.apply(scratch, w, accumulate);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn product_avx2(multiply: &Multiply, scratch: &mut Scratch, w: &mut [W]) {
    multiply.apply(scratch, w, |packed, a, b, c, k| accumulate_avx2(packed, a, b, c, k));
}

/// `tensor::accumulate` with eight sums of eight lanes in registers.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn accumulate_avx2(packed: usize, a: &Left, b: &Right, c: &mut Sums, k: usize) {
    use std::arch::x86_64::{
        __m256, _mm256_add_ps, _mm256_loadu_ps, _mm256_mul_ps, _mm256_permute_ps, _mm256_storeu_ps,
    };

    #[target_feature(enable = "avx2,fma")]
    fn load(from: &[f32; 8]) -> __m256 {
        // SAFETY: the pointer comes from a reference to eight floats, and the load needs no alignment.
        unsafe { _mm256_loadu_ps(from.as_ptr()) }
    }

    /// Adds the products of lanes `Q` of every four (a column of A) with a row of B.
    #[target_feature(enable = "avx2,fma")]
    fn add<const Q: i32>(rows: &[__m256; 4], [even, odd]: &[[f32; 8]; 2], sums: &mut [[__m256; 2]; 4]) {
        let (even, odd) = (load(even), load(odd));
        for (row, sum) in rows.iter().zip(sums) {
            let row = _mm256_permute_ps::<Q>(*row);
            // No fused multiply-add: the products are exact, and all hosts shall agree.
            sum[0] = _mm256_add_ps(sum[0], _mm256_mul_ps(row, even));
            sum[1] = _mm256_add_ps(sum[1], _mm256_mul_ps(row, odd));
        }
    }

    for (a, [even, odd]) in a.iter().zip(c) {
        let (even, odd) = (even.as_chunks_mut::<8>().0, odd.as_chunks_mut::<8>().0);
        let mut sums: [[__m256; 2]; 4] = std::array::from_fn(|p| [load(&even[p]), load(&odd[p])]);
        for (parts, b) in a.chunks_exact(packed).zip(b.chunks_exact(4 * packed)).take(k / (4 * packed)) {
            let rows = |part: usize| {
                let [a, b, c, d] = parts[part].as_chunks::<8>().0 else {
                    unreachable!("32 lanes are four times eight")
                };
                [load(a), load(b), load(c), load(d)]
            };
            if let [b0, b1, b2, b3, b4, b5, b6, b7] = b {
                let (first, second) = (rows(0), rows(1));
                add::<0x00>(&first, b0, &mut sums);
                add::<0x00>(&second, b1, &mut sums);
                add::<0x55>(&first, b2, &mut sums);
                add::<0x55>(&second, b3, &mut sums);
                add::<0xaa>(&first, b4, &mut sums);
                add::<0xaa>(&second, b5, &mut sums);
                add::<0xff>(&first, b6, &mut sums);
                add::<0xff>(&second, b7, &mut sums);
            } else if let [b0, b1, b2, b3] = b {
                let rows = rows(0);
                add::<0x00>(&rows, b0, &mut sums);
                add::<0x55>(&rows, b1, &mut sums);
                add::<0xaa>(&rows, b2, &mut sums);
                add::<0xff>(&rows, b3, &mut sums);
            }
        }
        for (p, sum) in sums.iter().enumerate() {
            // SAFETY: the pointers come from references to eight floats each, and the stores need no alignment.
            unsafe {
                _mm256_storeu_ps(even[p].as_mut_ptr(), sum[0]);
                _mm256_storeu_ps(odd[p].as_mut_ptr(), sum[1]);
            }
        }
    }
}

/// `tensor::accumulate_groups`.
fn accumulate_groups(rule: &Rule, a: &Left, b: &Right, c: &mut Sums, k: usize) {
    #[cfg(target_arch = "x86_64")]
    if has_fma() {
        // SAFETY: the host has AVX2, as just asked.
        return unsafe { accumulate_groups_avx2(rule, a, b, c, k) };
    }
    tensor::accumulate_groups(rule, a, b, c, k);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn accumulate_groups_avx2(rule: &Rule, a: &Left, b: &Right, c: &mut Sums, k: usize) {
    tensor::accumulate_groups(rule, a, b, c, k);
}

/// `tensor::add_group`.
pub(crate) fn add_group(rule: &Rule, terms: &[Factors], sums: &mut [f32; LANES]) {
    #[cfg(target_arch = "x86_64")]
    if has_fma() {
        // SAFETY: the host has AVX2, as just asked.
        return unsafe { add_group_avx2(rule, terms, sums) };
    }
    tensor::add_group(rule, terms, sums);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn add_group_avx2(rule: &Rule, terms: &[Factors], sums: &mut [f32; LANES]) {
    tensor::add_group(rule, terms, sums);
}

/// Eight columns of a `wgmma`, added to the registers of a warp.
pub(crate) fn block(
    product: &PendingMatrix,
    block: usize,
    columns: &[W; 2],
    cores: TensorCores,
    scratch: &mut Scratch,
    w: &mut [W],
) {
    if cores != TensorCores::Sequential {
        let rule = Rule { cores, input: product.input(), half: product.is_half() };
        return product.block(block, columns, scratch, w, |_, a, b, c, k| accumulate_groups(&rule, a, b, c, k));
    }
    #[cfg(target_arch = "x86_64")]
    if !product.is_half() && has_avx512() {
        // SAFETY: the host has AVX-512F, as just asked.
        return unsafe { avx512::block(product, block, columns, &scratch.a, w) };
    }
    #[cfg(target_arch = "x86_64")]
    if has_fma() {
        // SAFETY: the host has AVX2, as just asked.
        return unsafe { block_avx2(product, block, columns, scratch, w) };
    }
    product.block(block, columns, scratch, w, accumulate);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn block_avx2(product: &PendingMatrix, block: usize, columns: &[W; 2], scratch: &mut Scratch, w: &mut [W]) {
    product.block(block, columns, scratch, w, |packed, a, b, c, k| accumulate_avx2(packed, a, b, c, k));
}
