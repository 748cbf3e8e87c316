//! Element-wise passes over tensors, threaded and vectorised: bound by memory, so each reads and writes once.
//!
//! Tensors of one call have the same number of elements, of any [`Element`] type; sums are in fp32, rounded once.

#![allow(unsafe_code)]

use std::ops::Range;

use super::{
    element::Element,
    simd::{Isa, Kernel, Simd, dispatch},
    threads::Threads,
};

/// Elements of one task: 64 KiB of fp32, small enough to balance and large enough to hide a task's cost.
pub(super) const TASK_LEN: usize = 16 * 1024;

/// `y = max(x, 0)`. What is no number stays no number.
pub fn relu<E: Element>(threads: &Threads, x: &[E], y: &mut [E]) {
    assert_eq!(x.len(), y.len(), "lengths of x and y");
    Pass { a: x.as_ptr(), b: x.as_ptr(), y: y.as_mut_ptr(), function: Relu }.run(threads, y.len());
}

/// `x = max(x, 0)`.
pub fn relu_in_place<E: Element>(threads: &Threads, x: &mut [E]) {
    let y = x.as_mut_ptr();
    Pass { a: y.cast_const(), b: y.cast_const(), y, function: Relu }.run(threads, x.len());
}

/// `dx = dy` where the ReLU's result `y` is positive, else 0.
pub fn relu_backward<E: Element>(threads: &Threads, dy: &[E], y: &[E], dx: &mut [E]) {
    assert!(dy.len() == y.len() && dy.len() == dx.len(), "lengths of dy, y and dx");
    Pass { a: dy.as_ptr(), b: y.as_ptr(), y: dx.as_mut_ptr(), function: Mask }.run(threads, dx.len());
}

/// `dx = 0` where the ReLU's result `y` is not positive.
pub fn relu_backward_in_place<E: Element>(threads: &Threads, dx: &mut [E], y: &[E]) {
    assert_eq!(dx.len(), y.len(), "lengths of dx and y");
    let to = dx.as_mut_ptr();
    Pass { a: to.cast_const(), b: y.as_ptr(), y: to, function: Mask }.run(threads, dx.len());
}

/// `y = a + alpha b`.
pub fn axpy<E: Element>(threads: &Threads, a: &[E], alpha: f32, b: &[E], y: &mut [E]) {
    assert!(a.len() == b.len() && a.len() == y.len(), "lengths of a, b and y");
    Pass { a: a.as_ptr(), b: b.as_ptr(), y: y.as_mut_ptr(), function: Axpy { alpha } }.run(threads, y.len());
}

/// `y += alpha x`.
pub fn axpy_in_place<E: Element>(threads: &Threads, y: &mut [E], alpha: f32, x: &[E]) {
    assert_eq!(x.len(), y.len(), "lengths of x and y");
    let to = y.as_mut_ptr();
    Pass { a: to.cast_const(), b: x.as_ptr(), y: to, function: Axpy { alpha } }.run(threads, y.len());
}

/// `y += x`.
pub fn add<E: Element>(threads: &Threads, x: &[E], y: &mut [E]) {
    axpy_in_place(threads, y, 1.0, x);
}

/// `y = x` in another element type: exact where it widens, to nearest even where it narrows.
pub fn convert<A: Element, E: Element>(threads: &Threads, x: &[A], y: &mut [E]) {
    assert_eq!(x.len(), y.len(), "lengths of x and y");
    Pass { a: x.as_ptr(), b: x.as_ptr(), y: y.as_mut_ptr(), function: Convert }.run(threads, y.len());
}

/// `y = x`, by all threads.
pub fn copy<T: Copy + Send + Sync>(threads: &Threads, x: &[T], y: &mut [T]) {
    assert_eq!(x.len(), y.len(), "lengths of x and y");
    threads.for_chunks(y, TASK_LEN, |index, y| y.copy_from_slice(&x[index * TASK_LEN..][..y.len()]));
}

