//! One SIMD vocabulary, three instruction sets, chosen at run time: one binary for every machine.
//!
//! A kernel is written once, generic over [`Simd`], as a [`Kernel`] whose `run` is inlined into a function compiled for
//! the chosen instruction set ([`dispatch`]). So no kernel exists in copies, and no build flag is needed.

/// An instruction set that kernels can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// 16 fp32 lanes, 32 registers (x86-64).
    Avx512,
    /// 8 fp32 lanes with fused multiply-add, 16 registers (x86-64).
    Avx2,
    /// Plain Rust that the compiler vectorises for the target's baseline (NEON on AArch64).
    Portable,
}

impl Isa {
    /// All of them, best first.
    pub const ALL: [Isa; 3] = [Isa::Avx512, Isa::Avx2, Isa::Portable];

    /// Whether this machine can run it.
    pub fn is_available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(not(target_arch = "x86_64"))]
            Isa::Avx512 | Isa::Avx2 => false,
            Isa::Portable => true,
        }
    }

    /// The best that this machine can run.
    pub fn best() -> Self {
        Self::ALL.into_iter().find(|isa| isa.is_available()).unwrap_or(Isa::Portable)
    }

    /// fp32 lanes of one register.
    pub fn lanes(self) -> usize {
        if self == Isa::Avx512 { 16 } else { 8 }
    }
}

impl std::fmt::Display for Isa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Isa::Avx512 => "AVX-512",
            Isa::Avx2 => "AVX2",
            Isa::Portable => "portable vectors",
        })
    }
}

/// Elements of a cache line, and of the widest vector: a load that crosses lines costs two.
pub(crate) const ALIGNMENT: usize = 16;

/// The part of a workspace that begins at a cache line.
pub(crate) fn aligned(workspace: &mut [f32]) -> &mut [f32] {
    let skip = workspace.as_ptr().align_offset(size_of::<f32>() * ALIGNMENT).min(workspace.len());
    &mut workspace[skip..]
}

/// fp32 vectors of one instruction set.
///
/// # Safety
/// Every function requires the instruction set; loads and stores require `LANES` (or `count`) readable or writable elements.
pub(crate) trait Simd: Copy + 'static {
    /// A register.
    type V: Copy;
    /// Elements of a register.
    const LANES: usize;
    /// All lanes `value`.
    unsafe fn splat(value: f32) -> Self::V;
    /// Unaligned load.
    unsafe fn load(from: *const f32) -> Self::V;
    /// Unaligned store.
    unsafe fn store(to: *mut f32, v: Self::V);
    /// `a * b + c`, fused where the machine can.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    /// Lane-wise maximum; `b` where `a` is not a number.
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// `value` where `a > b`, else 0.
    unsafe fn keep_where_greater(a: Self::V, b: Self::V, value: Self::V) -> Self::V;

    /// `value` where not `a > b`, else 0.
    unsafe fn keep_where_not_greater(a: Self::V, b: Self::V, value: Self::V) -> Self::V;

    /// `to[i][j] = from[j][i]` for LANES x LANES elements, rows `from_stride` and `to_stride` apart.
    #[inline(always)]
    unsafe fn transpose(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        // SAFETY: both squares are readable and writable (the trait's contract).
        unsafe {
            for i in 0..Self::LANES {
                for j in 0..Self::LANES {
                    *to.add(i * to_stride + j) = *from.add(j * from_stride + i);
                }
            }
        }
    }

    /// Sum of the lanes, by halves.
    #[inline(always)]
    unsafe fn sum(v: Self::V) -> f32 {
        let mut lanes = [0.0f32; 16];
        // SAFETY: LANES <= 16.
        unsafe { Self::store(lanes.as_mut_ptr(), v) };
        for width in [8, 4, 2, 1] {
            for lane in 0..width {
                lanes[lane] += lanes[lane + width];
            }
        }
        lanes[0]
    }

    /// Sums of the lanes of four vectors.
    #[inline(always)]
    unsafe fn sum4(v: [Self::V; 4]) -> [f32; 4] {
        // SAFETY: the trait's contract.
        v.map(|v| unsafe { Self::sum(v) })
    }

    /// All lanes 0.
    #[inline(always)]
    unsafe fn zero() -> Self::V {
        // SAFETY: the trait's contract.
        unsafe { Self::splat(0.0) }
    }

    /// The first `count` elements, 0 in the other lanes.
    #[inline(always)]
    unsafe fn load_partial(from: *const f32, count: usize) -> Self::V {
        let mut lanes = [0.0f32; 16];
        // SAFETY: count <= LANES <= 16 elements are readable (the trait's contract).
        unsafe {
            std::ptr::copy_nonoverlapping(from, lanes.as_mut_ptr(), count);
            Self::load(lanes.as_ptr())
        }
    }

    /// All lanes (`WHOLE`) or the first `count`.
    #[inline(always)]
    unsafe fn load_lanes<const WHOLE: bool>(from: *const f32, count: usize) -> Self::V {
        // SAFETY: the trait's contract.
        unsafe { if WHOLE { Self::load(from) } else { Self::load_partial(from, count) } }
    }

    /// All lanes (`WHOLE`) or the first `count`.
    #[inline(always)]
    unsafe fn store_lanes<const WHOLE: bool>(to: *mut f32, v: Self::V, count: usize) {
        // SAFETY: the trait's contract.
        unsafe { if WHOLE { Self::store(to, v) } else { Self::store_partial(to, v, count) } }
    }

    /// Stores the first `count` lanes.
    #[inline(always)]
    unsafe fn store_partial(to: *mut f32, v: Self::V, count: usize) {
        let mut lanes = [0.0f32; 16];
        // SAFETY: count <= LANES <= 16 elements are writable (the trait's contract).
        unsafe {
            Self::store(lanes.as_mut_ptr(), v);
            std::ptr::copy_nonoverlapping(lanes.as_ptr(), to, count);
        }
    }
}

