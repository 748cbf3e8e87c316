//! What this machine can do right now: the yardsticks that benchmarks are read against.

#![allow(unsafe_code)]

use std::{hint::black_box, time::Instant};

use super::{
    Isa, Threads,
    simd::{Kernel, PairKernel, Pairs, Simd, dispatch, dispatch_pairs},
};

/// Independent sums of one thread: more than the latency of a multiply-add takes, and few enough for 16 registers.
const SUMS: usize = 12;

/// Multiply-adds of one sum in one task: about a millisecond.
const ROUNDS: usize = 1 << 18;

/// Which products are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Products {
    /// Of fp32 elements.
    Single,
    /// Of bfloat16 elements, with fp32 sums.
    Half,
}

/// GFLOP/s of multiply-adds whose operands never leave the registers, on all threads: what no matrix product can exceed. The best of five.
/// Where no instruction multiplies bfloat16 elements they are multiplied as fp32 ones.
pub fn multiply_adds(threads: &Threads, products: Products) -> f64 {
    let tasks = 4 * threads.count();
    let pairs = products == Products::Half && threads.isa() == Isa::Avx512Bf16;
    let seconds = best_of(5, || {
        threads.run(tasks, &|_| {
            let mut sum = 0.0;
            let work = MultiplyAdd { factors: black_box([1.0, 0.5]), sum: &mut sum };
            if pairs {
                dispatch_pairs(threads.isa(), work)
            } else {
                dispatch(threads.isa(), work)
            }
            black_box(sum);
        });
    });
    let elements = threads.isa().lanes() * if pairs { 2 } else { 1 };
    (2 * elements * SUMS * ROUNDS * tasks) as f64 / seconds / 1e9
}

struct MultiplyAdd<'a> {
    factors: [f32; 2],
    sum: &'a mut f32,
}

impl MultiplyAdd<'_> {
    #[inline(always)]
    unsafe fn compute<S: Simd>(self, multiply: impl Fn(S::V, S::V, S::V) -> S::V) {
        // SAFETY: the machine runs S (the caller's promise).
        unsafe {
            let [a, b] = self.factors.map(|factor| S::splat(factor));
            let mut sums = [S::zero(); SUMS];
            for _ in 0..ROUNDS {
                for i in 0..SUMS {
                    sums[i] = multiply(a, b, sums[i]);
                }
            }
            *self.sum = sums.into_iter().map(|sum| S::sum(sum)).sum();
        }
    }
}

impl Kernel for MultiplyAdd<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: the machine runs S.
        unsafe { self.compute::<S>(|a, b, c| S::fma(a, b, c)) }
    }
}

impl PairKernel for MultiplyAdd<'_> {
    #[inline(always)]
    unsafe fn run<S: Pairs>(self) {
        // SAFETY: the machine runs S.
        unsafe { self.compute::<S>(|a, b, c| S::multiply_pairs(a, b, c)) }
    }
}

/// GB/s of a copy of 256 MiB, bytes read and written both counted: the best of five.
pub fn copy(threads: &Threads) -> f64 {
    let from = vec![1.0f32; 64 << 20];
    let mut to = vec![0.0f32; from.len()];
    let seconds = best_of(5, || super::elementwise::copy(threads, &from, &mut to));
    8.0 * from.len() as f64 / seconds / 1e9
}

fn best_of(runs: usize, mut work: impl FnMut()) -> f64 {
    work();
    (0..runs)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64()
        })
        .fold(f64::INFINITY, f64::min)
}
