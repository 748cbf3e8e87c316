//! What the optimizers need anew at each step: learning rate and bias corrections, in double precision.

use serde::{Deserialize, Serialize};

use crate::ops::optimizer::Rule;

/// Decay of Nadam's momentum schedule, as in Keras 2.
const NADAM_DECAY: f64 = 0.004;

/// Where the optimizer stands: saved with a checkpoint, so that a resumed run goes on with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct OptimizerState {
    /// Steps taken.
    pub step: u64,
    /// Product of Nadam's momenta so far.
    pub momentum_product: f64,
}

impl Default for OptimizerState {
    fn default() -> Self {
        Self { step: 0, momentum_product: 1.0 }
    }
}

impl OptimizerState {
    /// The state after this number of steps: the same bits as after taking them.
    pub fn after(rule: &Rule, steps: u64) -> Self {
        let mut state = Self::default();
        if matches!(rule, Rule::Nadam { .. }) {
            (0..steps).for_each(|_| {
                state.advance(rule, 0.0, 1.0);
            });
        }
        Self { step: steps, ..state }
    }

    /// Takes one step at this learning rate: what the [`Optimizer`](crate::ops::optimizer::Optimizer) node reads.
    /// Gradients are divided by `loss_scale`.
    pub fn advance(&mut self, rule: &Rule, learning_rate: f64, loss_scale: f64) -> [f32; 4] {
        self.step += 1;
        let t = self.step as f64;
        let [rate, of_g, of_m] = match *rule {
            Rule::Sgd { .. } => [learning_rate, 0.0, 0.0],
            Rule::Adam { beta1, beta2, .. } => {
                let (beta1, beta2) = (f64::from(beta1), f64::from(beta2));
                [learning_rate * (1.0 - beta2.powf(t)).sqrt() / (1.0 - beta1.powf(t)), 0.0, 0.0]
            }
            Rule::Nadam { beta1, beta2, .. } => {
                let (beta1, beta2) = (f64::from(beta1), f64::from(beta2));
                let momentum = |t: f64| beta1 * (1.0 - 0.5 * 0.96f64.powf(NADAM_DECAY * t));
                let (now, next) = (momentum(t), momentum(t + 1.0));
                self.momentum_product *= now;
                let of_g = (1.0 - now) / (1.0 - self.momentum_product);
                let of_m = next / (1.0 - self.momentum_product * next);
                [learning_rate * (1.0 - beta2.powf(t)).sqrt(), of_g, of_m]
            }
        };
        [rate as f32, of_g as f32, of_m as f32, (1.0 / loss_scale) as f32]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adams_first_step_is_the_learning_rate() {
        // With m = (1 - b1) g and v = (1 - b2) g^2, lr_1 m / sqrt(v) must be lr times the gradient's sign.
        let rule = Rule::Adam { beta1: 0.9, beta2: 0.999, epsilon: 0.0, amsgrad: false };
        let [rate, ..] = OptimizerState::default().advance(&rule, 0.01, 1.0);
        let step = f64::from(rate) * 0.1 / 0.001f64.sqrt();
        assert!((step - 0.01).abs() < 1e-8, "{step}");
    }
}
