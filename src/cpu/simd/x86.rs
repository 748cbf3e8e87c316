//! The vectors of x86-64: AVX-512 and AVX2.

#![allow(unsafe_code)]

use std::arch::x86_64::*;

use half::{bf16, f16};

use super::{Kernel, PairKernel, Pairs, Simd};

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,fma,f16c,bmi2")]
pub(super) unsafe fn run_avx512<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: the caller checked the processor.
    unsafe { kernel.run::<Avx512>() }
}

#[target_feature(enable = "avx512bf16,avx512f,avx512bw,avx512vl,avx2,fma,f16c,bmi2")]
pub(super) unsafe fn run_avx512_bf16<K: PairKernel>(kernel: K) {
    // SAFETY: the caller checked the processor.
    unsafe { kernel.run::<Avx512>() }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,fma,f16c,bmi2")]
pub(super) unsafe fn run_avx512_half<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: the caller checked the processor.
    unsafe { kernel.run::<Half>() }
}

#[target_feature(enable = "avx512bf16,avx512f,avx512bw,avx512vl,avx2,fma,f16c,bmi2")]
pub(super) unsafe fn run_avx512_bf16_half<K: PairKernel>(kernel: K) {
    // SAFETY: the caller checked the processor.
    unsafe { kernel.run::<Half>() }
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn run_avx2<K: Kernel>(kernel: K) -> K::Output {
    // SAFETY: the caller checked the processor.
    unsafe { kernel.run::<Avx2>() }
}

#[derive(Clone, Copy)]
pub(crate) struct Avx512;

/// A function of the trait as one intrinsic.
macro_rules! intrinsics {
    ($($(#[$doc:meta])* $name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)? = $body:expr;)*) => {
        $(#[inline(always)]
        unsafe fn $name($($argument: $type),*) $(-> $result)? {
            // SAFETY: the machine runs the instruction set and the pointer covers LANES elements (the trait's contract).
            unsafe { $body }
        })*
    };
}

impl Simd for Avx512 {
    type V = __m512;
    const LANES: usize = 16;
    intrinsics! {
        splat(value: f32) -> __m512 = _mm512_set1_ps(value);
        load(from: *const f32) -> __m512 = _mm512_loadu_ps(from);
        store(to: *mut f32, v: __m512) = _mm512_storeu_ps(to, v);
        fma(a: __m512, b: __m512, c: __m512) -> __m512 = _mm512_fmadd_ps(a, b, c);
        add(a: __m512, b: __m512) -> __m512 = _mm512_add_ps(a, b);
        sub(a: __m512, b: __m512) -> __m512 = _mm512_sub_ps(a, b);
        mul(a: __m512, b: __m512) -> __m512 = _mm512_mul_ps(a, b);
        max(a: __m512, b: __m512) -> __m512 = _mm512_max_ps(a, b);
        keep_where_greater(a: __m512, b: __m512, value: __m512) -> __m512 =
            _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b), value);
        keep_where_not_greater(a: __m512, b: __m512, value: __m512) -> __m512 =
            _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_NGT_UQ>(a, b), value);
        load_partial(from: *const f32, count: usize) -> __m512 =
            _mm512_maskz_loadu_ps(((1u32 << count) - 1) as u16, from);
        store_partial(to: *mut f32, v: __m512, count: usize) =
            _mm512_mask_storeu_ps(to, ((1u32 << count) - 1) as u16, v);
        load_bf16(from: *const bf16) -> __m512 =
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()))));
        store_bf16(to: *mut bf16, v: __m512) = {
            _mm256_storeu_si256(to.cast(), _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(nearest_bf16(v))));
        };
        load_bf16_partial(from: *const bf16, count: usize) -> __m512 = {
            let halves = _mm256_maskz_loadu_epi16(((1u32 << count) - 1) as u16, from.cast());
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves)))
        };
        store_bf16_partial(to: *mut bf16, v: __m512, count: usize) = {
            let halves = _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(nearest_bf16(v)));
            _mm256_mask_storeu_epi16(to.cast(), ((1u32 << count) - 1) as u16, halves);
        };
        load_f16(from: *const f16) -> __m512 = _mm512_cvtph_ps(_mm256_loadu_si256(from.cast()));
        store_f16(to: *mut f16, v: __m512) =
            _mm256_storeu_si256(to.cast(), _mm512_cvtps_ph::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(v));
        sum(v: __m512) -> f32 = _mm512_reduce_add_ps(v);
        sum4(v: [__m512; 4]) -> [f32; 4] = {
            // Within each 128-bit lane add the four vectors' elements, so that it holds one partial sum of each; then the lanes.
            let pair = |a, b| _mm512_castps_pd(_mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b)));
            let (a, b) = (pair(v[0], v[1]), pair(v[2], v[3]));
            let low = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
            let four = _mm512_add_ps(low, _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)));
            let half = _mm512_castpd_ps(_mm512_shuffle_f64x2::<0x4e>(_mm512_castps_pd(four), _mm512_castps_pd(four)));
            let two = _mm256_add_ps(_mm512_castps512_ps256(four), _mm512_castps512_ps256(half));
            let one = _mm_add_ps(_mm256_castps256_ps128(two), _mm256_extractf128_ps::<1>(two));
            let mut sums = [0.0; 4];
            _mm_storeu_ps(sums.as_mut_ptr(), one);
            sums
        };
        transpose(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) = {
            // 4x4 squares within the 128-bit lanes first: q[g][k], lane l, holds rows 4g..4g+4 of column 4l+k.
            let mut q = [[_mm512_setzero_ps(); 4]; 4];
            for g in 0..4 {
                let row = |i: usize| _mm512_loadu_ps(from.add((4 * g + i) * from_stride));
                let (a, b, c, d) = (row(0), row(1), row(2), row(3));
                let pair = |x, y| _mm512_castps_pd(_mm512_unpacklo_ps(x, y));
                let high = |x, y| _mm512_castps_pd(_mm512_unpackhi_ps(x, y));
                q[g] = [
                    _mm512_castpd_ps(_mm512_unpacklo_pd(pair(a, b), pair(c, d))),
                    _mm512_castpd_ps(_mm512_unpackhi_pd(pair(a, b), pair(c, d))),
                    _mm512_castpd_ps(_mm512_unpacklo_pd(high(a, b), high(c, d))),
                    _mm512_castpd_ps(_mm512_unpackhi_pd(high(a, b), high(c, d))),
                ];
            }
            // Then the lanes: even ones of two registers, then even and odd ones of those.
            for k in 0..4 {
                let even = _mm512_shuffle_f32x4::<0x88>(q[0][k], q[1][k]);
                let even_below = _mm512_shuffle_f32x4::<0x88>(q[2][k], q[3][k]);
                let odd = _mm512_shuffle_f32x4::<0xdd>(q[0][k], q[1][k]);
                let odd_below = _mm512_shuffle_f32x4::<0xdd>(q[2][k], q[3][k]);
                _mm512_storeu_ps(to.add(k * to_stride), _mm512_shuffle_f32x4::<0x88>(even, even_below));
                _mm512_storeu_ps(to.add((4 + k) * to_stride), _mm512_shuffle_f32x4::<0x88>(odd, odd_below));
                _mm512_storeu_ps(to.add((8 + k) * to_stride), _mm512_shuffle_f32x4::<0xdd>(even, even_below));
                _mm512_storeu_ps(to.add((12 + k) * to_stride), _mm512_shuffle_f32x4::<0xdd>(odd, odd_below));
            }
        };
    }
}

