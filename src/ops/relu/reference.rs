//! The definition.

use super::{Relu, ReluBackward};
use crate::{
    graph::reference::{Dense, Real},
    tensor::Spec,
};

impl Relu {
    pub(super) fn reference<T: Real>(&self, inputs: &[Dense<T>], _outputs: &[Spec]) -> Vec<Dense<T>> {
        let x = &inputs[0];
        vec![Dense { shape: x.shape, data: x.data.iter().map(|value| value.max(T::of(0.0))).collect() }]
    }
}

impl ReluBackward {
    pub(super) fn reference<T: Real>(&self, inputs: &[Dense<T>], _outputs: &[Spec]) -> Vec<Dense<T>> {
        let [y, dy] = inputs else { unreachable!("two operands") };
        let zero = T::of(0.0);
        let pass = |(&y, &dy): (&T, &T)| if y > zero { dy } else { zero };
        vec![Dense { shape: y.shape, data: y.data.iter().zip(&dy.data).map(pass).collect() }]
    }
}
