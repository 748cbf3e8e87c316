//! The definition: the mask comes from the same random numbers, the product is taken in the reference's precision.

use super::Dropout;
use crate::{
    graph::reference::{Dense, Real},
    tensor::Spec,
};

impl Dropout {
    pub(super) fn reference<T: Real>(&self, inputs: &[Dense<T>], _outputs: &[Spec]) -> Vec<Dense<T>> {
        let [x, rng] = inputs else { unreachable!("two operands") };
        let rng = std::array::from_fn(|i| rng.data[i].f64() as u32);
        let element = |(i, &value): (usize, &T)| {
            let factor = self.factors(rng, (i / 4) as u32)[i % 4];
            value * T::of(f64::from(factor))
        };
        vec![Dense { shape: x.shape, data: x.data.iter().enumerate().map(element).collect() }]
    }
}
