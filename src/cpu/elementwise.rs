//! Element-wise passes over N D H W C tensors, threaded and vectorised: bound by memory, so each reads and writes once.
//!
//! Tensors of one call have the same number of elements; per-channel coefficients have one element per channel.

use std::ops::Range;

use super::{
    simd::{Isa, Kernel, Simd, dispatch},
    threads::Threads,
};

/// Elements of one task: 64 KiB, small enough to balance and large enough to hide a task's cost.
const TASK_LEN: usize = 16 * 1024;

/// `y = max(x, 0)`.
pub fn relu(threads: &Threads, x: &[f32], y: &mut [f32]) {
    map(threads, x, y, |x, y| *y = x.max(0.0));
}

/// `x = max(x, 0)`.
pub fn relu_in_place(threads: &Threads, x: &mut [f32]) {
    for_each(threads, x, |x| *x = x.max(0.0));
}

/// `dx = dy` where the ReLU's result `y` is positive, else 0.
pub fn relu_backward(threads: &Threads, dy: &[f32], y: &[f32], dx: &mut [f32]) {
    assert_eq!(dy.len(), y.len(), "lengths of dy and y");
    assert_eq!(dy.len(), dx.len(), "lengths of dy and dx");
    threads.for_chunks(dx, TASK_LEN, |index, dx| {
        let part = index * TASK_LEN..index * TASK_LEN + dx.len();
        let (dy, y) = (&dy[part.clone()], &y[part]);
        vectorised(threads.isa(), || {
            for ((dx, &dy), &y) in dx.iter_mut().zip(dy).zip(y) {
                *dx = if y > 0.0 { dy } else { 0.0 };
            }
        });
    });
}

/// `dx = 0` where the ReLU's result `y` is not positive.
pub fn relu_backward_in_place(threads: &Threads, dx: &mut [f32], y: &[f32]) {
    map(threads, y, dx, |y, dx| *dx = if y > 0.0 { *dx } else { 0.0 });
}

/// `y += x`.
pub fn add(threads: &Threads, x: &[f32], y: &mut [f32]) {
    map(threads, x, y, |x, y| *y += x);
}

/// `y = x`, by all threads.
pub fn copy(threads: &Threads, x: &[f32], y: &mut [f32]) {
    map(threads, x, y, |x, y| *y = x);
}

/// `x = value`, by all threads.
pub fn fill(threads: &Threads, x: &mut [f32], value: f32) {
    for_each(threads, x, |x| *x = value);
}

/// Channels `from` of each voxel of `x` become channels `to..` of each voxel of `y`; the others of `y` stay.
/// A concatenation is one call per input, its backward one call per gradient.
///
/// # Panics
/// If the numbers of voxels differ or the channel ranges lie outside.
pub fn copy_channels(
    threads: &Threads,
    x: &[f32],
    x_channels: usize,
    from: Range<usize>,
    y: &mut [f32],
    y_channels: usize,
    to: usize,
) {
    channels_pass(threads, x, x_channels, from, y, y_channels, to, false);
}

/// Like [`copy_channels`], added to what is there.
pub fn add_channels(
    threads: &Threads,
    x: &[f32],
    x_channels: usize,
    from: Range<usize>,
    y: &mut [f32],
    y_channels: usize,
    to: usize,
) {
    channels_pass(threads, x, x_channels, from, y, y_channels, to, true);
}

#[expect(clippy::too_many_arguments, reason = "two tensors with their channel ranges")]
fn channels_pass(
    threads: &Threads,
    x: &[f32],
    x_channels: usize,
    from: Range<usize>,
    y: &mut [f32],
    y_channels: usize,
    to: usize,
    add: bool,
) {
    let voxels = x.len() / x_channels;
    assert!(x.len() == voxels * x_channels && y.len() == voxels * y_channels, "numbers of voxels");
    assert!(from.start <= from.end && from.end <= x_channels && to + from.len() <= y_channels, "channel ranges");
    let per_task = (TASK_LEN / y_channels).max(1);
    threads.for_chunks(y, per_task * y_channels, |index, y| {
        let x = &x[index * per_task * x_channels..];
        vectorised(threads.isa(), || {
            for (y, x) in y.chunks_exact_mut(y_channels).zip(x.chunks_exact(x_channels)) {
                let (y, x) = (&mut y[to..to + from.len()], &x[from.clone()]);
                if add { y.iter_mut().zip(x).for_each(|(y, x)| *y += x) } else { y.copy_from_slice(x) }
            }
        });
    });
}

