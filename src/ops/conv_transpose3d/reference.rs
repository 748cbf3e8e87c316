//! The definition: every input voxel paints a 2x2x2 block of the output.

use super::{ConvTranspose3d, ConvTranspose3dDgrad, ConvTranspose3dWgrad};
use crate::{
    graph::reference::{Dense, Real},
    ops::products::{Factors, OneByOne, Summation},
    tensor::{Spec, Volume},
};

impl ConvTranspose3d {
    pub(super) fn reference<T: Real>(&self, inputs: &[Dense<T>], outputs: &[Spec]) -> Vec<Dense<T>> {
        self.reference_by(OneByOne, inputs, outputs)
    }

    pub(super) fn reference_by<T: Real>(
        &self,
        summation: impl Summation<T>,
        inputs: &[Dense<T>],
        outputs: &[Spec],
    ) -> Vec<Dense<T>> {
        let [x, filter, bias] = inputs else { unreachable!("three operands") };
        let mut y = Dense::zeros(outputs[0].shape);
        let (small, k_count) = (x.volume(), y.volume().c);
        for voxel in y.data.chunks_exact_mut(k_count) {
            voxel.copy_from_slice(&bias.data);
        }
        let factors = Factors { left: &x.data, right: &filter.data, columns: k_count, stride: 1 };
        summation.sum(factors, &mut y.data, |sums| {
            for_each_tap(small, |from, to, tap| {
                (0..small.c).for_each(|c| sums.add(to, from * small.c + c, (tap * small.c + c) * k_count));
            });
        });
        vec![y]
    }
}

impl ConvTranspose3dDgrad {
    pub(super) fn reference<T: Real>(&self, inputs: &[Dense<T>], outputs: &[Spec]) -> Vec<Dense<T>> {
        self.reference_by(OneByOne, inputs, outputs)
    }

    pub(super) fn reference_by<T: Real>(
        &self,
        summation: impl Summation<T>,
        inputs: &[Dense<T>],
        outputs: &[Spec],
    ) -> Vec<Dense<T>> {
        let [dy, filter] = inputs else { unreachable!("two operands") };
        let mut dx = Dense::zeros(outputs[0].shape);
        let (small, k_count) = (dx.volume(), dy.volume().c);
        let factors = Factors { left: &dy.data, right: &filter.data, columns: small.c, stride: k_count };
        summation.sum(factors, &mut dx.data, |sums| {
            for_each_tap(small, |from, to, tap| {
                (0..k_count).for_each(|k| sums.add(from, to * k_count + k, tap * small.c * k_count + k));
            });
        });
        vec![dx]
    }
}

impl ConvTranspose3dWgrad {
    pub(super) fn reference<T: Real>(&self, inputs: &[Dense<T>], outputs: &[Spec]) -> Vec<Dense<T>> {
        self.reference_by(OneByOne, inputs, outputs)
    }

    pub(super) fn reference_by<T: Real>(
        &self,
        summation: impl Summation<T>,
        inputs: &[Dense<T>],
        outputs: &[Spec],
    ) -> Vec<Dense<T>> {
        let [x, dy] = inputs else { unreachable!("two operands") };
        let mut dfilter = Dense::zeros(outputs[0].shape);
        let mut dbias = Dense::zeros(outputs[1].shape);
        let (small, k_count) = (x.volume(), dy.volume().c);
        for voxel in dy.data.chunks_exact(k_count) {
            for (sum, &value) in dbias.data.iter_mut().zip(voxel) {
                *sum += value;
            }
        }
        let factors = Factors { left: &x.data, right: &dy.data, columns: k_count, stride: 1 };
        summation.sum(factors, &mut dfilter.data, |sums| {
            for_each_tap(small, |from, to, tap| {
                (0..small.c).for_each(|c| sums.add(tap * small.c + c, from * small.c + c, to * k_count));
            });
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
