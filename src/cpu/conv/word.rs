//! What the register tiles multiply: 32-bit words, in staged tensors and in packed filters alike.
//!
//! An fp32 element is a word, and so is a pair of bfloat16 elements where the machine multiplies pairs. A kernel that moves and
//! broadcasts words is the same for both; it does twice the work on pairs. Where no instruction multiplies pairs, and for IEEE halves,
//! 16-bit elements are widened when they are staged or packed, which is exact, and count as fp32 from there on.

#![allow(unsafe_code)]

use super::stage::{BLOCK, PAIR_BLOCK};
use crate::{
    cpu::simd::{Isa, Pairs, Simd},
    tensor::DType,
};

/// What a word holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// An fp32 element.
    Single,
    /// Two bfloat16 elements that meet two others in one product: neighbours in the direction of the sum.
    Pair,
}

impl Word {
    /// The words for tensors of `dtype`.
    pub(super) fn of(dtype: DType, isa: Isa) -> Self {
        if dtype == DType::Bf16 && isa == Isa::Avx512Bf16 { Self::Pair } else { Self::Single }
    }

    /// Elements of a word.
    pub(super) fn elements(self) -> usize {
        if self == Self::Pair { 2 } else { 1 }
    }
}

/// The product of words.
pub(super) trait Multiply<S: Simd> {
    /// Whether words are pairs.
    const PAIRS: bool;

    /// Words of a block of staged channels.
    const BLOCK: usize;

    /// `c` plus the product of `a` and `b`.
    ///
    /// # Safety
    /// The machine runs `S`.
    unsafe fn multiply(a: S::V, b: S::V, c: S::V) -> S::V;
}

/// [`Word::Single`].
pub(super) struct Single;

/// [`Word::Pair`].
pub(super) struct Pair;

impl<S: Simd> Multiply<S> for Single {
    const PAIRS: bool = false;
    const BLOCK: usize = BLOCK;

    #[inline(always)]
    unsafe fn multiply(a: S::V, b: S::V, c: S::V) -> S::V {
        // SAFETY: the caller's promise.
        unsafe { S::fma(a, b, c) }
    }
}

impl<S: Pairs> Multiply<S> for Pair {
    const PAIRS: bool = true;
    const BLOCK: usize = PAIR_BLOCK;

    #[inline(always)]
    unsafe fn multiply(a: S::V, b: S::V, c: S::V) -> S::V {
        // SAFETY: the caller's promise.
        unsafe { S::multiply_pairs(a, b, c) }
    }
}
