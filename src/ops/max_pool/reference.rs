//! The definition: the first of the largest of eight.

use super::{MaxPool, MaxPoolBackward};
use crate::{
    graph::reference::{Dense, Real},
    tensor::{Spec, Volume},
};

impl MaxPool {
    pub(super) fn reference<T: Real>(&self, inputs: &[Dense<T>], outputs: &[Spec]) -> Vec<Dense<T>> {
        let x = &inputs[0];
        let mut y = Dense::zeros(outputs[0].shape);
        for_each_maximum(x, y.volume(), |from, to| y.data[to] = x.data[from]);
        vec![y]
    }
}

impl MaxPoolBackward {
    pub(super) fn reference<T: Real>(&self, inputs: &[Dense<T>], outputs: &[Spec]) -> Vec<Dense<T>> {
        let [x, dy] = inputs else { unreachable!("two operands") };
        let mut dx = Dense::zeros(outputs[0].shape);
        for_each_maximum(x, dy.volume(), |from, to| dx.data[from] = dy.data[to]);
        vec![dx]
    }
}

/// Calls `visit(element of the maximum, element of the result)`.
fn for_each_maximum<T: Real>(x: &Dense<T>, small: Volume, mut visit: impl FnMut(usize, usize)) {
    let ([d, h, w], [_, large_h, large_w], c) = (small.extent, x.volume().extent, small.c);
    let large_d = x.volume().extent[0];
    for to in 0..small.voxels() {
        let (n, z, y, x0) = (to / (d * h * w), to / (h * w) % d, to / w % h, to % w);
        for channel in 0..c {
            let element = |tap: usize| {
                let (z, y, x) = (2 * z + tap / 4, 2 * y + tap / 2 % 2, 2 * x0 + tap % 2);
                (((n * large_d + z) * large_h + y) * large_w + x) * c + channel
            };
            let mut best = element(0);
            for tap in 1..8 {
                if x.data[element(tap)] > x.data[best] {
                    best = element(tap);
                }
            }
            visit(best, to * c + channel);
        }
    }
}
