//! The definition, parameter by parameter and element by element.

use super::{Optimizer, Rule};
use crate::{
    graph::reference::{Dense, Real},
    tensor::Spec,
};

impl Optimizer {
    pub(super) fn reference<T: Real>(&self, inputs: &[Dense<T>], _outputs: &[Spec]) -> Vec<Dense<T>> {
        let count = self.parameters(inputs.len());
        let is_skipped = self.flag(inputs.len()).is_some_and(|flag| inputs[flag].first().f64() != 0.0);
        let mut values: Vec<Dense<T>> = inputs.to_vec();
        let hyper: Vec<T> = inputs[0].data.clone();
        for index in (0..count).filter(|_| !is_skipped) {
            let (parameter, gradient, state) = self.positions(count, index);
            let state: Vec<usize> = state.collect();
            for i in 0..inputs[parameter].data.len() {
                let g = self.clipped(inputs[gradient].data[i] * hyper[3]);
                let mut s: Vec<T> = state.iter().map(|&kind| inputs[kind].data[i]).collect();
                let step = self.step(&hyper, g, &mut s);
                values[parameter].data[i] = inputs[parameter].data[i] + step;
                for (&kind, value) in state.iter().zip(s) {
                    values[kind].data[i] = value;
                }
            }
        }
        values.truncate(1 + count * (2 + self.rule.state().len()));
        values.drain(1 + count..1 + 2 * count);
        values.remove(0);
        values
    }

    fn clipped<T: Real>(&self, g: T) -> T {
        if self.clip == 0.0 {
            return g;
        }
        let bound = T::of(f64::from(self.clip));
        g.max(-bound).min(bound)
    }

    /// What is added to one element, given its state.
    fn step<T: Real>(&self, hyper: &[T], g: T, state: &mut [T]) -> T {
        let c = T::of;
        match self.rule {
            Rule::Sgd { momentum, nesterov } => {
                state[0] = c(momentum) * state[0] - hyper[0] * g;
                if nesterov { c(momentum) * state[0] - hyper[0] * g } else { state[0] }
            }
            Rule::Adam { beta1, beta2, epsilon, amsgrad } => {
                state[0] += (g - state[0]) * c(1.0 - beta1);
                state[1] += (g * g - state[1]) * c(1.0 - beta2);
                let mut second = state[1];
                if amsgrad {
                    state[2] = state[2].max(second);
                    second = state[2];
                }
                -(hyper[0] * state[0] / (second.sqrt() + c(epsilon)))
            }
            Rule::Nadam { beta1, beta2, epsilon } => {
                state[0] += (g - state[0]) * c(1.0 - beta1);
                state[1] += (g * g - state[1]) * c(1.0 - beta2);
                -(hyper[0] * (hyper[1] * g + hyper[2] * state[0]) / (state[1].sqrt() + c(epsilon)))
            }
        }
    }
}
