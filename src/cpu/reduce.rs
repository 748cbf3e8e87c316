//! Sums over voxels, per channel, of any [`Element`] type: deterministic, and accurate enough for a variance.
//!
//! Voxels are cut into slices by their number alone. Within a slice, runs of 64 voxels are summed in fp32 and added to the slice's sum;
//! the slices' sums are added in slice order in double precision. So no fp32 sum is longer than a few dozen terms.

#![allow(unsafe_code)]

use std::sync::atomic::{AtomicBool, Ordering};

use super::{
    element::Element,
    simd::{Kernel, Simd, dispatch},
    threads::Threads,
};

/// Voxels summed in one fp32 run.
const RUN: usize = 64;

/// Voxels of the smallest slice.
const SLICE: usize = 1024;

/// The most slices.
const SLICES: usize = 256;

/// Voxels of one slice of `voxels`.
fn slice_len(voxels: usize) -> usize {
    voxels.div_ceil(SLICES).max(SLICE)
}

/// Workspace elements of the sums over `voxels` voxels of `channels` channels.
pub fn sums_workspace(voxels: usize, channels: usize) -> usize {
    2 * voxels.div_ceil(slice_len(voxels)) * channels
}

/// `sum[c] = sum over voxels of x[v][c]`. `workspace`: [`sums_workspace`] elements.
pub fn sum<E: Element>(threads: &Threads, x: &[E], channels: usize, sum: &mut [f32], workspace: &mut [f32]) {
    reduce(
        threads,
        Terms { x, y: x, affine: None, second: Second::None },
        channels,
        workspace,
        |channel, [total, _]| {
            sum[channel] = total as f32;
        },
    );
}

/// `sum[c] = sum over voxels of x[v][c]` where the ReLU's result `relu[v][c]`, if given, is positive.
/// `workspace`: [`sums_workspace`] elements.
pub fn masked_sum<E: Element>(threads: &Threads, x: &[E], relu: Option<&[E]>, sum: &mut [f32], workspace: &mut [f32]) {
    let channels = sum.len();
    let Some(y) = relu else {
        return self::sum(threads, x, channels, sum, workspace);
    };
    assert_eq!(x.len(), y.len(), "lengths of the tensor and the ReLU's result");
    reduce(
        threads,
        Terms { x, y, affine: None, second: Second::Masked },
        channels,
        workspace,
        |channel, [_, total]| {
            sum[channel] = total as f32;
        },
    );
}

/// `sum[c]` and `squares[c]`: sums over voxels of `x[v][c]` and of `x[v][c]^2`. `workspace`: [`sums_workspace`] elements.
pub fn sum_and_squares<E: Element>(
    threads: &Threads,
    x: &[E],
    channels: usize,
    sum: &mut [f64],
    squares: &mut [f64],
    workspace: &mut [f32],
) {
    reduce(
        threads,
        Terms { x, y: x, affine: None, second: Second::Product },
        channels,
        workspace,
        |channel, totals| {
            [sum[channel], squares[channel]] = totals;
        },
    );
}

/// Batch norm backward's two sums: `sum[c]` of `dy[v][c]` and `dot[c]` of `dy[v][c] * (x[v][c] - mean[c]) * rstd[c]`.
/// `workspace`: [`sums_workspace`] elements.
#[expect(clippy::too_many_arguments, reason = "the operation's tensors")]
pub fn normalisation_sums<E: Element>(
    threads: &Threads,
    dy: &[E],
    x: &[E],
    mean: &[f32],
    rstd: &[f32],
    sum: &mut [f32],
    dot: &mut [f32],
    workspace: &mut [f32],
) {
    let channels = mean.len();
    assert!(rstd.len() == channels && x.len() == dy.len(), "lengths of batch norm's tensors");
    let terms = Terms { x: dy, y: x, affine: Some((mean, rstd)), second: Second::Product };
    reduce(threads, terms, channels, workspace, |channel, totals| {
        sum[channel] = totals[0] as f32;
        dot[channel] = totals[1] as f32;
    });
}

/// `mean[c]` of `x[v][c]` over voxels, and their mean squared distance from it, in two passes: sums of squares would
/// cancel where the mean is large. `workspace`: [`sums_workspace`] elements.
pub fn mean_and_variance<E: Element>(
    threads: &Threads,
    x: &[E],
    mean: &mut [f32],
    variance: &mut [f32],
    workspace: &mut [f32],
) {
    let channels = mean.len();
    let count = (x.len() / channels) as f64;
    let plain = Terms { x, y: x, affine: None, second: Second::None };
    reduce(threads, plain, channels, workspace, |channel, [total, _]| mean[channel] = (total / count) as f32);
    let centred = Terms { x, y: x, affine: Some((mean, mean)), second: Second::Centred };
    reduce(threads, centred, channels, workspace, |channel, [drift, squares]| {
        // The mean was rounded; the square of what it is off by is what the squares are too large by.
        let drift = drift / count;
        variance[channel] = (squares / count - drift * drift).max(0.0) as f32;
    });
}