impl Pairs for Avx512 {
    intrinsics! {
        multiply_pairs(a: __m512, b: __m512, c: __m512) -> __m512 =
            _mm512_dpbf16_ps(c, std::mem::transmute::<__m512, __m512bh>(a), std::mem::transmute::<__m512, __m512bh>(b));
        round(v: __m512) -> __m512 =
            _mm512_castsi512_ps(_mm512_and_si512(nearest_bf16(v), _mm512_set1_epi32(0xffff_0000_u32 as i32)));
        pair(first: __m512, second: __m512) -> __m512 = {
            let first = _mm512_srli_epi32::<16>(_mm512_castps_si512(first));
            _mm512_castsi512_ps(_mm512_or_si512(first, _mm512_castps_si512(second)))
        };
        first(words: __m512) -> __m512 = _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_castps_si512(words)));
    }
}

/// Lanes whose upper halves are the nearest bfloat16 numbers, as `bf16::narrow` of `Element`.
#[inline(always)]
unsafe fn nearest_bf16(v: __m512) -> __m512i {
    // SAFETY: the caller runs AVX-512.
    unsafe {
        let bits = _mm512_castps_si512(v);
        let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
        let nearest = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
        let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(v, v);
        _mm512_mask_or_epi32(nearest, nan, bits, _mm512_set1_epi32(0x40_0000))
    }
}

/// All bits of the first `count` lanes.
#[inline(always)]
unsafe fn first_lanes(count: usize) -> __m256i {
    // SAFETY: the caller runs AVX2.
    unsafe { _mm256_cmpgt_epi32(_mm256_set1_epi32(count as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)) }
}

#[derive(Clone, Copy)]
pub(crate) struct Avx2;

