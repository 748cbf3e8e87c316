//! What an activation's elements are: fp32, bfloat16 or IEEE half. Arithmetic is always in fp32: elements widen when they
//! are loaded, exactly, and round when they are stored, to nearest even.

#![allow(unsafe_code)]

use half::{bf16, f16};

use super::simd::Simd;
use crate::tensor::DType;

/// A floating-point element type.
///
/// # Safety
/// `load` and `store` touch `LANES` elements and nothing else.
pub unsafe trait Element: bytemuck::Pod + Send + Sync + std::fmt::Debug + PartialEq {
    /// Its name in specs.
    const DTYPE: DType;

    /// The same number in fp32.
    fn widen(self) -> f32;

    /// The nearest number of this type, the even one of two. What is no number stays no number. Not called `round`, which
    /// fp32 has already, for integers.
    fn narrow(value: f32) -> Self;

    /// A vector of elements.
    ///
    /// # Safety
    /// The machine runs `S`, and `LANES` elements are readable.
    unsafe fn load<S: Simd>(from: *const Self) -> S::V;

    /// Rounds and stores a vector.
    ///
    /// # Safety
    /// The machine runs `S`, and `LANES` elements are writable.
    unsafe fn store<S: Simd>(to: *mut Self, v: S::V);

    /// The first `count` elements, 0 in the other lanes.
    ///
    /// # Safety
    /// The machine runs `S`, and `count <= LANES` elements are readable.
    #[inline(always)]
    unsafe fn load_partial<S: Simd>(from: *const Self, count: usize) -> S::V {
        let mut lanes = [Self::zeroed(); 16];
        // SAFETY: count <= LANES <= 16 elements are readable (the caller's promise).
        unsafe {
            std::ptr::copy_nonoverlapping(from, lanes.as_mut_ptr(), count);
            Self::load::<S>(lanes.as_ptr())
        }
    }

    /// Rounds and stores the first `count` lanes.
    ///
    /// # Safety
    /// The machine runs `S`, and `count <= LANES` elements are writable.
    #[inline(always)]
    unsafe fn store_partial<S: Simd>(to: *mut Self, v: S::V, count: usize) {
        let mut lanes = [Self::zeroed(); 16];
        // SAFETY: count <= LANES <= 16 elements are writable (the caller's promise).
        unsafe {
            Self::store::<S>(lanes.as_mut_ptr(), v);
            std::ptr::copy_nonoverlapping(lanes.as_ptr(), to, count);
        }
    }

    /// All lanes (`WHOLE`) or the first `count`.
    ///
    /// # Safety
    /// As [`Element::load`] or [`Element::load_partial`].
    #[inline(always)]
    unsafe fn load_lanes<S: Simd, const WHOLE: bool>(from: *const Self, count: usize) -> S::V {
        // SAFETY: the caller's promise.
        unsafe { if WHOLE { Self::load::<S>(from) } else { Self::load_partial::<S>(from, count) } }
    }

    /// All lanes (`WHOLE`) or the first `count`.
    ///
    /// # Safety
    /// As [`Element::store`] or [`Element::store_partial`].
    #[inline(always)]
    unsafe fn store_lanes<S: Simd, const WHOLE: bool>(to: *mut Self, v: S::V, count: usize) {
        // SAFETY: the caller's promise.
        unsafe { if WHOLE { Self::store::<S>(to, v) } else { Self::store_partial::<S>(to, v, count) } }
    }
}

// SAFETY: the trait's functions of `Simd` touch LANES, or `count`, elements.
unsafe impl Element for f32 {
    const DTYPE: DType = DType::F32;

    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }
    #[inline(always)]
    fn narrow(value: f32) -> Self {
        value
    }
    #[inline(always)]
    unsafe fn load<S: Simd>(from: *const Self) -> S::V {
        // SAFETY: the caller's promise.
        unsafe { S::load(from) }
    }
    #[inline(always)]
    unsafe fn store<S: Simd>(to: *mut Self, v: S::V) {
        // SAFETY: the caller's promise.
        unsafe { S::store(to, v) }
    }
    #[inline(always)]
    unsafe fn load_partial<S: Simd>(from: *const Self, count: usize) -> S::V {
        // SAFETY: the caller's promise.
        unsafe { S::load_partial(from, count) }
    }
    #[inline(always)]
    unsafe fn store_partial<S: Simd>(to: *mut Self, v: S::V, count: usize) {
        // SAFETY: the caller's promise.
        unsafe { S::store_partial(to, v, count) }
    }
}

