//! The definition, two passes for the statistics: first the mean, then the mean squared distance from it.

use super::{BatchNorm, BatchNormBackward, BatchNormInference, BatchNormRunning};
use crate::{
    graph::reference::{Dense, Real},
    tensor::Spec,
};

impl BatchNorm {
    pub(super) fn reference<T: Real>(&self, inputs: &[Dense<T>], _outputs: &[Spec]) -> Vec<Dense<T>> {
        let [x, gamma, beta] = inputs else { unreachable!("three operands") };
        let c = gamma.data.len();
        let count = T::of((x.data.len() / c) as f64);
        let mut mean = Dense::zeros(gamma.shape);
        let mut variance = Dense::zeros(gamma.shape);
        for (i, &value) in x.data.iter().enumerate() {
            mean.data[i % c] += value;
        }
        mean.data.iter_mut().for_each(|sum| *sum = *sum / count);
        for (i, &value) in x.data.iter().enumerate() {
            let distance = value - mean.data[i % c];
            variance.data[i % c] += distance * distance;
        }
        variance.data.iter_mut().for_each(|sum| *sum = *sum / count);
        let y = normalise(x, gamma, beta, &mean, &variance, self.epsilon);
        vec![y, mean, variance]
    }
}

impl BatchNormInference {
    pub(super) fn reference<T: Real>(&self, inputs: &[Dense<T>], _outputs: &[Spec]) -> Vec<Dense<T>> {
        let [x, gamma, beta, mean, variance] = inputs else { unreachable!("five operands") };
        vec![normalise(x, gamma, beta, mean, variance, self.epsilon)]
    }
}

impl BatchNormRunning {
    pub(super) fn reference<T: Real>(&self, inputs: &[Dense<T>], _outputs: &[Spec]) -> Vec<Dense<T>> {
        let momentum = T::of(self.momentum);
        let blend = |old: &Dense<T>, new: &Dense<T>| Dense {
            shape: old.shape,
            data: old
                .data
                .iter()
                .zip(&new.data)
                .map(|(&old, &new)| old * momentum + new * T::of(1.0 - self.momentum))
                .collect(),
        };
        vec![blend(&inputs[0], &inputs[2]), blend(&inputs[1], &inputs[3])]
    }
}

impl BatchNormBackward {
    /// `dx = gamma * rstd * (dy - mean(dy) - x_hat * mean(dy * x_hat))`: the mean and the variance depend on x too.
    pub(super) fn reference<T: Real>(&self, inputs: &[Dense<T>], _outputs: &[Spec]) -> Vec<Dense<T>> {
        let [x, gamma, mean, variance, dy] = inputs else { unreachable!("five operands") };
        let c = gamma.data.len();
        let count = T::of((x.data.len() / c) as f64);
        let rstd: Vec<T> = variance.data.iter().map(|&v| reciprocal_deviation(v, self.epsilon)).collect();
        let x_hat = |i: usize| (x.data[i] - mean.data[i % c]) * rstd[i % c];
        let mut dgamma = Dense::zeros(gamma.shape);
        let mut dbeta = Dense::zeros(gamma.shape);
        for (i, &gradient) in dy.data.iter().enumerate() {
            dgamma.data[i % c] += gradient * x_hat(i);
            dbeta.data[i % c] += gradient;
        }
        let mut dx = Dense::zeros(x.shape);
        for (i, &gradient) in dy.data.iter().enumerate() {
            let k = i % c;
            let centred = gradient - dbeta.data[k] / count - x_hat(i) * dgamma.data[k] / count;
            dx.data[i] = gamma.data[k] * rstd[k] * centred;
        }
        vec![dx, dgamma, dbeta]
    }
}

fn reciprocal_deviation<T: Real>(variance: T, epsilon: f64) -> T {
    T::of(1.0) / (variance + T::of(epsilon)).sqrt()
}

fn normalise<T: Real>(
    x: &Dense<T>,
    gamma: &Dense<T>,
    beta: &Dense<T>,
    mean: &Dense<T>,
    variance: &Dense<T>,
    epsilon: f64,
) -> Dense<T> {
    let c = gamma.data.len();
    let rstd: Vec<T> = variance.data.iter().map(|&v| reciprocal_deviation(v, epsilon)).collect();
    let element = |(i, &value): (usize, &T)| {
        let k = i % c;
        gamma.data[k] * (value - mean.data[k]) * rstd[k] + beta.data[k]
    };
    Dense { shape: x.shape, data: x.data.iter().enumerate().map(element).collect() }
}
