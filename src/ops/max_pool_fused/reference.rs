//! The definition: the plain operations, one after the other.

use super::{FusedMaxPool, FusedMaxPoolBackward};
use crate::{
    graph::reference::{Dense, Precision},
    ops::{
        elementwise::Add,
        max_pool::{MaxPool, MaxPoolBackward},
        sources::Load,
    },
    tensor::Spec,
};

impl FusedMaxPool {
    pub(super) fn reference<T: Precision>(&self, inputs: &[Dense<T>], outputs: &[Spec]) -> Vec<Dense<T>> {
        let (x, _) = Load::Normalised.apply(inputs, outputs[0].dtype);
        T::call(&MaxPool, &[x], outputs)
    }
}

impl FusedMaxPoolBackward {
    pub(super) fn reference<T: Precision>(&self, inputs: &[Dense<T>], outputs: &[Spec]) -> Vec<Dense<T>> {
        let (x, rest) = self.load.apply(inputs, outputs[0].dtype);
        let dx = T::call(&MaxPoolBackward, &[x, rest[0].clone()], outputs);
        match rest.get(1) {
            Some(addend) => T::call(&Add, &[addend.clone(), dx[0].clone()], outputs),
            None => dx,
        }
    }
}
