//! On the CPU: sums per channel over runs of voxels, in the workspace and added in order; then one pass to apply.
//!
//! The variance takes a pass of its own around the mean: sums of squares would cancel where the mean is large.

use super::{BatchNorm, BatchNormBackward, BatchNormInference, BatchNormRunning, volume};
use crate::{cpu::Threads, session::CpuCall, tensor::Volume};

/// Voxels whose terms are added in fp32 before double precision takes over.
const RUN: usize = 64;
/// Runs per task: fixed, so that the sums have the same bits for any number of threads.
const RUNS: usize = 16;

/// Bytes for two sums per channel and task, and four factors per channel.
pub(super) fn workspace(x: Volume) -> usize {
    4 * (2 * x.voxels().div_ceil(RUN * RUNS) + 4) * x.c
}

pub(super) fn train(op: &BatchNorm, call: &CpuCall<'_>) {
    let spec = volume(&call.input_spec(0));
    let c = spec.c;
    let (x, gamma, beta) = (call.f32(0), call.f32(1), call.f32(2));
    let (y, mean, variance) = (call.f32_mut(0), call.f32_mut(1), call.f32_mut(2));
    let (factors, partials) = call.workspace()[..workspace(spec) / 4].split_at_mut(4 * c);
    let count = spec.voxels() as f64;
    let threads = call.threads();

    sums(threads, x, c, partials, |_, voxel, sums, _| {
        for (sum, x) in sums.iter_mut().zip(voxel) {
            *sum += x;
        }
    });
    for (k, mean) in mean.iter_mut().enumerate() {
        *mean = (total(partials, c, k, 0) / count) as f32;
    }
    let centre = &*mean;
    sums(threads, x, c, partials, |first, voxel, sums, squares| {
        for (((sum, square), x), mean) in sums.iter_mut().zip(squares).zip(voxel).zip(&centre[first..]) {
            let distance = x - mean;
            *sum += distance;
            *square += distance * distance;
        }
    });
    for (k, variance) in variance.iter_mut().enumerate() {
        // The rounded mean is off by `drift`; its square is what the squares are too large by.
        let drift = total(partials, c, k, 0) / count;
        *variance = (total(partials, c, k, 1) / count - drift * drift).max(0.0) as f32;
    }
    let scale = scales(gamma, variance, op.epsilon, factors);
    normalise(threads, Some(x), y, centre, scale, beta);
}

pub(super) fn inference(op: &BatchNormInference, call: &CpuCall<'_>) {
    let source = (!call.is_in_place(0, 0)).then(|| call.f32(0));
    let scale = scales(call.f32(1), call.f32(4), op.epsilon, call.workspace());
    normalise(call.threads(), source, call.f32_mut(0), call.f32(3), scale, call.f32(2));
}

pub(super) fn backward(op: &BatchNormBackward, call: &CpuCall<'_>) {
    let spec = volume(&call.input_spec(0));
    let (c, count) = (spec.c, spec.voxels() as f64);
    let (x, gamma, mean, variance) = (call.f32(0), call.f32(1), call.f32(2), call.f32(3));
    let (dx, dgamma, dbeta) = (call.f32_mut(0), call.f32_mut(1), call.f32_mut(2));
    let (factors, partials) = call.workspace()[..workspace(spec) / 4].split_at_mut(4 * c);
    let threads = call.threads();
    if !call.is_in_place(4, 0) {
        let dy = call.f32(4);
        threads.for_chunks(dx, RUN * RUNS * c, |task, dx| dx.copy_from_slice(&dy[task * RUN * RUNS * c..][..dx.len()]));
    }
    let dy = &*dx;
    let tasks = RUN * RUNS * c;
    threads.for_chunks(&mut partials[..2 * c * spec.voxels().div_ceil(RUN * RUNS)], 2 * c, |task, partial| {
        let range = task * tasks..dy.len().min((task + 1) * tasks);
        accumulate(&dy[range.clone()], &x[range], c, partial, |first, dy, x, sums, products| {
            for ((((sum, product), dy), x), mean) in sums.iter_mut().zip(products).zip(dy).zip(x).zip(&mean[first..]) {
                *sum += dy;
                *product += dy * (x - mean);
            }
        });
    });
    let (scale, rest) = factors.split_at_mut(c);
    let (slope, rest) = rest.split_at_mut(c);
    let offset = &mut rest[..c];
    for k in 0..c {
        let rstd = 1.0 / (f64::from(variance[k]) + f64::from(op.epsilon)).sqrt();
        let (sum, product) = (total(partials, c, k, 0), total(partials, c, k, 1) * rstd);
        (dbeta[k], dgamma[k]) = (sum as f32, product as f32);
        // dx = scale * (dy - offset - slope * (x - mean))
        scale[k] = (f64::from(gamma[k]) * rstd) as f32;
        offset[k] = (sum / count) as f32;
        slope[k] = (product / count * rstd) as f32;
    }
    let (scale, slope, offset) = (&*scale, &*slope, &*offset);
    threads.for_chunks(dx, tasks, |task, dx| {
        let x = &x[task * tasks..][..dx.len()];
        for (dx, x) in dx.chunks_exact_mut(c).zip(x.chunks_exact(c)) {
            for (k, (dx, x)) in dx.iter_mut().zip(x).enumerate() {
                *dx = scale[k] * (*dx - offset[k] - slope[k] * (x - mean[k]));
            }
        }
    });
}

