//! On the CPU: runs of voxels over the threads, partial sums in the workspace, added in order.

use super::{DiceLoss, DiceLossBackward, SUMS, sums};
use crate::{
    cpu::{CpuCall, Element, with_element},
    ops::activation::{sigmoid, softmax},
    tensor::Volume,
};

/// Voxels per task: fixed, so that the sums have the same bits for any number of threads.
const TASK: usize = 1 << 12;
/// The most classes that labels of one byte can tell apart.
const CLASSES: usize = 256;

/// Bytes for one row of partial sums per task.
pub(super) fn workspace(logits: Volume) -> usize {
    4 * logits.n * tasks_per_sample(logits) * logits.c * SUMS
}

/// fp32 elements that [`backward`] keeps: two factors per class, and the sums of the batch.
pub(super) fn coefficients_length(classes: usize) -> usize {
    (2 + SUMS) * classes
}

fn tasks_per_sample(logits: Volume) -> usize {
    (logits.voxels() / logits.n).div_ceil(TASK)
}

pub(super) fn forward(op: &DiceLoss, call: &CpuCall<'_>) {
    with_element!(call.input_spec(0).dtype, E => forward_on::<E>(op, call));
}

pub(super) fn backward(op: &DiceLossBackward, call: &CpuCall<'_>) {
    with_element!(call.input_spec(0).dtype, E => backward_on::<E>(op, call));
}

fn forward_on<E: Element>(op: &DiceLoss, call: &CpuCall<'_>) {
    let volume = call.input_spec(0).shape.volume().expect("checked when recorded");
    let (c, row, tasks) = (volume.c, volume.c * SUMS, tasks_per_sample(volume));
    let sample = volume.voxels() / volume.n;
    let (logits, labels, weights) = (call.elements::<E>(0), call.u8(1), call.f32(2));
    let partials = &mut call.workspace()[..volume.n * tasks * row];
    call.threads().for_chunks(partials, row, |task, partial| {
        let first = task % tasks * TASK;
        let voxels = task / tasks * sample + first..task / tasks * sample + sample.min(first + TASK);
        let mut sums = [[0f64; SUMS]; CLASSES];
        let mut p = [0f32; CLASSES];
        let logits = &logits[voxels.start * c..voxels.end * c];
        for (voxel, &label) in logits.chunks_exact(c).zip(&labels[voxels]) {
            let chosen = probabilities(voxel, &mut p[..c]);
            for (class, sums) in sums[..c].iter_mut().enumerate() {
                let p = f64::from(p[class]);
                let t = f64::from(u8::from(is_class(label, class, c)));
                let hit = f64::from(u8::from(chosen == Some(class)));
                sums[0] += p * t;
                sums[1] += p * p;
                sums[2] += t;
                sums[3] += p;
                sums[4] += hit * t;
                sums[5] += hit;
            }
        }
        for (to, from) in partial.iter_mut().zip(sums[..c].iter().flatten()) {
            *to = *from as f32;
        }
    });
    let sums = call.f32_mut(1);
    for (sums, partials) in sums.chunks_exact_mut(row).zip(partials.chunks_exact(tasks * row)) {
        for (index, sum) in sums.iter_mut().enumerate() {
            *sum = partials.chunks_exact(row).map(|partial| f64::from(partial[index])).sum::<f64>() as f32;
        }
    }
    // The partial sums are done with: their first row becomes the batch's.
    let total = &mut partials[..row];
    add_samples(sums, total);
    call.f32_mut(0)[0] = sums::loss(rows(total), op.kind, weights) as f32;
}

fn backward_on<E: Element>(op: &DiceLossBackward, call: &CpuCall<'_>) {
    let c = call.input_spec(0).shape.volume().expect("checked when recorded").c;
    let (labels, weights, sums, dloss) = (call.u8(1), call.f32(2), call.f32(3), call.f32(4)[0]);
    let (factors, total) = call.workspace()[..coefficients_length(c)].split_at_mut(2 * c);
    add_samples(sums, total);
    for (class, pair) in factors.chunks_exact_mut(2).enumerate() {
        let (of_truth, of_probability) = sums::slopes(rows(total), op.kind, weights, class);
        pair[0] = (f64::from(dloss) * of_truth) as f32;
        pair[1] = (f64::from(dloss) * of_probability) as f32;
    }
    let factors = &*factors;
    let source = (!call.is_in_place(0, 0)).then(|| call.elements::<E>(0));
    call.threads().for_chunks(call.elements_mut::<E>(0), TASK * c, |task, chunk| {
        if let Some(source) = source {
            chunk.copy_from_slice(&source[task * TASK * c..][..chunk.len()]);
        }
        let (mut p, mut slopes) = ([0f32; CLASSES], [0f32; CLASSES]);
        for (voxel, &label) in chunk.chunks_exact_mut(c).zip(&labels[task * TASK..]) {
            probabilities(voxel, &mut p[..c]);
            if c == 1 {
                let slope = factors[1] + if label != 0 { factors[0] } else { 0.0 };
                voxel[0] = E::narrow(slope * p[0] * (1.0 - p[0]));
                continue;
            }
            let mut mean = 0.0;
            for (class, slope) in slopes[..c].iter_mut().enumerate() {
                let of_truth = if usize::from(label) == class { factors[2 * class] } else { 0.0 };
                *slope = of_truth + factors[2 * class + 1] * p[class];
                mean += p[class] * *slope;
            }
            for ((d, slope), &p) in voxel.iter_mut().zip(&slopes).zip(&p) {
                *d = E::narrow(p * (slope - mean));
            }
        }
    });
}

/// Adds the samples' sums into one row per class.
fn add_samples(sums: &[f32], total: &mut [f32]) {
    let length = total.len();
    for (index, total) in total.iter_mut().enumerate() {
        *total = sums.iter().skip(index).step_by(length).map(|&sum| f64::from(sum)).sum::<f64>() as f32;
    }
}

fn rows(sums: &[f32]) -> &[[f32; SUMS]] {
    bytemuck::cast_slice(sums)
}

/// Probabilities of one voxel and the class it is given to; in binary mode the foreground (index 0) or none.
#[inline]
fn probabilities<E: Element>(logits: &[E], p: &mut [f32]) -> Option<usize> {
    if let &[logit] = logits {
        p[0] = sigmoid(logit.widen());
        return (logit.widen() > 0.0).then_some(0);
    }
    p.iter_mut().zip(logits).for_each(|(p, logit)| *p = logit.widen());
    let mut best = 0;
    for class in 1..p.len() {
        if p[class] > p[best] {
            best = class;
        }
    }
    softmax(p);
    Some(best)
}

#[inline]
fn is_class(label: u8, class: usize, classes: usize) -> bool {
    if classes == 1 { label != 0 } else { usize::from(label) == class }
}