/// Whether all elements are finite numbers.
pub fn all_finite<E: Element>(threads: &Threads, x: &[E]) -> bool {
    let finite = AtomicBool::new(true);
    threads.run(x.len().div_ceil(FINITE_TASK), &|task| {
        let part = &x[task * FINITE_TASK..x.len().min((task + 1) * FINITE_TASK)];
        // Whoever finds one has said so for all; the order in which tasks say it does not matter.
        if !dispatch(threads.isa(), Differences(part)).is_finite() {
            finite.store(false, Ordering::Relaxed);
        }
    });
    finite.into_inner()
}

/// Elements of one task of [`all_finite`].
const FINITE_TASK: usize = 1 << 15;

/// The sum of each element's difference from itself: 0, or no number if an element is not finite.
struct Differences<'a, E>(&'a [E]);

impl<E: Element> Kernel for Differences<'_, E> {
    type Output = f32;

    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> f32 {
        let x = self.0;
        // SAFETY: the elements from `at` on, whole vectors and then the rest, lie in the slice.
        unsafe {
            let mut total = S::zero();
            for at in (0..x.len()).step_by(S::LANES) {
                let lanes = S::LANES.min(x.len() - at);
                let from = x.as_ptr().add(at);
                let v = if lanes == S::LANES { E::load::<S>(from) } else { E::load_partial::<S>(from, lanes) };
                total = S::add(total, S::sub(v, v));
            }
            S::sum(total)
        }
    }
}

/// What is summed: `x`, and a second term of `x` and `y`.
#[derive(Clone, Copy)]
struct Terms<'a, E> {
    x: &'a [E],
    y: &'a [E],
    /// `f(y) = (y - mean) * rstd`, or `y` itself.
    affine: Option<(&'a [f32], &'a [f32])>,
    second: Second,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Second {
    None,
    /// `x * f(y)`.
    Product,
    /// `x` where `y > 0`.
    Masked,
    /// `(x - mean)^2`; and the first sum is of `x - mean`.
    Centred,
}

fn reduce<E: Element>(
    threads: &Threads,
    terms: Terms<'_, E>,
    channels: usize,
    workspace: &mut [f32],
    mut result: impl FnMut(usize, [f64; 2]),
) {
    let voxels = terms.x.len() / channels;
    assert_eq!(terms.x.len(), voxels * channels, "whole voxels");
    let slice = slice_len(voxels);
    let slices = voxels.div_ceil(slice);
    let partials = &mut workspace[..2 * slices * channels];
    threads.for_chunks(partials, 2 * channels, |index, sums| {
        let voxels = index * slice..voxels.min((index + 1) * slice);
        dispatch(threads.isa(), SliceSums { terms, channels, voxels, sums });
    });
    for channel in 0..channels {
        let mut totals = [0.0f64; 2];
        for sums in partials.chunks_exact(2 * channels) {
            totals[0] += f64::from(sums[channel]);
            totals[1] += f64::from(sums[channels + channel]);
        }
        result(channel, totals);
    }
}

/// The sums of one slice: `sums[0..channels]` and `sums[channels..]`.
struct SliceSums<'a, E> {
    terms: Terms<'a, E>,
    channels: usize,
    voxels: std::ops::Range<usize>,
    sums: &'a mut [f32],
}

impl<E: Element> Kernel for SliceSums<'_, E> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { terms, channels, voxels, sums } = self;
        sums.fill(0.0);
        let mut start = voxels.start;
        while start < voxels.end {
            let end = voxels.end.min(start + RUN);
            for first in (0..channels).step_by(S::LANES) {
                let lanes = S::LANES.min(channels - first);
                // SAFETY: voxels and `lanes` channels lie inside the tensors, whose lengths were asserted.
                unsafe {
                    if lanes == S::LANES {
                        run_sums::<S, E, true>(&terms, channels, start..end, first, lanes, sums);
                    } else {
                        run_sums::<S, E, false>(&terms, channels, start..end, first, lanes, sums);
                    }
                }
            }
            start = end;
        }
    }
}