pub(super) fn running(op: &BatchNormRunning, call: &CpuCall<'_>) {
    for output in 0..2 {
        let batch = call.f32(2 + output);
        for (average, batch) in call.f32_mut(output).iter_mut().zip(batch) {
            *average = *average * op.momentum + batch * (1.0 - op.momentum);
        }
    }
}

/// `gamma / sqrt(variance + epsilon)` per channel, into the workspace.
fn scales<'a>(gamma: &[f32], variance: &[f32], epsilon: f32, into: &'a mut [f32]) -> &'a [f32] {
    let into = &mut into[..gamma.len()];
    for ((scale, &gamma), &variance) in into.iter_mut().zip(gamma).zip(variance) {
        *scale = (f64::from(gamma) / (f64::from(variance) + f64::from(epsilon)).sqrt()) as f32;
    }
    into
}

/// `y = (x - mean) * scale + beta`; without a source, in place.
fn normalise(threads: &Threads, x: Option<&[f32]>, y: &mut [f32], mean: &[f32], scale: &[f32], beta: &[f32]) {
    let c = mean.len();
    let task_length = RUN * RUNS * c;
    threads.for_chunks(y, task_length, |task, y| {
        if let Some(x) = x {
            y.copy_from_slice(&x[task * task_length..][..y.len()]);
        }
        for voxel in y.chunks_exact_mut(c) {
            for (((y, mean), scale), beta) in voxel.iter_mut().zip(mean).zip(scale).zip(beta) {
                *y = (*y - mean) * scale + beta;
            }
        }
    });
}

/// Two sums per channel for every task, over `x` alone.
fn sums(
    threads: &Threads,
    x: &[f32],
    c: usize,
    partials: &mut [f32],
    term: impl Fn(usize, &[f32], &mut [f32], &mut [f32]) + Sync,
) {
    let length = RUN * RUNS * c;
    threads.for_chunks(&mut partials[..2 * c * x.len().div_ceil(length)], 2 * c, |task, partial| {
        let x = &x[task * length..x.len().min((task + 1) * length)];
        accumulate(x, x, c, partial, |first, x, _, a, b| term(first, x, a, b));
    });
}

/// Adds the terms of one task, run by run. `term` gets the first channel of its block.
fn accumulate(
    a: &[f32],
    b: &[f32],
    c: usize,
    partial: &mut [f32],
    term: impl Fn(usize, &[f32], &[f32], &mut [f32], &mut [f32]),
) {
    /// Channels that are summed together: their sums stay in the first-level cache.
    const BLOCK: usize = 256;
    for first in (0..c).step_by(BLOCK) {
        let channels = first..c.min(first + BLOCK);
        let width = channels.len();
        let mut totals = [[0f64; BLOCK]; 2];
        for (a, b) in a.chunks(RUN * c).zip(b.chunks(RUN * c)) {
            let mut run = [[0f32; BLOCK]; 2];
            let [sums, products] = &mut run;
            for (a, b) in a.chunks_exact(c).zip(b.chunks_exact(c)) {
                term(first, &a[channels.clone()], &b[channels.clone()], &mut sums[..width], &mut products[..width]);
            }
            for (total, run) in totals.iter_mut().zip(&run) {
                total[..width].iter_mut().zip(run).for_each(|(total, &run)| *total += f64::from(run));
            }
        }
        for (row, total) in totals.iter().enumerate() {
            for (k, total) in total[..width].iter().enumerate() {
                partial[row * c + first + k] = *total as f32;
            }
        }
    }
}

/// The sum over all tasks, for one channel and one of the two terms.
fn total(partials: &[f32], c: usize, channel: usize, term: usize) -> f64 {
    partials.chunks_exact(2 * c).map(|partial| f64::from(partial[term * c + channel])).sum()
}
