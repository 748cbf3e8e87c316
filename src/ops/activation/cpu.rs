//! On the CPU: voxels over the threads.

use crate::cpu::{CpuCall, Element, with_element};

/// Voxels per task.
const TASK: usize = 1 << 12;

/// Softmax of one voxel's logits, in place.
#[inline]
pub fn softmax(voxel: &mut [f32]) {
    let largest = voxel.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for value in voxel.iter_mut() {
        *value = (*value - largest).exp();
        sum += *value;
    }
    voxel.iter_mut().for_each(|value| *value /= sum);
}

/// The logistic function.
#[inline]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

pub(super) fn softmax_all(call: &CpuCall<'_>) {
    let channels = call.output_spec(0).shape.volume().expect("checked when recorded").c;
    for_chunks(call, TASK * channels, |chunk| chunk.chunks_exact_mut(channels).for_each(softmax));
}

pub(super) fn sigmoid_all(call: &CpuCall<'_>) {
    for_chunks(call, TASK, |chunk| chunk.iter_mut().for_each(|value| *value = sigmoid(*value)));
}

fn for_chunks(call: &CpuCall<'_>, length: usize, apply: impl Fn(&mut [f32]) + Sync) {
    let y = call.f32_mut(0);
    if call.is_in_place(0, 0) {
        return call.threads().for_chunks(y, length, |_, chunk| apply(chunk));
    }
    with_element!(call.input_spec(0).dtype, E => {
        let source = call.elements::<E>(0);
        call.threads().for_chunks(y, length, |task, chunk| {
            for (to, from) in chunk.iter_mut().zip(&source[task * length..]) {
                *to = from.widen();
            }
            apply(chunk);
        });
    });
}