/// `x = value`, by all threads.
pub fn fill<T: Copy + Send + Sync>(threads: &Threads, x: &mut [T], value: T) {
    threads.for_chunks(x, TASK_LEN, |_, x| x.fill(value));
}

/// Channels `from` of each voxel of `x` become channels `to..` of each voxel of `y`; the others of `y` stay.
/// A concatenation is one call per input, its backward one call per gradient.
///
/// # Panics
/// If the numbers of voxels differ or the channel ranges lie outside.
pub fn copy_channels<T: Copy + Send + Sync>(
    threads: &Threads,
    x: &[T],
    x_channels: usize,
    from: Range<usize>,
    y: &mut [T],
    y_channels: usize,
    to: usize,
) {
    let voxels = x.len() / x_channels;
    assert!(x.len() == voxels * x_channels && y.len() == voxels * y_channels, "numbers of voxels");
    assert!(from.start <= from.end && from.end <= x_channels && to + from.len() <= y_channels, "channel ranges");
    let per_task = (TASK_LEN / y_channels).max(1);
    threads.for_chunks(y, per_task * y_channels, |index, y| {
        let x = &x[index * per_task * x_channels..];
        vectorised(threads.isa(), || {
            for (y, x) in y.chunks_exact_mut(y_channels).zip(x.chunks_exact(x_channels)) {
                y[to..to + from.len()].copy_from_slice(&x[from.clone()]);
            }
        });
    });
}

/// What a pass computes from an element of each of two tensors.
trait Pointwise: Copy + Sync {
    /// Whether the second tensor is read.
    const READS_B: bool;
    /// The result.
    ///
    /// # Safety
    /// The machine runs `S`.
    unsafe fn apply<S: Simd>(self, a: S::V, b: S::V) -> S::V;
}

#[derive(Clone, Copy)]
struct Relu;
#[derive(Clone, Copy)]
struct Mask;
#[derive(Clone, Copy)]
struct Axpy {
    alpha: f32,
}
#[derive(Clone, Copy)]
struct Convert;

impl Pointwise for Relu {
    const READS_B: bool = false;
    #[inline(always)]
    unsafe fn apply<S: Simd>(self, a: S::V, _: S::V) -> S::V {
        // SAFETY: the caller runs S.
        unsafe { S::max(S::zero(), a) }
    }
}

impl Pointwise for Mask {
    const READS_B: bool = true;
    #[inline(always)]
    unsafe fn apply<S: Simd>(self, a: S::V, b: S::V) -> S::V {
        // SAFETY: the caller runs S.
        unsafe { S::keep_where_greater(b, S::zero(), a) }
    }
}

impl Pointwise for Axpy {
    const READS_B: bool = true;
    #[inline(always)]
    unsafe fn apply<S: Simd>(self, a: S::V, b: S::V) -> S::V {
        // SAFETY: the caller runs S.
        unsafe { S::fma(S::splat(self.alpha), b, a) }
    }
}

impl Pointwise for Convert {
    const READS_B: bool = false;
    #[inline(always)]
    unsafe fn apply<S: Simd>(self, a: S::V, _: S::V) -> S::V {
        a
    }
}

/// A function over tensors a and b. `y` may be one of them.
#[derive(Clone, Copy)]
struct Pass<A, E, F> {
    a: *const A,
    b: *const A,
    y: *mut E,
    function: F,
}

// SAFETY: tasks touch disjoint elements of `y`; `a` and `b` are `y` at the same elements or only read.
unsafe impl<A: Sync, E: Send, F: Sync> Sync for Pass<A, E, F> {}

impl<A: Element, E: Element, F: Pointwise> Pass<A, E, F> {
    /// `length` elements of all tensors, which the caller has.
    fn run(&self, threads: &Threads, length: usize) {
        threads.run(length.div_ceil(TASK_LEN), &|task| {
            let elements = task * TASK_LEN..length.min((task + 1) * TASK_LEN);
            dispatch(threads.isa(), PassPart { pass: *self, elements });
        });
    }
}

struct PassPart<A, E, F> {
    pass: Pass<A, E, F>,
    elements: Range<usize>,
}

