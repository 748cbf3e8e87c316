//! The definition: the plain operations, one after the other.

use super::{FusedConvTranspose3d, FusedConvTranspose3dWgrad};
use crate::{
    graph::{
        Op,
        reference::{Dense, Precision},
    },
    ops::{
        batch_norm_fused::BatchNormStatistics,
        conv_transpose3d::{ConvTranspose3d, ConvTranspose3dWgrad},
    },
    tensor::{DType, Spec},
};

impl FusedConvTranspose3d {
    pub(super) fn reference<T: Precision>(&self, inputs: &[Dense<T>], outputs: &[Spec]) -> Vec<Dense<T>> {
        self.reference_by(T::call, inputs, outputs)
    }

    /// By this call of the plain operation.
    pub(super) fn reference_by<T: Precision>(
        &self,
        call: impl Fn(&dyn Op, &[Dense<T>], &[Spec]) -> Vec<Dense<T>>,
        inputs: &[Dense<T>],
        outputs: &[Spec],
    ) -> Vec<Dense<T>> {
        let (x, rest) = self.load.apply(inputs, outputs[0].dtype);
        let operands: Vec<Dense<T>> = [x].into_iter().chain(rest.iter().cloned()).collect();
        let mut results = call(&ConvTranspose3d, &operands, &outputs[..1]);
        if self.statistics {
            let statistics = T::call(&BatchNormStatistics, &results, &outputs[1..]);
            results.extend(statistics);
        }
        results
    }
}

impl FusedConvTranspose3dWgrad {
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
        let (x, rest) = self.load.apply(inputs, dtype);
        call(&ConvTranspose3dWgrad, &[x, rest[0].clone()], outputs)
    }
}
