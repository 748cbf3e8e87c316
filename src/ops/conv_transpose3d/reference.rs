//! The definition: every input voxel paints a 2x2x2 block of the output.

use super::{ConvTranspose3d, ConvTranspose3dDgrad, ConvTranspose3dWgrad};
use crate::{
    graph::reference::{Dense, Real},
    tensor::{Spec, Volume},
};

impl ConvTranspose3d {
    pub(super) fn reference<T: Real>(&self, inputs: &[Dense<T>], outputs: &[Spec]) -> Vec<Dense<T>> {
        let [x, filter, bias] = inputs else { unreachable!("three operands") };
        let mut y = Dense::zeros(outputs[0].shape);
        let (small, k_count) = (x.volume(), y.volume().c);
        for_each_tap(small, |from, to, tap| {
            for k in 0..k_count {
                let mut sum = bias.data[k];
                for c in 0..small.c {
                    sum += x.data[from * small.c + c] * filter.data[(tap * small.c + c) * k_count + k];
                }
                y.data[to * k_count + k] = sum;
            }
        });
        vec![y]
    }
}

impl ConvTranspose3dDgrad {
    pub(super) fn reference<T: Real>(&self, inputs: &[Dense<T>], outputs: &[Spec]) -> Vec<Dense<T>> {
        let [dy, filter] = inputs else { unreachable!("two operands") };
        let mut dx = Dense::zeros(outputs[0].shape);
        let (small, k_count) = (dx.volume(), dy.volume().c);
        for_each_tap(small, |from, to, tap| {
            for c in 0..small.c {
                for k in 0..k_count {
                    dx.data[from * small.c + c] +=
                        dy.data[to * k_count + k] * filter.data[(tap * small.c + c) * k_count + k];
                }
            }
        });
        vec![dx]
    }
}

impl ConvTranspose3dWgrad {
    pub(super) fn reference<T: Real>(&self, inputs: &[Dense<T>], outputs: &[Spec]) -> Vec<Dense<T>> {
        let [x, dy] = inputs else { unreachable!("two operands") };
        let mut dfilter = Dense::zeros(outputs[0].shape);
        let mut dbias = Dense::zeros(outputs[1].shape);
        let (small, k_count) = (x.volume(), dy.volume().c);
        for voxel in dy.data.chunks_exact(k_count) {
            for (sum, &value) in dbias.data.iter_mut().zip(voxel) {
                *sum += value;
            }
        }
        for_each_tap(small, |from, to, tap| {
            for c in 0..small.c {
                for k in 0..k_count {
                    dfilter.data[(tap * small.c + c) * k_count + k] +=
                        x.data[from * small.c + c] * dy.data[to * k_count + k];
                }
            }
        });
        vec![dfilter, dbias]
    }
}

/// Calls `visit(small voxel, large voxel, tap)` for the eight taps of every small voxel.
fn for_each_tap(small: Volume, mut visit: impl FnMut(usize, usize, usize)) {
    let [d, h, w] = small.extent;
    for from in 0..small.voxels() {
        let (n, z, y, x) = (from / (d * h * w), from / (h * w) % d, from / w % h, from % w);
        for tap in 0..8 {
            let (z, y, x) = (2 * z + tap / 4, 2 * y + tap / 2 % 2, 2 * x + tap % 2);
            visit(from, ((n * 2 * d + z) * 2 * h + y) * 2 * w + x, tap);
        }
    }
}