/// Work that [`dispatch`] compiles once per instruction set.
pub(crate) trait Kernel {
    /// What it returns.
    type Output;
    /// The work. Mark it `#[inline(always)]`, and everything it calls with vectors too, or it is compiled for the baseline.
    ///
    /// # Safety
    /// The machine runs `S`.
    unsafe fn run<S: Simd>(self) -> Self::Output;
}

/// Runs `kernel` with the instruction set `isa`, which the machine has (as [`super::Threads`] makes sure).
#[inline]
pub(crate) fn dispatch<K: Kernel>(isa: Isa, kernel: K) -> K::Output {
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: an `Isa` in use was checked by `is_available`, which asked the processor for these features.
        Isa::Avx512 => unsafe { x86::run_avx512(kernel) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::Avx2 => unsafe { x86::run_avx2(kernel) },
        // SAFETY: plain Rust needs nothing.
        _ => unsafe { kernel.run::<Portable>() },
    }
}

/// Eight lanes in plain Rust: two NEON registers, or what the baseline has.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

#[inline(always)]
fn multiply_add(a: f32, b: f32, c: f32) -> f32 {
    // Without the instruction, `mul_add` would call a library function for every element.
    if cfg!(any(target_feature = "fma", target_arch = "aarch64")) { a.mul_add(b, c) } else { a * b + c }
}

// SAFETY of the blocks below: `load` and `store` touch LANES elements, which the trait's contract grants.
impl Simd for Portable {
    type V = [f32; 8];
    const LANES: usize = 8;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self::V {
        [value; 8]
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self::V {
        // SAFETY: see above.
        unsafe { from.cast::<[f32; 8]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: Self::V) {
        // SAFETY: see above.
        unsafe { to.cast::<[f32; 8]>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        std::array::from_fn(|i| multiply_add(a[i], b[i], c[i]))
    }
    #[inline(always)]
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i] + b[i])
    }
    #[inline(always)]
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i] - b[i])
    }
    #[inline(always)]
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i] * b[i])
    }
    #[inline(always)]
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    unsafe fn keep_where_greater(a: Self::V, b: Self::V, value: Self::V) -> Self::V {
        std::array::from_fn(|i| if a[i] > b[i] { value[i] } else { 0.0 })
    }
    #[inline(always)]
    #[expect(clippy::neg_cmp_op_on_partial_ord, reason = "not a number is not greater")]
    unsafe fn keep_where_not_greater(a: Self::V, b: Self::V, value: Self::V) -> Self::V {
        std::array::from_fn(|i| if !(a[i] > b[i]) { value[i] } else { 0.0 })
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Kernel, Simd};

    #[target_feature(enable = "avx512f,avx2,fma,bmi2")]
    pub(super) unsafe fn run_avx512<K: Kernel>(kernel: K) -> K::Output {
        // SAFETY: the caller checked the processor.
        unsafe { kernel.run::<Avx512>() }
    }

    #[target_feature(enable = "avx2,fma")]
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

    /// All bits of the first `count` lanes.
    #[inline(always)]
    unsafe fn first_lanes(count: usize) -> __m256i {
        // SAFETY: the caller runs AVX2.
        unsafe { _mm256_cmpgt_epi32(_mm256_set1_epi32(count as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)) }
    }

    #[derive(Clone, Copy)]
    pub(crate) struct Avx2;

    impl Simd for Avx2 {
        type V = __m256;
        const LANES: usize = 8;
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
            load_partial(from: *const f32, count: usize) -> __m256 = _mm256_maskload_ps(from, first_lanes(count));
            store_partial(to: *mut f32, v: __m256, count: usize) = _mm256_maskstore_ps(to, first_lanes(count), v);
        }
    }
}
