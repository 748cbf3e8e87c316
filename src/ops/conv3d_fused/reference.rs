//! The definition: the plain operations, one after the other.

use super::{FusedConv3d, FusedConv3dDgrad, FusedConv3dWgrad};
use crate::{
    graph::{
        Op,
        reference::{Dense, Precision},
    },
    ops::{batch_norm_fused::BatchNormStatistics, concat::Split, relu::ReluBackward},
    tensor::{DType, Spec},
};

impl FusedConv3d {
    pub(super) fn reference<T: Precision>(&self, inputs: &[Dense<T>], outputs: &[Spec]) -> Vec<Dense<T>> {
        self.reference_by(T::call, inputs, outputs)
    }

    /// By this call of the plain convolution.
    pub(super) fn reference_by<T: Precision>(
        &self,
        call: impl Fn(&dyn Op, &[Dense<T>], &[Spec]) -> Vec<Dense<T>>,
        inputs: &[Dense<T>],
        outputs: &[Spec],
    ) -> Vec<Dense<T>> {
        let (x, rest) = self.sources.join(inputs, outputs[0].dtype);
        let operands: Vec<Dense<T>> = [x].into_iter().chain(rest.iter().cloned()).collect();
        let mut results = call(&self.plain(), &operands, &outputs[..1]);
        if self.statistics {
            let statistics = T::call(&BatchNormStatistics, &results, &outputs[1..]);
            results.extend(statistics);
        }
        results
    }
}

impl FusedConv3dWgrad {
    pub(super) fn reference<T: Precision>(&self, inputs: &[Dense<T>], outputs: &[Spec]) -> Vec<Dense<T>> {
        self.reference_of(T::call, inputs, DType::F32, outputs)
    }

    /// By this call of the plain gradient, for activations of this type.
    pub(super) fn reference_of<T: Precision>(
        &self,
        call: impl Fn(&dyn Op, &[Dense<T>], &[Spec]) -> Vec<Dense<T>>,
        inputs: &[Dense<T>],
        dtype: DType,
        outputs: &[Spec],
    ) -> Vec<Dense<T>> {
        let (x, rest) = self.sources.join(inputs, dtype);
        call(&self.plain(), &[x, masked(rest[0].clone(), rest.get(1))], outputs)
    }
}

impl FusedConv3dDgrad {
    pub(super) fn reference<T: Precision>(&self, inputs: &[Dense<T>], outputs: &[Spec]) -> Vec<Dense<T>> {
        self.reference_by(T::call, inputs, outputs)
    }

    /// By this call of the plain gradient.
    pub(super) fn reference_by<T: Precision>(
        &self,
        call: impl Fn(&dyn Op, &[Dense<T>], &[Spec]) -> Vec<Dense<T>>,
        inputs: &[Dense<T>],
        outputs: &[Spec],
    ) -> Vec<Dense<T>> {
        let dy = masked(inputs[0].clone(), self.relu.then(|| &inputs[1]));
        let dx = call(&self.plain(), &[dy, inputs[self.filter()].clone()], &[self.joined(outputs)]);
        match self.first {
            Some(first) => T::call(&Split { first }, &dx, outputs),
            None => dx,
        }
    }
}

/// `dy` where the ReLU's result is positive.
fn masked<T: Precision>(dy: Dense<T>, y: Option<&Dense<T>>) -> Dense<T> {
    let Some(y) = y else { return dy };
    let spec = Spec::f32(dy.shape);
    T::call(&ReluBackward, &[y.clone(), dy], &[spec]).swap_remove(0)
}
