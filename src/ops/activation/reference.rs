//! The definitions. The maximum is subtracted first, which changes nothing but the range of the exponents.

use super::{Sigmoid, Softmax};
use crate::{
    graph::reference::{Dense, Real},
    tensor::Spec,
};

impl Softmax {
    pub(super) fn reference<T: Real>(&self, inputs: &[Dense<T>], _outputs: &[Spec]) -> Vec<Dense<T>> {
        let mut y = inputs[0].clone();
        let channels = y.volume().c;
        y.data.chunks_exact_mut(channels).for_each(softmax);
        vec![y]
    }
}

impl Sigmoid {
    pub(super) fn reference<T: Real>(&self, inputs: &[Dense<T>], _outputs: &[Spec]) -> Vec<Dense<T>> {
        let mut y = inputs[0].clone();
        y.data.iter_mut().for_each(|value| *value = sigmoid(*value));
        vec![y]
    }
}

pub fn softmax<T: Real>(voxel: &mut [T]) {
    let largest = voxel.iter().fold(voxel[0], |a, &b| a.max(b));
    let mut sum = T::of(0.0);
    for value in voxel.iter_mut() {
        *value = (*value - largest).exp();
        sum += *value;
    }
    voxel.iter_mut().for_each(|value| *value = *value / sum);
}

pub fn sigmoid<T: Real>(x: T) -> T {
    T::of(1.0) / (T::of(1.0) + (-x).exp())
}