/// `y[v][c] = x[v][c] * scale[c] + shift[c]`.
pub fn scale_shift(threads: &Threads, x: &[f32], scale: &[f32], shift: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "lengths of x and y");
    let pass = ChannelPass { u: x.as_ptr(), v: x.as_ptr(), y: y.as_mut_ptr(), form: Form::ScaleShift { scale, shift } };
    pass.run(threads, x.len(), scale.len());
}

/// `x[v][c] = x[v][c] * scale[c] + shift[c]`.
pub fn scale_shift_in_place(threads: &Threads, x: &mut [f32], scale: &[f32], shift: &[f32]) {
    let y = x.as_mut_ptr();
    let pass = ChannelPass { u: y, v: y, y, form: Form::ScaleShift { scale, shift } };
    pass.run(threads, x.len(), scale.len());
}

/// `y[v][c] = (x[v][c] - mean[c]) * scale[c] + beta[c]`: keeps its accuracy where the mean is large.
pub fn normalise(threads: &Threads, x: &[f32], mean: &[f32], scale: &[f32], beta: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "lengths of x and y");
    let form = Form::Normalise { mean, scale, beta };
    let pass = ChannelPass { u: x.as_ptr(), v: x.as_ptr(), y: y.as_mut_ptr(), form };
    pass.run(threads, x.len(), scale.len());
}

/// `x[v][c] = (x[v][c] - mean[c]) * scale[c] + beta[c]`.
pub fn normalise_in_place(threads: &Threads, x: &mut [f32], mean: &[f32], scale: &[f32], beta: &[f32]) {
    let y = x.as_mut_ptr();
    let pass = ChannelPass { u: y, v: y, y, form: Form::Normalise { mean, scale, beta } };
    pass.run(threads, x.len(), scale.len());
}

/// Coefficients of batch norm's backward pass, one element per channel each.
#[derive(Clone, Copy)]
pub struct NormalisationBackward<'a> {
    /// Batch mean of `x`.
    pub mean: &'a [f32],
    /// 1 / sqrt(batch variance + epsilon).
    pub rstd: &'a [f32],
    /// Scale.
    pub gamma: &'a [f32],
    /// Sum of `dy` over voxels ([`super::reduce::normalisation_sums`]).
    pub sum: &'a [f32],
    /// Sum of `dy * (x - mean) * rstd` over voxels.
    pub dot: &'a [f32],
    /// Also apply the backward pass of the ReLU that made `x`: 0 where `x` is not positive.
    pub relu: bool,
}

impl NormalisationBackward<'_> {
    /// `dx = gamma rstd (dy - sum / m - (x - mean) rstd dot / m)`, m voxels in the batch.
    pub fn apply(&self, threads: &Threads, dy: &[f32], x: &[f32], dx: &mut [f32]) {
        assert!(dy.len() == x.len() && dy.len() == dx.len(), "lengths of batch norm's tensors");
        let pass = ChannelPass { u: dy.as_ptr(), v: x.as_ptr(), y: dx.as_mut_ptr(), form: Form::Backward(*self) };
        pass.run(threads, dy.len(), self.mean.len());
    }

    /// The same with `dx` holding `dy` before.
    pub fn apply_in_place(&self, threads: &Threads, dx: &mut [f32], x: &[f32]) {
        assert_eq!(dx.len(), x.len(), "lengths of batch norm's tensors");
        let y = dx.as_mut_ptr();
        let pass = ChannelPass { u: y, v: x.as_ptr(), y, form: Form::Backward(*self) };
        pass.run(threads, x.len(), self.mean.len());
    }
}

/// `y = a * u + b * (v - m) + c` with coefficients per channel. `y` may be `u`.
#[derive(Clone, Copy)]
struct ChannelPass<'a> {
    u: *const f32,
    v: *const f32,
    y: *mut f32,
    form: Form<'a>,
}

// SAFETY: tasks touch disjoint voxels of `y`; `u` is `y` at the same element or, like `v`, only read.
unsafe impl Sync for ChannelPass<'_> {}

