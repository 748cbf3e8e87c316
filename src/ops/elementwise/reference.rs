//! The definitions.

use super::{Add, Axpy, Cast};
use crate::{
    graph::reference::{Dense, Real},
    tensor::Spec,
};

impl Add {
    pub(super) fn reference<T: Real>(&self, inputs: &[Dense<T>], outputs: &[Spec]) -> Vec<Dense<T>> {
        Axpy { alpha: 1.0 }.reference(inputs, outputs)
    }
}

impl Axpy {
    pub(super) fn reference<T: Real>(&self, inputs: &[Dense<T>], _outputs: &[Spec]) -> Vec<Dense<T>> {
        let alpha = T::of(f64::from(self.alpha));
        let data = inputs[0].data.iter().zip(&inputs[1].data).map(|(&a, &b)| a + alpha * b).collect();
        vec![Dense { shape: inputs[0].shape, data }]
    }
}

impl Cast {
    /// The identity: whoever computes in single precision rounds results to their element type, double precision is the
    /// truth (see [`crate::graph::reference`]).
    pub(super) fn reference<T: Real>(&self, inputs: &[Dense<T>], _outputs: &[Spec]) -> Vec<Dense<T>> {
        vec![inputs[0].clone()]
    }
}
