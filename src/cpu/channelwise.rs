//! Passes over N D H W C tensors with coefficients per channel, such as batch norm's: threaded and vectorised.
//!
//! Tensors of one call have the same number of elements, of any [`Element`] type; coefficients are fp32, one per channel.

#![allow(unsafe_code)]

use std::ops::Range;

use super::{
    element::Element,
    elementwise::TASK_LEN,
    simd::{Kernel, Simd, dispatch},
    threads::Threads,
};

/// `y[v][c] = x[v][c] * scale[c] + shift[c]`.
pub fn scale_shift<E: Element>(threads: &Threads, x: &[E], scale: &[f32], shift: &[f32], y: &mut [E]) {
    assert_eq!(x.len(), y.len(), "lengths of x and y");
    let pass = ChannelPass { u: x.as_ptr(), v: x.as_ptr(), y: y.as_mut_ptr(), form: Form::ScaleShift { scale, shift } };
    pass.run(threads, x.len(), scale.len());
}

/// `x[v][c] = x[v][c] * scale[c] + shift[c]`.
pub fn scale_shift_in_place<E: Element>(threads: &Threads, x: &mut [E], scale: &[f32], shift: &[f32]) {
    let y = x.as_mut_ptr();
    let pass = ChannelPass { u: y, v: y, y, form: Form::ScaleShift { scale, shift } };
    pass.run(threads, x.len(), scale.len());
}

/// `y[v][c] = (x[v][c] - mean[c]) * scale[c] + beta[c]`: keeps its accuracy where the mean is large.
pub fn normalise<E: Element>(threads: &Threads, x: &[E], mean: &[f32], scale: &[f32], beta: &[f32], y: &mut [E]) {
    assert_eq!(x.len(), y.len(), "lengths of x and y");
    let form = Form::Normalise { mean, scale, beta };
    let pass = ChannelPass { u: x.as_ptr(), v: x.as_ptr(), y: y.as_mut_ptr(), form };
    pass.run(threads, x.len(), scale.len());
}

/// `x[v][c] = (x[v][c] - mean[c]) * scale[c] + beta[c]`.
pub fn normalise_in_place<E: Element>(threads: &Threads, x: &mut [E], mean: &[f32], scale: &[f32], beta: &[f32]) {
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
    pub fn apply<E: Element>(&self, threads: &Threads, dy: &[E], x: &[E], dx: &mut [E]) {
        assert!(dy.len() == x.len() && dy.len() == dx.len(), "lengths of batch norm's tensors");
        let pass = ChannelPass { u: dy.as_ptr(), v: x.as_ptr(), y: dx.as_mut_ptr(), form: Form::Backward(*self) };
        pass.run(threads, dy.len(), self.mean.len());
    }

    /// The same with `dx` holding `dy` before.
    pub fn apply_in_place<E: Element>(&self, threads: &Threads, dx: &mut [E], x: &[E]) {
        assert_eq!(dx.len(), x.len(), "lengths of batch norm's tensors");
        let y = dx.as_mut_ptr();
        let pass = ChannelPass { u: y, v: x.as_ptr(), y, form: Form::Backward(*self) };
        pass.run(threads, x.len(), self.mean.len());
    }
}

/// One of the forms over tensors u and v, with coefficients per channel. `y` may be `u`.
#[derive(Clone, Copy)]
struct ChannelPass<'a, E> {
    u: *const E,
    v: *const E,
    y: *mut E,
    form: Form<'a>,
}

// SAFETY: tasks touch disjoint voxels of `y`; `u` is `y` at the same element or, like `v`, only read.
unsafe impl<E: Element> Sync for ChannelPass<'_, E> {}

#[derive(Clone, Copy)]
enum Form<'a> {
    ScaleShift { scale: &'a [f32], shift: &'a [f32] },
    Normalise { mean: &'a [f32], scale: &'a [f32], beta: &'a [f32] },
    Backward(NormalisationBackward<'a>),
}

/// The forms as constants, so that each has a loop of its own.
const SCALE_SHIFT: u8 = 0;
const NORMALISE: u8 = 1;
const BACKWARD: u8 = 2;

impl<E: Element> ChannelPass<'_, E> {
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

struct ChannelPassPart<'a, E> {
    pass: &'a ChannelPass<'a, E>,
    channels: usize,
    voxels: Range<usize>,
    /// 1 / number of voxels of the batch.
    scale: f32,
}

