//! On the CPU: sums per channel, then one pass to apply; see [`crate::cpu::reduce`] and [`crate::cpu::channelwise`].

use super::{BatchNorm, BatchNormBackward, BatchNormInference, BatchNormRunning, volume};
use crate::{
    cpu::{
        CpuCall, Element,
        channelwise::{self, NormalisationBackward},
        reduce, with_element,
    },
    tensor::Volume,
};

/// Bytes for the partial sums and one factor per channel.
pub(super) fn workspace(x: Volume) -> usize {
    4 * (x.c + reduce::sums_workspace(x.voxels(), x.c))
}

pub(super) fn train(op: &BatchNorm, call: &CpuCall<'_>) {
    with_element!(call.input_spec(0).dtype, E => train_on::<E>(op, call));
}

pub(super) fn inference(op: &BatchNormInference, call: &CpuCall<'_>) {
    with_element!(call.input_spec(0).dtype, E => inference_on::<E>(op, call));
}

pub(super) fn backward(op: &BatchNormBackward, call: &CpuCall<'_>) {
    with_element!(call.input_spec(0).dtype, E => backward_on::<E>(op, call));
}

fn train_on<E: Element>(op: &BatchNorm, call: &CpuCall<'_>) {
    let c = volume(&call.input_spec(0)).c;
    let (x, mean, variance) = (call.elements::<E>(0), call.f32_mut(1), call.f32_mut(2));
    let (scale, partials) = call.workspace().split_at_mut(c);
    reduce::mean_and_variance(call.threads(), x, mean, variance, partials);
    scales(call.f32(1), variance, op.epsilon, scale);
    channelwise::normalise(call.threads(), x, mean, scale, call.f32(2), call.elements_mut(0));
}

fn inference_on<E: Element>(op: &BatchNormInference, call: &CpuCall<'_>) {
    let c = volume(&call.input_spec(0)).c;
    let (beta, mean, y) = (call.f32(2), call.f32(3), call.elements_mut::<E>(0));
    let scale = &mut call.workspace()[..c];
    scales(call.f32(1), call.f32(4), op.epsilon, scale);
    match call.is_in_place(0, 0) {
        true => channelwise::normalise_in_place(call.threads(), y, mean, scale, beta),
        false => channelwise::normalise(call.threads(), call.elements(0), mean, scale, beta, y),
    }
}

fn backward_on<E: Element>(op: &BatchNormBackward, call: &CpuCall<'_>) {
    let c = volume(&call.input_spec(0)).c;
    let (x, gamma, mean, variance) = (call.elements::<E>(0), call.f32(1), call.f32(2), call.f32(3));
    let (dx, dgamma, dbeta) = (call.elements_mut::<E>(0), call.f32_mut(1), call.f32_mut(2));
    let (rstd, partials) = call.workspace().split_at_mut(c);
    for (rstd, &variance) in rstd.iter_mut().zip(variance) {
        *rstd = reciprocal_deviation(variance, op.epsilon) as f32;
    }
    let threads = call.threads();
    let source = (!call.is_in_place(4, 0)).then(|| call.elements::<E>(4));
    reduce::normalisation_sums(threads, source.unwrap_or(dx), x, mean, rstd, dbeta, dgamma, partials);
    let pass = NormalisationBackward { mean, rstd, gamma, sum: dbeta, dot: dgamma, relu: false };
    match source {
        Some(dy) => pass.apply(threads, dy, x, dx),
        None => pass.apply_in_place(threads, dx, x),
    }
}

pub(super) fn running(op: &BatchNormRunning, call: &CpuCall<'_>) {
    // The difference is taken before it is rounded: 1 - 0.99 in single precision is off by 1e-6 of itself.
    let (stays, moves) = (op.momentum as f32, (1.0 - op.momentum) as f32);
    for output in 0..2 {
        let batch = call.f32(2 + output);
        for (average, batch) in call.f32_mut(output).iter_mut().zip(batch) {
            *average = *average * stays + batch * moves;
        }
    }
}

/// `gamma / sqrt(variance + epsilon)` per channel.
fn scales(gamma: &[f32], variance: &[f32], epsilon: f64, scales: &mut [f32]) {
    for ((scale, &gamma), &variance) in scales.iter_mut().zip(gamma).zip(variance) {
        *scale = (f64::from(gamma) * reciprocal_deviation(variance, epsilon)) as f32;
    }
}

fn reciprocal_deviation(variance: f32, epsilon: f64) -> f64 {
    1.0 / (f64::from(variance) + epsilon).sqrt()
}