#[derive(Clone, Copy)]
enum Form<'a> {
    ScaleShift { scale: &'a [f32], shift: &'a [f32] },
    Normalise { mean: &'a [f32], scale: &'a [f32], beta: &'a [f32] },
    Backward(NormalisationBackward<'a>),
}

impl ChannelPass<'_> {
    /// `length` elements of all three tensors.
    fn run(&self, threads: &Threads, length: usize, channels: usize) {
        let voxels = length / channels;
        assert_eq!(length, voxels * channels, "whole voxels");
        let coefficients = match self.form {
            Form::ScaleShift { scale, shift } => [scale, shift, shift, shift, shift],
            Form::Normalise { mean, scale, beta } => [mean, scale, beta, beta, beta],
            Form::Backward(NormalisationBackward { mean, rstd, gamma, sum, dot, .. }) => [mean, rstd, gamma, sum, dot],
        };
        assert!(coefficients.iter().all(|values| values.len() == channels), "one coefficient per channel");
        let per_task = (TASK_LEN / channels).max(1);
        threads.run(voxels.div_ceil(per_task), &|task| {
            let part = task * per_task..voxels.min((task + 1) * per_task);
            dispatch(threads.isa(), ChannelPassPart { pass: self, channels, voxels: part, scale: 1.0 / voxels as f32 });
        });
    }
}

struct ChannelPassPart<'a> {
    pass: &'a ChannelPass<'a>,
    channels: usize,
    voxels: Range<usize>,
    /// 1 / number of voxels of the batch.
    scale: f32,
}

impl Kernel for ChannelPassPart<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        /// Voxels over which one vector of channels is walked: the run of all channels stays in the first-level cache.
        const RUN: usize = 64;
        for start in self.voxels.clone().step_by(RUN) {
            let run = start..self.voxels.end.min(start + RUN);
            for first in (0..self.channels).step_by(S::LANES) {
                let lanes = S::LANES.min(self.channels - first);
                // SAFETY: voxels, channels and coefficients exist: `ChannelPass::run` asserted the lengths.
                unsafe {
                    match (lanes == S::LANES, self.pass.form) {
                        (true, Form::ScaleShift { .. }) => self.walk::<S, true, false>(run.clone(), first, lanes),
                        (false, Form::ScaleShift { .. }) => self.walk::<S, false, false>(run.clone(), first, lanes),
                        (true, Form::Normalise { .. }) => self.walk::<S, true, true>(run.clone(), first, lanes),
                        (false, Form::Normalise { .. }) => self.walk::<S, false, true>(run.clone(), first, lanes),
                        (true, Form::Backward(_)) => self.walk::<S, true, true>(run.clone(), first, lanes),
                        (false, Form::Backward(_)) => self.walk::<S, false, true>(run.clone(), first, lanes),
                    }
                }
            }
        }
    }
}

impl ChannelPassPart<'_> {
    #[inline(always)]
    unsafe fn walk<S: Simd, const WHOLE: bool, const BACKWARD: bool>(
        &self,
        voxels: Range<usize>,
        first: usize,
        lanes: usize,
    ) {
        // SAFETY: the caller's promise: these voxels and lanes exist.
        unsafe {
            let zero = S::zero();
            let (a, b, m, c, keep_above) = match self.pass.form {
                Form::ScaleShift { scale, shift } => (
                    S::load_lanes::<WHOLE>(scale.as_ptr().add(first), lanes),
                    zero,
                    zero,
                    S::load_lanes::<WHOLE>(shift.as_ptr().add(first), lanes),
                    zero,
                ),
                Form::Normalise { mean, scale, beta } => (
                    zero,
                    S::load_lanes::<WHOLE>(scale.as_ptr().add(first), lanes),
                    S::load_lanes::<WHOLE>(mean.as_ptr().add(first), lanes),
                    S::load_lanes::<WHOLE>(beta.as_ptr().add(first), lanes),
                    S::splat(f32::NEG_INFINITY),
                ),
                Form::Backward(n) => {
                    let rstd = S::load_lanes::<WHOLE>(n.rstd.as_ptr().add(first), lanes);
                    let a = S::mul(S::load_lanes::<WHOLE>(n.gamma.as_ptr().add(first), lanes), rstd);
                    let minus = S::mul(a, S::splat(-self.scale));
                    let b = S::mul(S::mul(minus, rstd), S::load_lanes::<WHOLE>(n.dot.as_ptr().add(first), lanes));
                    let above = S::splat(if n.relu { 0.0 } else { f32::NEG_INFINITY });
                    (
                        a,
                        b,
                        S::load_lanes::<WHOLE>(n.mean.as_ptr().add(first), lanes),
                        S::mul(minus, S::load_lanes::<WHOLE>(n.sum.as_ptr().add(first), lanes)),
                        above,
                    )
                }
            };
            for voxel in voxels {
                let at = voxel * self.channels + first;
                let mut y = S::fma(S::load_lanes::<WHOLE>(self.pass.u.add(at), lanes), a, c);
                if BACKWARD {
                    let v = S::load_lanes::<WHOLE>(self.pass.v.add(at), lanes);
                    y = S::keep_where_greater(v, keep_above, S::fma(S::sub(v, m), b, y));
                }
                let to = self.pass.y.add(at);
                S::store_lanes::<WHOLE>(to, y, lanes);
            }
        }
    }
}

