//! On the CPU: sums per channel, then one pass to apply; see [`crate::cpu::reduce`] and [`crate::cpu::batch_norm`].

use super::{BatchNormFinish, FusedBatchNormBackward, volume};
use crate::{
    cpu::{CpuCall, Element, batch_norm::Backward, reduce, with_element},
    tensor::Volume,
};

/// Bytes for the partial sums of both statistics.
pub(super) fn sums_workspace(x: Volume) -> usize {
    4 * reduce::sums_workspace(x.voxels(), x.c)
}

pub(super) fn statistics(call: &CpuCall<'_>) {
    let (mean, variance, workspace) = (call.f32_mut(0), call.f32_mut(1), call.workspace());
    with_element!(call.input_spec(0).dtype, E => {
        reduce::mean_and_variance::<E>(call.threads(), call.elements(0), mean, variance, workspace);
    });
}

/// In double precision: a few hundred numbers, which every voxel is multiplied by.
pub(super) fn finish(op: &BatchNormFinish, call: &CpuCall<'_>) {
    let [gamma, beta, mean, variance] = [0, 1, 2, 3].map(|input| call.f32(input));
    let (scales, shifts) = (call.f32_mut(0), call.f32_mut(1));
    for c in 0..gamma.len() {
        let scale = f64::from(gamma[c]) * reciprocal_deviation(variance[c], op.epsilon);
        scales[c] = scale as f32;
        // With the scale as it was rounded: what is subtracted is then what the mean itself is multiplied by.
        shifts[c] = (f64::from(beta[c]) - f64::from(mean[c]) * f64::from(scales[c])) as f32;
    }
}

pub(super) fn backward(op: &FusedBatchNormBackward, call: &CpuCall<'_>) {
    with_element!(call.input_spec(0).dtype, E => backward_on::<E>(op, call));
}

fn backward_on<E: Element>(op: &FusedBatchNormBackward, call: &CpuCall<'_>) {
    let c = volume(&call.input_spec(0)).c;
    let x = call.elements::<E>(0);
    let [gamma, mean, variance] = [1, 2, 3].map(|input| call.f32(input));
    let (dx, dgamma, dbeta) = (call.elements_mut::<E>(0), call.f32_mut(1), call.f32_mut(2));
    let (rstd, partials) = call.workspace().split_at_mut(c);
    reciprocal_deviations(variance, op.epsilon, rstd);
    let threads = call.threads();
    // Either gradient's bytes may have passed to the result, which then still holds it.
    let dy = (!call.is_in_place(4, 0)).then(|| call.elements(4));
    let addend = addend(op.accumulate, call, 5);
    reduce::normalisation_sums(threads, dy.unwrap_or(dx), x, mean, rstd, dbeta, dgamma, partials);
    Backward { x, mean, rstd, gamma, sum: dbeta, dot: dgamma, relu: op.relu }.apply(threads, dy, addend, dx);
}

/// The other gradient, if there is one; `Some(None)`: its bytes have passed to the result.
pub(super) fn addend<'a, E: Element>(accumulate: bool, call: &CpuCall<'a>, operand: usize) -> Option<Option<&'a [E]>> {
    accumulate.then(|| (!call.is_in_place(operand, 0)).then(|| call.elements(operand)))
}

pub(super) fn reciprocal_deviations(variance: &[f32], epsilon: f64, rstd: &mut [f32]) {
    for (rstd, &variance) in rstd.iter_mut().zip(variance) {
        *rstd = reciprocal_deviation(variance, epsilon) as f32;
    }
}

fn reciprocal_deviation(variance: f32, epsilon: f64) -> f64 {
    1.0 / (f64::from(variance) + epsilon).sqrt()
}