impl<E: Element> Kernel for ChannelPassPart<'_, E> {
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
                        (true, Form::ScaleShift { .. }) => self.walk::<S, true, SCALE_SHIFT>(run.clone(), first, lanes),
                        (false, Form::ScaleShift { .. }) => {
                            self.walk::<S, false, SCALE_SHIFT>(run.clone(), first, lanes)
                        }
                        (true, Form::Normalise { .. }) => self.walk::<S, true, NORMALISE>(run.clone(), first, lanes),
                        (false, Form::Normalise { .. }) => self.walk::<S, false, NORMALISE>(run.clone(), first, lanes),
                        (true, Form::Backward(_)) => self.walk::<S, true, BACKWARD>(run.clone(), first, lanes),
                        (false, Form::Backward(_)) => self.walk::<S, false, BACKWARD>(run.clone(), first, lanes),
                    }
                }
            }
        }
    }
}

impl<E: Element> ChannelPassPart<'_, E> {
    #[inline(always)]
    unsafe fn walk<S: Simd, const WHOLE: bool, const FORM: u8>(
        &self,
        voxels: Range<usize>,
        first: usize,
        lanes: usize,
    ) {
        // SAFETY: the caller's promise: these voxels and lanes exist.
        unsafe {
            let zero = S::zero();
            let (a, b, m, c, keep_above) = match self.pass.form {
                Form::ScaleShift { scale, shift } => {
                    (at::<S, WHOLE>(scale, first, lanes), zero, zero, at::<S, WHOLE>(shift, first, lanes), zero)
                }
                Form::Normalise { mean, scale, beta } => (
                    zero,
                    at::<S, WHOLE>(scale, first, lanes),
                    at::<S, WHOLE>(mean, first, lanes),
                    at::<S, WHOLE>(beta, first, lanes),
                    zero,
                ),
                Form::Backward(n) => {
                    let rstd = at::<S, WHOLE>(n.rstd, first, lanes);
                    let b = S::mul(S::mul(S::splat(-self.scale), rstd), at::<S, WHOLE>(n.dot, first, lanes));
                    let c = S::mul(S::splat(self.scale), at::<S, WHOLE>(n.sum, first, lanes));
                    let above = S::splat(if n.relu { 0.0 } else { f32::NEG_INFINITY });
                    (
                        S::mul(at::<S, WHOLE>(n.gamma, first, lanes), rstd),
                        b,
                        at::<S, WHOLE>(n.mean, first, lanes),
                        c,
                        above,
                    )
                }
            };
            for voxel in voxels {
                let at = voxel * self.channels + first;
                let u = E::load_lanes::<S, WHOLE>(self.pass.u.add(at), lanes);
                let y = match FORM {
                    SCALE_SHIFT => S::fma(u, a, c),
                    NORMALISE => S::fma(S::sub(u, m), b, c),
                    _ => {
                        let v = E::load_lanes::<S, WHOLE>(self.pass.v.add(at), lanes);
                        // The factor comes last: what cancels in the sum must not be rounded before it does.
                        let centred = S::fma(S::sub(v, m), b, S::sub(u, c));
                        S::keep_where_greater(v, keep_above, S::mul(a, centred))
                    }
                };
                E::store_lanes::<S, WHOLE>(self.pass.y.add(at), y, lanes);
            }
        }
    }
}

/// A vector of coefficients. Not a closure: those are compiled without the instruction set of their surroundings.
///
/// # Safety
/// As [`Simd::load_lanes`]: the values from `first` on exist.
#[inline(always)]
unsafe fn at<S: Simd, const WHOLE: bool>(values: &[f32], first: usize, lanes: usize) -> S::V {
    // SAFETY: the caller's promise.
    unsafe { S::load_lanes::<WHOLE>(values.as_ptr().add(first), lanes) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::elementwise::tests::{pools, ramp};

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
    fn nothing_passes_back_through_the_norm_of_a_single_voxel() {
        // As a * dy - a * sum it did: 3e-7 of rounding where the gradient is zero.
        for threads in pools() {
            for channels in [1, 5, 16, 40] {
                let (dy, x) = (ramp(channels, 0.3), ramp(channels, 0.7));
                let (rstd, gamma) = (vec![31.622_776; channels], ramp(channels, 1.1));
                let dot = vec![0.0; channels];
                let backward =
                    NormalisationBackward { mean: &x, rstd: &rstd, gamma: &gamma, sum: &dy, dot: &dot, relu: false };
                let mut dx = vec![f32::NAN; channels];
                backward.apply(&threads, &dy, &x, &mut dx);
                assert!(dx.iter().all(|&dx| dx == 0.0), "{dx:?}");
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
