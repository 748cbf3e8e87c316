//! The definition: the plain operations, one after the other.

use super::{BatchNormFinish, BatchNormStatistics, FusedBatchNormBackward};
use crate::{
    graph::reference::{Dense, Precision},
    ops::{batch_norm::BatchNorm, elementwise::Add, relu::ReluBackward},
    tensor::{Shape, Spec},
};

impl BatchNormStatistics {
    /// What the plain batch norm leaves, whatever it scales and shifts by.
    pub(super) fn reference<T: Precision>(&self, inputs: &[Dense<T>], outputs: &[Spec]) -> Vec<Dense<T>> {
        let x = inputs[0].clone();
        let unused = Dense::zeros(Shape::vector(x.volume().c));
        let specs = [Spec::f32(x.shape), outputs[0], outputs[1]];
        T::call(&BatchNorm { epsilon: 1.0 }, &[x, unused.clone(), unused], &specs).split_off(1)
    }
}

impl BatchNormFinish {
    pub(super) fn reference<T: Precision>(&self, inputs: &[Dense<T>], _outputs: &[Spec]) -> Vec<Dense<T>> {
        let [gamma, beta, mean, variance] = inputs else { unreachable!("four operands") };
        let (mut scale, mut shift) = (gamma.clone(), beta.clone());
        for c in 0..gamma.data.len() {
            scale.data[c] = gamma.data[c] / (variance.data[c] + T::of(self.epsilon)).sqrt();
            shift.data[c] = beta.data[c] - mean.data[c] * scale.data[c];
        }
        vec![scale, shift]
    }
}

impl FusedBatchNormBackward {
    pub(super) fn reference<T: Precision>(&self, inputs: &[Dense<T>], outputs: &[Spec]) -> Vec<Dense<T>> {
        let mut results = T::call(&self.plain(), &inputs[..5], outputs);
        if self.accumulate {
            let operands = [inputs[5].clone(), results[0].clone()];
            results[0] = T::call(&Add, &operands, &outputs[..1]).swap_remove(0);
        }
        if self.relu {
            let operands = [inputs[0].clone(), results[0].clone()];
            results[0] = T::call(&ReluBackward, &operands, &outputs[..1]).swap_remove(0);
        }
        results
    }
}
