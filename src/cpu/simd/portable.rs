//! Vectors for every target: the compiler makes of them what the baseline has.

#![allow(unsafe_code)]

use super::Simd;

/// Eight lanes in plain Rust: two NEON registers, or what the baseline has.
#[derive(Clone, Copy)]
pub(super) struct Portable;

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
