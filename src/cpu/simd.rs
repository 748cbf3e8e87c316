//! One SIMD vocabulary, three instruction sets, chosen at run time: one binary for every machine.
//!
//! A kernel is written once, generic over [`Simd`], as a [`Kernel`] whose `run` is inlined into a function compiled for
//! the chosen instruction set ([`dispatch`]). So no kernel exists in copies, and no build flag is needed.

#![allow(unsafe_code)]

use half::{bf16, f16};

use super::element::Element;

mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

use portable::Portable;

/// An instruction set that kernels can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// [`Isa::Avx512`] with an instruction that multiplies pairs of bfloat16 elements.
    Avx512Bf16,
    /// 16 fp32 lanes, 32 registers (x86-64).
    Avx512,
    /// 8 fp32 lanes with fused multiply-add, 16 registers (x86-64).
    Avx2,
    /// Plain Rust that the compiler vectorises for the target's baseline (NEON on AArch64).
    Portable,
}

impl Isa {
    /// All of them, best first.
    pub const ALL: [Isa; 4] = [Isa::Avx512Bf16, Isa::Avx512, Isa::Avx2, Isa::Portable];

    /// Whether this machine can run it.
    pub fn is_available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Bf16 => is_x86_feature_detected!("avx512bf16") && Isa::Avx512.is_available(),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => {
                let words = is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vl");
                words && is_x86_feature_detected!("avx512f") && Isa::Avx2.is_available()
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => {
                let halves = is_x86_feature_detected!("f16c");
                halves && is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
            }
            #[cfg(not(target_arch = "x86_64"))]
            Isa::Avx512Bf16 | Isa::Avx512 | Isa::Avx2 => false,
            Isa::Portable => true,
        }
    }

    /// The best that this machine can run.
    pub fn best() -> Self {
        Self::ALL.into_iter().find(|isa| isa.is_available()).unwrap_or(Isa::Portable)
    }

    /// fp32 lanes of one register.
    pub fn lanes(self) -> usize {
        if self.is_wide() { 16 } else { 8 }
    }

    /// Whether it has the registers of AVX-512: 32 of 16 lanes.
    pub(crate) fn is_wide(self) -> bool {
        matches!(self, Isa::Avx512Bf16 | Isa::Avx512)
    }
}

impl std::fmt::Display for Isa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Isa::Avx512Bf16 => "AVX-512 with bf16",
            Isa::Avx512 => "AVX-512",
            Isa::Avx2 => "AVX2",
            Isa::Portable => "portable vectors",
        })
    }
}

/// Elements of a cache line, and of the widest vector: a load that crosses lines costs two.
pub(crate) const ALIGNMENT: usize = 16;