/// `function(x, &mut y)` for every element.
fn map(threads: &Threads, x: &[f32], y: &mut [f32], function: impl Fn(f32, &mut f32) + Sync) {
    assert_eq!(x.len(), y.len(), "lengths of x and y");
    threads.for_chunks(y, TASK_LEN, |index, y| {
        let x = &x[index * TASK_LEN..][..y.len()];
        vectorised(threads.isa(), || y.iter_mut().zip(x).for_each(|(y, &x)| function(x, y)));
    });
}

/// `function(&mut x)` for every element.
fn for_each(threads: &Threads, x: &mut [f32], function: impl Fn(&mut f32) + Sync) {
    threads.for_chunks(x, TASK_LEN, |_, x| vectorised(threads.isa(), || x.iter_mut().for_each(&function)));
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
mod tests {
    use super::*;

    fn pools() -> impl Iterator<Item = Threads> {
        let available = Isa::ALL.into_iter().filter(|isa| isa.is_available());
        available.flat_map(|isa| (1..4).map(move |count| Threads::with_isa(count, isa)))
    }

    fn ramp(count: usize, step: f32) -> Vec<f32> {
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
            let mut back = b.clone();
            add_channels(&threads, &both, 12, 5..12, &mut back, 7, 0);
            assert!(back.iter().zip(&b).all(|(back, b)| *back == 2.0 * b));
        }
    }

    #[test]
    fn scale_and_shift_use_each_channels_own_coefficients() {
        for threads in pools() {
            for channels in [1, 3, 16, 24, 33] {
                let x = ramp(channels * 1501, 0.3);
                let (scale, shift) = (ramp(channels, 1.3), ramp(channels, 0.7));
                let mut y = vec![f32::NAN; x.len()];
                scale_shift(&threads, &x, &scale, &shift, &mut y);
                for (i, &y) in y.iter().enumerate() {
                    let exact = f64::from(x[i]) * f64::from(scale[i % channels]) + f64::from(shift[i % channels]);
                    assert!((f64::from(y) - exact).abs() <= 2.0 * f64::from(f32::EPSILON));
                }
                let mut in_place = x.clone();
                scale_shift_in_place(&threads, &mut in_place, &scale, &shift);
                assert_eq!(in_place, y);
            }
        }
    }

    #[test]
    fn batch_norm_backward_equals_its_formula() {
        for threads in pools() {
            for channels in [1, 5, 16, 40] {
                let voxels = 777;
                let (dy, x) = (ramp(channels * voxels, 0.3), ramp(channels * voxels, 0.7));
                let mean = ramp(channels, 0.9);
                let rstd: Vec<f32> = ramp(channels, 0.4).iter().map(|r| r.abs() + 0.5).collect();
                let (gamma, sum, dot) = (ramp(channels, 1.1), ramp(channels, 2.0), ramp(channels, 3.0));
                for relu in [false, true] {
                    let backward =
                        NormalisationBackward { mean: &mean, rstd: &rstd, gamma: &gamma, sum: &sum, dot: &dot, relu };
                    let mut dx = vec![f32::NAN; x.len()];
                    backward.apply(&threads, &dy, &x, &mut dx);
                    for (i, &got) in dx.iter().enumerate() {
                        let of = |values: &[f32]| f64::from(values[i % channels]);
                        let (g, x, m) = (f64::from(dy[i]), f64::from(x[i]), voxels as f64);
                        let x_hat = (x - of(&mean)) * of(&rstd);
                        let mut exact = of(&gamma) * of(&rstd) * (g - of(&sum) / m - x_hat * of(&dot) / m);
                        if relu && x <= 0.0 {
                            exact = 0.0;
                        }
                        assert!((f64::from(got) - exact).abs() <= 8.0 * f64::from(f32::EPSILON), "{got} {exact}");
                    }
                    let mut in_place = dy.clone();
                    backward.apply_in_place(&threads, &mut in_place, &x);
                    assert_eq!(in_place, dx);
                }
            }
        }
    }
}
