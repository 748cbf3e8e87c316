//! The definition. Both passes start from the logits; the gradient goes through the quotient, then the softmax.

use super::{DiceLoss, DiceLossBackward, EPSILON, LossKind, SUMS};
use crate::{
    graph::reference::{Dense, Real},
    ops::activation::{sigmoid_reference, softmax_reference},
    tensor::{Shape, Spec},
};

impl DiceLoss {
    pub(super) fn reference<T: Real>(&self, inputs: &[Dense<T>], outputs: &[Spec]) -> Vec<Dense<T>> {
        let [logits, labels, weights] = inputs else { unreachable!("three operands") };
        let c = logits.volume().c;
        let mut sums = Dense::zeros(outputs[1].shape);
        let sample = logits.volume().voxels() / logits.volume().n;
        for (index, (voxel, &label)) in logits.data.chunks_exact(c).zip(&labels.data).enumerate() {
            let p = probabilities(voxel);
            let chosen = arg_max(voxel);
            for (class, &p) in p.iter().enumerate() {
                let t = T::of(f64::from(u8::from(is_class(label, class, c))));
                let hit = T::of(f64::from(u8::from(chosen == Some(class))));
                let row = &mut sums.data[(index / sample * c + class) * SUMS..][..SUMS];
                for (sum, term) in row.iter_mut().zip([p * t, p * p, t, p, hit * t, hit]) {
                    *sum += term;
                }
            }
        }
        let miss = T::of(1.0) - mean_dice(&of_batch(&sums), weights);
        let loss = match self.kind {
            LossKind::Dice => miss,
            LossKind::LogDice => miss.cosh().ln(),
        };
        vec![Dense { shape: outputs[0].shape, data: vec![loss] }, sums]
    }
}

impl DiceLossBackward {
    pub(super) fn reference<T: Real>(&self, inputs: &[Dense<T>], outputs: &[Spec]) -> Vec<Dense<T>> {
        let [logits, labels, weights, sums, dloss] = inputs else { unreachable!("five operands") };
        let c = logits.volume().c;
        let sums = &of_batch(sums);
        let two = T::of(2.0);
        let outer = match self.kind {
            LossKind::Dice => -dloss.first(),
            LossKind::LogDice => -(T::of(1.0) - mean_dice(sums, weights)).tanh() * dloss.first(),
        };
        let total = total(weights);
        let mut dlogits = Dense::zeros(outputs[0].shape);
        for ((voxel, &label), d) in logits.data.chunks_exact(c).zip(&labels.data).zip(dlogits.data.chunks_exact_mut(c))
        {
            let p = probabilities(voxel);
            let slope: Vec<T> = (0..c)
                .map(|class| {
                    let (numerator, denominator) = fraction(sums, class);
                    let t = T::of(f64::from(u8::from(is_class(label, class, c))));
                    // d(numerator) = 2 t, d(denominator) = 2 p, or 1 in binary mode: the quotient rule.
                    let of_denominator = if c == 1 { T::of(1.0) } else { two * p[class] };
                    let quotient = (two * t * denominator - numerator * of_denominator) / (denominator * denominator);
                    outer * weights.data[class] / total * quotient
                })
                .collect();
            if c == 1 {
                d[0] = slope[0] * p[0] * (T::of(1.0) - p[0]);
                continue;
            }
            let mut mean = T::of(0.0);
            for class in 0..c {
                mean += p[class] * slope[class];
            }
            for class in 0..c {
                d[class] = p[class] * (slope[class] - mean);
            }
        }
        vec![dlogits]
    }
}

fn probabilities<T: Real>(logits: &[T]) -> Vec<T> {
    if let &[logit] = logits {
        return vec![sigmoid_reference(logit)];
    }
    let mut p = logits.to_vec();
    softmax_reference(&mut p);
    p
}

/// The class that the voxel is given to; in binary mode the foreground (index 0) or none.
fn arg_max<T: Real>(logits: &[T]) -> Option<usize> {
    if let &[logit] = logits {
        return (logit > T::of(0.0)).then_some(0);
    }
    let mut best = 0;
    for class in 1..logits.len() {
        if logits[class] > logits[best] {
            best = class;
        }
    }
    Some(best)
}

fn is_class<T: Real>(label: T, class: usize, classes: usize) -> bool {
    if classes == 1 { label.f64() != 0.0 } else { label.f64() == class as f64 }
}

/// Adds the samples' sums: `[N, C, 6]` to `[C, 6]`.
fn of_batch<T: Real>(sums: &Dense<T>) -> Dense<T> {
    let &[_, classes, columns] = sums.shape.extents() else { unreachable!("[N, C, 6]") };
    let mut total = Dense::zeros(Shape::new(&[classes, columns]));
    for sample in sums.data.chunks_exact(classes * columns) {
        for (total, &sum) in total.data.iter_mut().zip(sample) {
            *total += sum;
        }
    }
    total
}

fn fraction<T: Real>(sums: &Dense<T>, class: usize) -> (T, T) {
    let row = &sums.data[class * SUMS..][..SUMS];
    let binary = sums.data.len() == SUMS;
    let epsilon = T::of(EPSILON);
    let denominator = if binary { row[3] + row[2] } else { row[1] + row[2] };
    (T::of(2.0) * row[0] + epsilon, denominator + epsilon)
}

fn total<T: Real>(weights: &Dense<T>) -> T {
    weights.data.iter().fold(T::of(0.0), |sum, &weight| sum + weight)
}

fn mean_dice<T: Real>(sums: &Dense<T>, weights: &Dense<T>) -> T {
    let mut mean = T::of(0.0);
    for (class, &weight) in weights.data.iter().enumerate() {
        let (numerator, denominator) = fraction(sums, class);
        mean += weight * numerator / denominator;
    }
    mean / total(weights)
}
