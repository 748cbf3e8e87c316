//! The definition: `y[2i + t] = x[i]`.

use super::{Upsample, UpsampleBackward};
use crate::{
    graph::reference::{Dense, Real},
    tensor::{Spec, Volume},
};

impl Upsample {
    pub(super) fn reference<T: Real>(&self, inputs: &[Dense<T>], outputs: &[Spec]) -> Vec<Dense<T>> {
        let mut y = Dense::zeros(outputs[0].shape);
        for_each_pair(y.volume(), |small, large| y.data[large] = inputs[0].data[small]);
        vec![y]
    }
}

impl UpsampleBackward {
    pub(super) fn reference<T: Real>(&self, inputs: &[Dense<T>], outputs: &[Spec]) -> Vec<Dense<T>> {
        let mut dx = Dense::zeros(outputs[0].shape);
        for_each_pair(inputs[0].volume(), |small, large| dx.data[small] += inputs[0].data[large]);
        vec![dx]
    }
}

/// Calls `visit(small element, large element)` for every element of the doubled volume.
fn for_each_pair(large: Volume, mut visit: impl FnMut(usize, usize)) {
    let ([d, h, w], c) = (large.extent, large.c);
    for to in 0..large.voxels() {
        let (n, z, y, x) = (to / (d * h * w), to / (h * w) % d, to / w % h, to % w);
        let from = ((n * (d / 2) + z / 2) * (h / 2) + y / 2) * (w / 2) + x / 2;
        for channel in 0..c {
            visit(from * c + channel, to * c + channel);
        }
    }
}