impl<A: Element, E: Element, F: Pointwise> Kernel for PassPart<A, E, F> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { pass: Pass { a, b, y, function }, elements } = self;
        let whole = elements.len() / S::LANES * S::LANES;
        // SAFETY: the elements exist in all tensors, whose lengths the public functions compare.
        unsafe {
            for at in (elements.start..elements.start + whole).step_by(S::LANES) {
                let u = A::load::<S>(a.add(at));
                let v = if F::READS_B { A::load::<S>(b.add(at)) } else { u };
                E::store::<S>(y.add(at), function.apply::<S>(u, v));
            }
            let (at, rest) = (elements.start + whole, elements.len() - whole);
            if rest > 0 {
                let u = A::load_partial::<S>(a.add(at), rest);
                let v = if F::READS_B { A::load_partial::<S>(b.add(at), rest) } else { u };
                E::store_partial::<S>(y.add(at), function.apply::<S>(u, v), rest);
            }
        }
    }
}

/// Runs plain loops compiled for the instruction set: the compiler vectorises them.
#[inline]
fn vectorised(isa: Isa, work: impl FnOnce()) {
    struct Plain<F>(F);
    impl<F: FnOnce()> Kernel for Plain<F> {
        type Output = ();
        #[inline(always)]
        unsafe fn run<S: Simd>(self) {
            (self.0)();
        }
    }
    dispatch(isa, Plain(work));
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::cpu) fn pools() -> impl Iterator<Item = Threads> {
        let available = Isa::ALL.into_iter().filter(|isa| isa.is_available());
        available.flat_map(|isa| (1..4).map(move |count| Threads::with_isa(count, isa)))
    }

    pub(in crate::cpu) fn ramp(count: usize, step: f32) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * step).sin()).collect()
    }

    #[test]
    fn relu_and_its_backward_split_at_zero_and_zero_has_no_gradient() {
        for threads in pools() {
            let x = ramp(40_001, 0.37);
            let mut y = vec![f32::NAN; x.len()];
            relu(&threads, &x, &mut y);
            assert!(x.iter().zip(&y).all(|(&x, &y)| y == if x > 0.0 { x } else { 0.0 }));
            let dy = ramp(x.len(), 0.11);
            let mut dx = vec![f32::NAN; x.len()];
            relu_backward(&threads, &dy, &y, &mut dx);
            assert_eq!(y[0], 0.0);
            assert!((0..x.len()).all(|i| dx[i] == if x[i] > 0.0 { dy[i] } else { 0.0 }));
            let mut in_place = dy.clone();
            relu_backward_in_place(&threads, &mut in_place, &y);
            assert_eq!(in_place, dx);
            let mut in_place = x.clone();
            relu_in_place(&threads, &mut in_place);
            assert_eq!(in_place, y);
            add(&threads, &x, &mut in_place);
            assert!((0..x.len()).all(|i| in_place[i] == y[i] + x[i]));
            copy(&threads, &x, &mut y);
            assert_eq!(x, y);
            fill(&threads, &mut y, 2.5);
            assert!(y.iter().all(|&y| y == 2.5));
        }
    }

    #[test]
    fn concatenation_and_its_backward_move_exactly_the_named_channels() {
        for threads in pools() {
            let (a, b) = (ramp(3000 * 5, 0.1), ramp(3000 * 7, 0.2));
            let mut both = vec![f32::NAN; 3000 * 12];
            copy_channels(&threads, &a, 5, 0..5, &mut both, 12, 0);
            copy_channels(&threads, &b, 7, 0..7, &mut both, 12, 5);
            assert!(
                (0..both.len())
                    .all(|i| both[i] == if i % 12 < 5 { a[i / 12 * 5 + i % 12] } else { b[i / 12 * 7 + i % 12 - 5] })
            );
            let mut back = vec![f32::NAN; b.len()];
            copy_channels(&threads, &both, 12, 5..12, &mut back, 7, 0);
            assert_eq!(back, b);
        }
    }
}