/// Adds one run of voxels of one vector of channels.
#[inline(always)]
unsafe fn run_sums<S: Simd, E: Element, const WHOLE: bool>(
    terms: &Terms<'_, E>,
    channels: usize,
    voxels: std::ops::Range<usize>,
    first: usize,
    lanes: usize,
    sums: &mut [f32],
) {
    // SAFETY: the caller's promise: these voxels and lanes exist.
    unsafe {
        let (mean, rstd) = match terms.affine {
            Some((mean, rstd)) => (
                S::load_lanes::<WHOLE>(mean.as_ptr().add(first), lanes),
                S::load_lanes::<WHOLE>(rstd.as_ptr().add(first), lanes),
            ),
            None => (S::zero(), S::splat(1.0)),
        };
        // Two chains hide half of the addition's latency.
        let mut total = [[S::zero(); 2]; 2];
        let mut voxel = voxels.start;
        while voxel < voxels.end {
            for chain in 0..2 {
                let at = (voxel + chain) * channels + first;
                if voxel + chain >= voxels.end {
                    break;
                }
                let mut x = E::load_lanes::<S, WHOLE>(terms.x.as_ptr().add(at), lanes);
                if terms.second == Second::Centred {
                    x = S::sub(x, mean);
                    total[0][chain] = S::add(total[0][chain], x);
                    total[1][chain] = S::fma(x, x, total[1][chain]);
                    continue;
                }
                total[0][chain] = S::add(total[0][chain], x);
                if terms.second == Second::None {
                    continue;
                }
                let mut y = E::load_lanes::<S, WHOLE>(terms.y.as_ptr().add(at), lanes);
                if terms.second == Second::Masked {
                    total[1][chain] = S::add(total[1][chain], S::keep_where_greater(y, S::zero(), x));
                    continue;
                }
                if terms.affine.is_some() {
                    y = S::mul(S::sub(y, mean), rstd);
                }
                total[1][chain] = S::fma(x, y, total[1][chain]);
            }
            voxel += 2;
        }
        for (offset, total) in [(first, total[0]), (channels + first, total[1])] {
            let to = sums.as_mut_ptr().add(offset);
            let sum = S::add(S::load_lanes::<WHOLE>(to, lanes), S::add(total[0], total[1]));
            S::store_lanes::<WHOLE>(to, sum, lanes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Isa;

    fn values(count: usize, step: f32, offset: f32) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * step).sin() + offset).collect()
    }

    /// Errors of `got` and of a sequential fp32 sum against f64. A sequential sum can be exact by luck, so one rounding of the
    /// sum of magnitudes is always granted.
    fn assert_as_accurate(got: f64, terms: impl Iterator<Item = (f64, f32)>) {
        let (mut exact, mut plain, mut magnitude) = (0.0f64, 0.0f32, 0.0f64);
        terms.for_each(|(e, p)| {
            exact += e;
            plain += p;
            magnitude += e.abs();
        });
        let limit = 2.0 * (f64::from(plain) - exact).abs().max(magnitude * f64::from(f32::EPSILON) / 2.0);
        assert!((got - exact).abs() <= limit, "{got} is not {exact} within {limit:e}");
    }

    #[test]
    fn sums_are_as_accurate_as_plain_loops_and_the_same_for_any_thread_count() {
        for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
            for (voxels, channels) in [(1, 1), (63, 3), (1025, 16), (5000, 33), (300_000, 2)] {
                // A mean three times the deviation, as after a ReLU with a large bias.
                let (x, dy) = (values(voxels * channels, 0.7, 2.0), values(voxels * channels, 0.3, 0.1));
                let (mean, rstd) = (values(channels, 1.0, 2.0), values(channels, 1.0, 3.0));
                let mut first = None;
                for count in 1..4 {
                    let threads = Threads::with_isa(count, isa);
                    let mut workspace = vec![f32::NAN; sums_workspace(voxels, channels)];
                    let (mut plain, mut total, mut squares) =
                        (vec![0.0; channels], vec![0.0; channels], vec![0.0; channels]);
                    sum(&threads, &x, channels, &mut plain, &mut workspace);
                    sum_and_squares(&threads, &x, channels, &mut total, &mut squares, &mut workspace);
                    let (mut s, mut dot) = (vec![0.0; channels], vec![0.0; channels]);
                    normalisation_sums(&threads, &dy, &x, &mean, &rstd, &mut s, &mut dot, &mut workspace);
                    let all = (plain, total, squares, s, dot);
                    assert_eq!(*first.get_or_insert_with(|| all.clone()), all);
                }
                let (plain, total, squares, s, dot) = first.expect("three thread counts ran");
                for c in 0..channels {
                    let channel = || (0..voxels).map(|v| v * channels + c);
                    assert_as_accurate(plain[c].into(), channel().map(|i| (x[i].into(), x[i])));
                    assert_as_accurate(total[c], channel().map(|i| (x[i].into(), x[i])));
                    assert_as_accurate(squares[c], channel().map(|i| (f64::from(x[i]).powi(2), x[i] * x[i])));
                    assert_as_accurate(s[c].into(), channel().map(|i| (dy[i].into(), dy[i])));
                    assert_as_accurate(
                        dot[c].into(),
                        channel().map(|i| {
                            let x_hat = (f64::from(x[i]) - f64::from(mean[c])) * f64::from(rstd[c]);
                            (f64::from(dy[i]) * x_hat, dy[i] * ((x[i] - mean[c]) * rstd[c]))
                        }),
                    );
                }
            }
        }
    }
}