/// What vectors of 8 lanes do alike with AVX2 and with AVX-512.
macro_rules! intrinsics_of_8_lanes {
    () => {
        intrinsics! {
            splat(value: f32) -> __m256 = _mm256_set1_ps(value);
            load(from: *const f32) -> __m256 = _mm256_loadu_ps(from);
            store(to: *mut f32, v: __m256) = _mm256_storeu_ps(to, v);
            fma(a: __m256, b: __m256, c: __m256) -> __m256 = _mm256_fmadd_ps(a, b, c);
            add(a: __m256, b: __m256) -> __m256 = _mm256_add_ps(a, b);
            sub(a: __m256, b: __m256) -> __m256 = _mm256_sub_ps(a, b);
            mul(a: __m256, b: __m256) -> __m256 = _mm256_mul_ps(a, b);
            max(a: __m256, b: __m256) -> __m256 = _mm256_max_ps(a, b);
            keep_where_greater(a: __m256, b: __m256, value: __m256) -> __m256 =
                _mm256_and_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(a, b), value);
            keep_where_not_greater(a: __m256, b: __m256, value: __m256) -> __m256 =
                _mm256_and_ps(_mm256_cmp_ps::<_CMP_NGT_UQ>(a, b), value);
            sum4(v: [__m256; 4]) -> [f32; 4] = {
                // Neighbours, twice; then the halves.
                let four = _mm256_hadd_ps(_mm256_hadd_ps(v[0], v[1]), _mm256_hadd_ps(v[2], v[3]));
                let one = _mm_add_ps(_mm256_castps256_ps128(four), _mm256_extractf128_ps::<1>(four));
                let mut sums = [0.0; 4];
                _mm_storeu_ps(sums.as_mut_ptr(), one);
                sums
            };
            load_bf16(from: *const bf16) -> __m256 =
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()))));
            load_f16(from: *const f16) -> __m256 = _mm256_cvtph_ps(_mm_loadu_si128(from.cast()));
            store_f16(to: *mut f16, v: __m256) =
                _mm_storeu_si128(to.cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v));
        }
    };
}

impl Simd for Avx2 {
    type V = __m256;
    const LANES: usize = 8;
    intrinsics_of_8_lanes! {}
    intrinsics! {
        store_bf16(to: *mut bf16, v: __m256) = {
            let words = _mm256_srli_epi32::<16>(nearest_bf16_half(v));
            // Packing works within halves: the second half's words end up in quarter 2.
            let packed = _mm256_permute4x64_epi64::<0b1000>(_mm256_packus_epi32(words, words));
            _mm_storeu_si128(to.cast(), _mm256_castsi256_si128(packed));
        };
        load_partial(from: *const f32, count: usize) -> __m256 = _mm256_maskload_ps(from, first_lanes(count));
        store_partial(to: *mut f32, v: __m256, count: usize) = _mm256_maskstore_ps(to, first_lanes(count), v);
    }
}

/// Vectors of 8 lanes with AVX-512's masks and registers.
#[derive(Clone, Copy)]
pub(crate) struct Half;

impl Simd for Half {
    type V = __m256;
    const LANES: usize = 8;
    intrinsics_of_8_lanes! {}
    intrinsics! {
        store_bf16(to: *mut bf16, v: __m256) =
            _mm_storeu_si128(to.cast(), _mm256_cvtepi32_epi16(_mm256_srli_epi32::<16>(nearest_bf16_half(v))));
        load_partial(from: *const f32, count: usize) -> __m256 =
            _mm256_maskz_loadu_ps(((1u32 << count) - 1) as u8, from);
        store_partial(to: *mut f32, v: __m256, count: usize) =
            _mm256_mask_storeu_ps(to, ((1u32 << count) - 1) as u8, v);
        load_bf16_partial(from: *const bf16, count: usize) -> __m256 = {
            let halves = _mm_maskz_loadu_epi16(((1u32 << count) - 1) as u8, from.cast());
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(halves)))
        };
        store_bf16_partial(to: *mut bf16, v: __m256, count: usize) = {
            let halves = _mm256_cvtepi32_epi16(_mm256_srli_epi32::<16>(nearest_bf16_half(v)));
            _mm_mask_storeu_epi16(to.cast(), ((1u32 << count) - 1) as u8, halves);
        };
    }
}

impl Pairs for Half {
    intrinsics! {
        multiply_pairs(a: __m256, b: __m256, c: __m256) -> __m256 =
            _mm256_dpbf16_ps(c, std::mem::transmute::<__m256, __m256bh>(a), std::mem::transmute::<__m256, __m256bh>(b));
        round(v: __m256) -> __m256 =
            _mm256_castsi256_ps(_mm256_and_si256(nearest_bf16_half(v), _mm256_set1_epi32(0xffff_0000_u32 as i32)));
        pair(first: __m256, second: __m256) -> __m256 = {
            let first = _mm256_srli_epi32::<16>(_mm256_castps_si256(first));
            _mm256_castsi256_ps(_mm256_or_si256(first, _mm256_castps_si256(second)))
        };
        first(words: __m256) -> __m256 = _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_castps_si256(words)));
    }
}

/// As [`nearest_bf16`].
#[inline(always)]
unsafe fn nearest_bf16_half(v: __m256) -> __m256i {
    // SAFETY: the caller runs AVX2.
    unsafe {
        let bits = _mm256_castps_si256(v);
        let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
        let nearest = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
        let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x40_0000));
        let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(v, v));
        _mm256_blendv_epi8(nearest, quiet, nan)
    }
}
