//! Clipping and the weight update of all parameters, as one node.
//!
//! Gradients are scaled back (mixed precision scales the loss), clipped element-wise, and then (Keras semantics):
//!
//! ```text
//! sgd      v = momentum v - lr g;      p += v, or p += momentum v - lr g (Nesterov)
//! adam     m += (1 - b1)(g - m); v += (1 - b2)(g^2 - v);      p -= lr_t m / (sqrt(v) + eps)
//! amsgrad  as adam with v_hat = max(v_hat, v) in place of v; no bias correction inside the maximum
//! nadam    p -= lr_t (c_g g + c_m m) / (sqrt(v) + eps)
//! ```
//!
//! What changes from step to step (`lr`, bias corrections, loss scale) comes in a small input, [`hyper_spec`], so that a
//! captured step never goes stale. [`crate::optim`] fills it.

mod cases;
mod cpu;
pub(super) mod launch;
mod reference;

pub use cases::cases;
use serde::{Deserialize, Serialize};

use super::non_finite::flag_spec;
use crate::{
    Result,
    cpu::CpuCall,
    graph::Op,
    machine::lower::Lower,
    reference_by_definition,
    tensor::{DType, Spec},
};

/// The update rule with its constants.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "name")]
pub enum Rule {
    /// Stochastic gradient descent.
    Sgd {
        /// Share of the velocity that stays.
        momentum: f64,
        /// Looks ahead.
        nesterov: bool,
    },
    /// Adam.
    Adam {
        /// Decay of the first moment.
        beta1: f64,
        /// Decay of the second moment.
        beta2: f64,
        /// Added to the root of the second moment.
        epsilon: f64,
        /// Whether the second moment may only grow.
        amsgrad: bool,
    },
    /// Adam with Nesterov momentum.
    Nadam {
        /// Decay of the first moment.
        beta1: f64,
        /// Decay of the second moment.
        beta2: f64,
        /// Added to the root of the second moment.
        epsilon: f64,
    },
}

impl Rule {
    /// Names of the tensors that it keeps for each parameter.
    pub fn state(&self) -> &'static [&'static str] {
        match self {
            Self::Sgd { .. } => &["momentum"],
            Self::Adam { amsgrad: false, .. } | Self::Nadam { .. } => &["m", "v"],
            Self::Adam { amsgrad: true, .. } => &["m", "v", "v_hat"],
        }
    }
}

/// Operands `[hyper, parameters.., gradients.., state..]` with all state tensors of one kind before the next kind's, and
/// maybe a flag as [`super::non_finite`] leaves it behind them; results are the parameters and the state anew, in the same
/// order. Where there is a flag and it is set, nothing changes: the step is skipped on the device, which nobody waits for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Optimizer {
    /// The update rule.
    pub rule: Rule,
    /// Gradients are clipped to plus or minus this; 0 turns clipping off.
    pub clip: f32,
}

/// What the host gives at each step: `[lr_t, factor of g, factor of m, factor of the raw gradient]`.
/// Only Nadam uses the second and third.
pub fn hyper_spec() -> Spec {
    Spec::f32_vector(4)
}

/// What of the new goes into the moments, and epsilon. The differences are taken before they are rounded: 1 - 0.999 in
/// single precision is off by 1e-5 of itself.
fn shares(beta1: f64, beta2: f64, epsilon: f64) -> (f32, f32, f32) {
    ((1.0 - beta1) as f32, (1.0 - beta2) as f32, epsilon as f32)
}

impl Optimizer {
    /// Number of parameters, from the number of operands.
    fn parameters(&self, operands: usize) -> usize {
        (operands - 1) / (2 + self.rule.state().len())
    }

    /// The position of the flag that skips the step, from the number of operands.
    fn flag(&self, operands: usize) -> Option<usize> {
        ((operands - 1) % (2 + self.rule.state().len()) == 1).then_some(operands - 1)
    }

    /// Positions of the operands of one parameter: parameter, gradient, state.
    fn positions(&self, parameters: usize, index: usize) -> (usize, usize, impl Iterator<Item = usize>) {
        let state = (0..self.rule.state().len()).map(move |kind| 1 + (2 + kind) * parameters + index);
        (1 + index, 1 + parameters + index, state)
    }
}

impl Op for Optimizer {
    fn kind(&self) -> &'static str {
        "optimizer"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>, String> {
        let (parameters, flag) = (self.parameters(inputs.len()), self.flag(inputs.len()));
        let expected = 1 + parameters * (2 + self.rule.state().len()) + usize::from(flag.is_some());
        if inputs.len() != expected || inputs[0] != hyper_spec() {
            return Err(format!("{} operands do not fit {:?}", inputs.len(), self.rule));
        }
        if let Some(flag) = flag.filter(|&flag| inputs[flag] != flag_spec()) {
            return Err(format!("the flag is {}, expected {}", inputs[flag], flag_spec()));
        }
        for index in 0..parameters {
            let (parameter, gradient, mut state) = self.positions(parameters, index);
            let spec = inputs[parameter];
            if spec.dtype != DType::F32 || inputs[gradient] != spec || state.any(|kind| inputs[kind] != spec) {
                return Err(format!("parameter {index} ({spec}), its gradient and its state differ"));
            }
        }
        let state = 1 + 2 * parameters..flag.unwrap_or(inputs.len());
        Ok(inputs[1..=parameters].iter().chain(&inputs[state]).copied().collect())
    }

    fn updates(&self, operands: usize) -> Vec<(usize, usize)> {
        let parameters = self.parameters(operands);
        (0..parameters)
            .map(|index| (1 + index, index))
            .chain(
                (1 + 2 * parameters..self.flag(operands).unwrap_or(operands))
                    .map(|input| (input, input - 1 - parameters)),
            )
            .collect()
    }

    reference_by_definition!();

    fn run_cpu(&self, call: &CpuCall<'_>) {
        cpu::run(self, call);
    }

    fn launches(&self, cx: &mut Lower<'_>) -> Result<()> {
        launch::lower(self, cx)
    }
}
