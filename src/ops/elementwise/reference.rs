//! The definitions.

use super::{Add, Axpy, Cast};
use crate::{
    graph::reference::{Dense, Real},
    tensor::{DType, Spec},
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
    /// Rounding is part of what a cast means, so the reference rounds too. From fp32: `half`'s conversion from double
    /// precision looks at the upper 32 bits alone and takes near ties for ties.
    pub(super) fn reference<T: Real>(&self, inputs: &[Dense<T>], _outputs: &[Spec]) -> Vec<Dense<T>> {
        let round = |value: &T| match self.to {
            DType::Bf16 => T::of(half::bf16::from_f32(value.f64() as f32).to_f64()),
            DType::F16 => T::of(half::f16::from_f32(value.f64() as f32).to_f64()),
            _ => *value,
        };
        vec![Dense { shape: inputs[0].shape, data: inputs[0].data.iter().map(round).collect() }]
    }
}
