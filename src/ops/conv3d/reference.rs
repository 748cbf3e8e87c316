//! The definition: the sum over taps and channels, written down once and walked three ways.

use super::{Conv3d, Conv3dDgrad, Conv3dWgrad, pad_before};
use crate::{
    graph::reference::{Dense, Real},
    ops::products::{Factors, OneByOne, Summation},
    tensor::{Spec, Volume},
};

impl Conv3d {
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
        let (input, channels) = (x.volume(), y.volume().c);
        for voxel in y.data.chunks_exact_mut(channels) {
            voxel.copy_from_slice(&bias.data);
        }
        let factors = Factors { left: &x.data, right: &filter.data, columns: channels, stride: 1 };
        summation.sum(factors, &mut y.data, |sums| {
            for_each_tap(self.kernel, input, |from, to, tap| {
                (0..input.c).for_each(|c| sums.add(to, from * input.c + c, (tap * input.c + c) * channels));
            });
        });
        if self.relu {
            y.data.iter_mut().for_each(|value| *value = value.max(T::of(0.0)));
        }
        vec![y]
    }
}

impl Conv3dDgrad {
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
        let (input, channels) = (dx.volume(), dy.volume().c);
        let factors = Factors { left: &dy.data, right: &filter.data, columns: input.c, stride: channels };
        summation.sum(factors, &mut dx.data, |sums| {
            for_each_tap(self.kernel, input, |from, to, tap| {
                (0..channels).for_each(|k| sums.add(from, to * channels + k, tap * input.c * channels + k));
            });
        });
        vec![dx]
    }
}

impl Conv3dWgrad {
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
        let (input, channels) = (x.volume(), dy.volume().c);
        for voxel in dy.data.chunks_exact(channels) {
            for (sum, &value) in dbias.data.iter_mut().zip(voxel) {
                *sum += value;
            }
        }
        let factors = Factors { left: &x.data, right: &dy.data, columns: channels, stride: 1 };
        summation.sum(factors, &mut dfilter.data, |sums| {
            for_each_tap(self.kernel, input, |from, to, tap| {
                (0..input.c).for_each(|c| sums.add(tap * input.c + c, from * input.c + c, to * channels));
            });
        });
        vec![dfilter, dbias]
    }
}

/// Calls `visit(input voxel, output voxel, tap)` for every tap that lies inside the volume.
fn for_each_tap(kernel: [usize; 3], volume: Volume, mut visit: impl FnMut(usize, usize, usize)) {
    let ([d, h, w], [pad_d, pad_h, pad_w]) = (volume.extent, pad_before(kernel));
    let index = |n: usize, z: usize, y: usize, x: usize| ((n * d + z) * h + y) * w + x;
    let inside = |at: usize, tap: usize, pad: usize, extent: usize| (at + tap).checked_sub(pad).filter(|&i| i < extent);
    for n in 0..volume.n {
        for z in 0..d {
            for y in 0..h {
                for x in 0..w {
                    for tap in 0..kernel.iter().product() {
                        let (tz, ty, tx) =
                            (tap / (kernel[1] * kernel[2]), tap / kernel[2] % kernel[1], tap % kernel[2]);
                        let Some(from_z) = inside(z, tz, pad_d, d) else { continue };
                        let Some(from_y) = inside(y, ty, pad_h, h) else { continue };
                        let Some(from_x) = inside(x, tx, pad_w, w) else { continue };
                        visit(index(n, from_z, from_y, from_x), index(n, z, y, x), tap);
                    }
                }
            }
        }
    }
}