// SAFETY: as above; the partial functions of the trait go through an array of LANES elements.
unsafe impl Element for bf16 {
    const DTYPE: DType = DType::Bf16;

    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }
    /// In integers: what lies above half of the last place carries over, and half does where the last place is odd.
    #[inline(always)]
    fn narrow(value: f32) -> Self {
        let bits = value.to_bits();
        let nearest = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
        let quiet = bits >> 16 | 0x40;
        Self::from_bits(if value.is_nan() { quiet } else { nearest } as u16)
    }
    #[inline(always)]
    unsafe fn load<S: Simd>(from: *const Self) -> S::V {
        // SAFETY: the caller's promise.
        unsafe { S::load_bf16(from) }
    }
    #[inline(always)]
    unsafe fn store<S: Simd>(to: *mut Self, v: S::V) {
        // SAFETY: the caller's promise.
        unsafe { S::store_bf16(to, v) }
    }
    #[inline(always)]
    unsafe fn load_partial<S: Simd>(from: *const Self, count: usize) -> S::V {
        // SAFETY: the caller's promise.
        unsafe { S::load_bf16_partial(from, count) }
    }
    #[inline(always)]
    unsafe fn store_partial<S: Simd>(to: *mut Self, v: S::V, count: usize) {
        // SAFETY: the caller's promise.
        unsafe { S::store_bf16_partial(to, v, count) }
    }
}

// SAFETY: as above.
unsafe impl Element for f16 {
    const DTYPE: DType = DType::F16;

    #[inline(always)]
    fn widen(self) -> f32 {
        self.to_f32()
    }
    #[inline(always)]
    fn narrow(value: f32) -> Self {
        Self::from_f32(value)
    }
    #[inline(always)]
    unsafe fn load<S: Simd>(from: *const Self) -> S::V {
        // SAFETY: the caller's promise.
        unsafe { S::load_f16(from) }
    }
    #[inline(always)]
    unsafe fn store<S: Simd>(to: *mut Self, v: S::V) {
        // SAFETY: the caller's promise.
        unsafe { S::store_f16(to, v) }
    }
}

/// Evaluates an expression with `$E` naming the Rust type of a floating-point [`DType`].
macro_rules! with_element {
    ($dtype:expr, $E:ident => $body:expr) => {
        match $dtype {
            $crate::tensor::DType::F32 => {
                type $E = f32;
                $body
            }
            $crate::tensor::DType::Bf16 => {
                type $E = half::bf16;
                $body
            }
            $crate::tensor::DType::F16 => {
                type $E = half::f16;
                $body
            }
            other => unreachable!("elements of {other} are refused when an operation is recorded"),
        }
    };
}
pub(crate) use with_element;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::{Isa, Threads, elementwise::convert};

    /// Numbers around every 16-bit number and every tie between neighbours: exact, a bit below, a bit above; and what is
    /// no number.
    fn awkward<E: Element>(bits: impl Fn(u16) -> E) -> Vec<f32> {
        let mut list = vec![f32::NAN, -f32::NAN, f32::from_bits(0x7f80_0001), f32::MAX, f32::MIN, f32::MIN_POSITIVE];
        for pattern in 0..u16::MAX {
            let (low, high) = (bits(pattern).widen(), bits(pattern + 1).widen());
            if low.is_nan() || high.is_nan() {
                continue;
            }
            let tie = ((f64::from(low) + f64::from(high)) / 2.0) as f32;
            for x in [low, tie] {
                list.extend([x, f32::from_bits(x.to_bits().wrapping_sub(1)), f32::from_bits(x.to_bits() + 1)]);
            }
        }
        list
    }

    fn check<E: Element>(bits: impl Fn(u16) -> E, pattern: impl Fn(E) -> u16, nearest: impl Fn(f32) -> E) {
        let x = awkward(&bits);
        let all: Vec<E> = (0..=u16::MAX).map(&bits).collect();
        for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
            let threads = Threads::with_isa(1, isa);
            // Lengths that leave a part of a vector.
            for skip in 0..3 {
                let x = &x[skip..];
                let mut y = vec![bits(0); x.len()];
                convert(&threads, x, &mut y);
                for (&x, &y) in x.iter().zip(&y) {
                    let expected = nearest(x);
                    if x.is_nan() {
                        assert!(y.widen().is_nan() && E::narrow(x).widen().is_nan(), "{isa:?} {:x}", x.to_bits());
                        continue;
                    }
                    assert_eq!(pattern(y), pattern(expected), "{isa:?} {x:e} {:x}", x.to_bits());
                    assert_eq!(pattern(E::narrow(x)), pattern(expected), "{x:e}");
                }
                let mut wide = vec![0.0f32; all.len() - skip];
                convert(&threads, &all[skip..], &mut wide);
                for (&wide, &narrow) in wide.iter().zip(&all[skip..]) {
                    assert!(wide == narrow.widen() || wide.is_nan() && narrow.widen().is_nan(), "{isa:?} {narrow:?}");
                }
            }
        }
    }

    #[test]
    fn every_number_and_every_tie_rounds_to_nearest_even_with_every_instruction_set() {
        check(bf16::from_bits, bf16::to_bits, bf16::from_f32);
        check(f16::from_bits, f16::to_bits, f16::from_f32);
    }
}
