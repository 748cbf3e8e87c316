//! The definition: voxel by voxel.

use super::{Concat, Split};
use crate::{
    graph::reference::{Dense, Real},
    tensor::Spec,
};

impl Concat {
    pub(super) fn reference<T: Real>(&self, inputs: &[Dense<T>], outputs: &[Spec]) -> Vec<Dense<T>> {
        let [a, b] = inputs else { unreachable!("two operands") };
        let voxels = a.data.chunks_exact(a.volume().c).zip(b.data.chunks_exact(b.volume().c));
        let data = voxels.flat_map(|(a, b)| a.iter().chain(b)).copied().collect();
        vec![Dense { shape: outputs[0].shape, data }]
    }
}

impl Split {
    pub(super) fn reference<T: Real>(&self, inputs: &[Dense<T>], outputs: &[Spec]) -> Vec<Dense<T>> {
        let channels = inputs[0].volume().c;
        let part = |range: std::ops::Range<usize>, spec: &Spec| Dense {
            shape: spec.shape,
            data: inputs[0].data.chunks_exact(channels).flat_map(|voxel| &voxel[range.clone()]).copied().collect(),
        };
        vec![part(0..self.first, &outputs[0]), part(self.first..channels, &outputs[1])]
    }
}