/// Asks for the cache lines of a slice, to be in the second-level cache when it is read later, or in the first (`NEAR`), when it is
/// written soon.
#[inline(always)]
pub(crate) fn prefetch<T, const NEAR: bool>(data: &[T]) {
    #[cfg(target_arch = "x86_64")]
    for byte in (0..size_of_val(data)).step_by(size_of::<f32>() * ALIGNMENT) {
        use std::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};
        // SAFETY: a prefetch reads nothing that the program could see, and its address lies inside the slice.
        unsafe {
            let line = data.as_ptr().cast::<i8>().add(byte);
            if NEAR { _mm_prefetch::<_MM_HINT_T0>(line) } else { _mm_prefetch::<_MM_HINT_T1>(line) }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = data;
}

/// The part of a workspace that begins at a cache line.
pub(crate) fn aligned(workspace: &mut [f32]) -> &mut [f32] {
    let skip = workspace.as_ptr().align_offset(size_of::<f32>() * ALIGNMENT).min(workspace.len());
    &mut workspace[skip..]
}

/// fp32 vectors of one instruction set.
///
/// # Safety
/// Every function requires the instruction set; loads and stores require `LANES` (or `count`) readable or writable elements.
pub trait Simd: Copy + 'static {
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

    /// bfloat16 elements, widened.
    #[inline(always)]
    unsafe fn load_bf16(from: *const bf16) -> Self::V {
        // SAFETY: LANES elements are readable (the trait's contract).
        unsafe { widen::<Self, bf16>(from) }
    }

    /// bfloat16 elements, rounded to nearest even.
    #[inline(always)]
    unsafe fn store_bf16(to: *mut bf16, v: Self::V) {
        // SAFETY: LANES elements are writable (the trait's contract).
        unsafe { narrow::<Self, bf16>(to, v) }
    }

    /// The first `count` bfloat16 elements, widened; 0 in the other lanes.
    #[inline(always)]
    unsafe fn load_bf16_partial(from: *const bf16, count: usize) -> Self::V {
        let mut lanes = [bf16::ZERO; 16];
        // SAFETY: count <= LANES <= 16 elements are readable (the trait's contract).
        unsafe {
            std::ptr::copy_nonoverlapping(from, lanes.as_mut_ptr(), count);
            Self::load_bf16(lanes.as_ptr())
        }
    }

    /// The first `count` lanes, rounded to nearest even.
    #[inline(always)]
    unsafe fn store_bf16_partial(to: *mut bf16, v: Self::V, count: usize) {
        let mut lanes = [bf16::ZERO; 16];
        // SAFETY: count <= LANES <= 16 elements are writable (the trait's contract).
        unsafe {
            Self::store_bf16(lanes.as_mut_ptr(), v);
            std::ptr::copy_nonoverlapping(lanes.as_ptr(), to, count);
        }
    }

    /// IEEE halves, widened.
    #[inline(always)]
    unsafe fn load_f16(from: *const f16) -> Self::V {
        // SAFETY: LANES elements are readable (the trait's contract).
        unsafe { widen::<Self, f16>(from) }
    }

    /// IEEE halves, rounded to nearest even.
    #[inline(always)]
    unsafe fn store_f16(to: *mut f16, v: Self::V) {
        // SAFETY: LANES elements are writable (the trait's contract).
        unsafe { narrow::<Self, f16>(to, v) }
    }

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

/// One element after the other, in a loop that the compiler vectorises where it can.
#[inline(always)]
unsafe fn widen<S: Simd, E: Element>(from: *const E) -> S::V {
    let mut lanes = [0.0f32; 16];
    // SAFETY: LANES <= 16 elements are readable (the caller's promise).
    unsafe {
        for lane in 0..S::LANES {
            lanes[lane] = from.add(lane).read_unaligned().widen();
        }
        S::load(lanes.as_ptr())
    }
}

/// Its inverse.
#[inline(always)]
unsafe fn narrow<S: Simd, E: Element>(to: *mut E, v: S::V) {
    let mut lanes = [0.0f32; 16];
    // SAFETY: LANES <= 16 elements are writable (the caller's promise).
    unsafe {
        S::store(lanes.as_mut_ptr(), v);
        for lane in 0..S::LANES {
            to.add(lane).write_unaligned(E::narrow(lanes[lane]));
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
    if isa.is_wide() { dispatch_wide(isa, kernel) } else { dispatch_narrow(isa, kernel) }
}

/// Runs a kernel whose sums need the registers of AVX-512: it is compiled for nothing else.
///
/// # Panics
/// If `isa` is not wide.
#[inline]
pub(crate) fn dispatch_wide<K: Kernel>(isa: Isa, kernel: K) -> K::Output {
    assert!(isa.is_wide(), "{isa:?} lacks the registers");
    #[cfg(target_arch = "x86_64")]
    // SAFETY: an `Isa` in use was checked by `is_available`, which asked the processor for these features.
    return unsafe { x86::run_avx512(kernel) };
    #[cfg(not(target_arch = "x86_64"))]
    unreachable!("wide instruction sets are not available on this target")
}

/// Runs a kernel whose sums fit 16 registers, for instruction sets that have no more: it is compiled for nothing else.
///
/// # Panics
/// If `isa` is wide.
#[inline]
pub(crate) fn dispatch_narrow<K: Kernel>(isa: Isa, kernel: K) -> K::Output {
    assert!(!isa.is_wide(), "{isa:?} has larger tiles");
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as in `dispatch_wide`.
        Isa::Avx2 => unsafe { x86::run_avx2(kernel) },
        // SAFETY: plain Rust needs nothing.
        _ => unsafe { kernel.run::<Portable>() },
    }
}

/// Runs a kernel with vectors of 8 lanes and the 32 registers of AVX-512: for results that would leave half of 16 lanes idle. Where
/// the processor has two halves, and joins them for 16 lanes, it takes half the time.
///
/// # Panics
/// If `isa` is not wide.
#[inline]
pub(crate) fn dispatch_half<K: Kernel>(isa: Isa, kernel: K) -> K::Output {
    assert!(isa.is_wide(), "{isa:?} lacks the registers");
    #[cfg(target_arch = "x86_64")]
    // SAFETY: as in `dispatch_wide`.
    return unsafe { x86::run_avx512_half(kernel) };
    #[cfg(not(target_arch = "x86_64"))]
    unreachable!("wide instruction sets are not available on this target")
}

/// Vectors of words that hold two bfloat16 elements each, the first in the low half.
pub(crate) trait Pairs: Simd {
    /// `c` plus the products of the words' first elements and of their second elements, summed in fp32. Denormal numbers count
    /// as zero.
    unsafe fn multiply_pairs(a: Self::V, b: Self::V, c: Self::V) -> Self::V;

    /// Each lane's nearest bfloat16 number, the even one of two.
    unsafe fn round(v: Self::V) -> Self::V;

    /// The words whose elements are `first` and `second`, lanes of bfloat16 numbers.
    unsafe fn pair(first: Self::V, second: Self::V) -> Self::V;

    /// The words' first elements, widened.
    unsafe fn first(words: Self::V) -> Self::V;
}

/// Work that [`dispatch_pairs`] compiles for instruction sets that multiply pairs.
pub(crate) trait PairKernel {
    /// The work; see [`Kernel::run`].
    ///
    /// # Safety
    /// The machine runs `S`.
    unsafe fn run<S: Pairs>(self);
}

/// Runs `kernel` with an instruction set that multiplies pairs.
///
/// # Panics
/// If `isa` is another one.
#[inline]
pub(crate) fn dispatch_pairs<K: PairKernel>(isa: Isa, kernel: K) {
    assert!(isa == Isa::Avx512Bf16, "{isa:?} multiplies no pairs");
    #[cfg(target_arch = "x86_64")]
    // SAFETY: as in `dispatch_wide`.
    unsafe {
        x86::run_avx512_bf16(kernel);
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = kernel;
}

/// Runs `kernel` as [`dispatch_half`] does, with an instruction set that multiplies pairs.
///
/// # Panics
/// If `isa` is another one.
#[inline]
pub(crate) fn dispatch_half_pairs<K: PairKernel>(isa: Isa, kernel: K) {
    assert!(isa == Isa::Avx512Bf16, "{isa:?} multiplies no pairs");
    #[cfg(target_arch = "x86_64")]
    // SAFETY: as in `dispatch_wide`.
    unsafe {
        x86::run_avx512_bf16_half(kernel);
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = kernel;
}
