//! Soft Dice losses on logits: probabilities, sums and loss in one pass, the gradient in a second.
//!
//! Multi-class, over softmax probabilities p and one-hot truth t, sums over N D H W per class, eps = 1e-7:
//!
//! ```text
//! dice_c = (2 sum(p t) + eps) / (sum(p^2) + sum(t^2) + eps)      D = sum_c w_c dice_c / sum_c w_c
//! binary (one sigmoid channel):  D = (2 sum(p t) + eps) / (sum p + sum t + eps)
//! dice: loss = 1 - D             log_dice: loss = log(cosh(1 - D))
//! ```
//!
//! The sums leave the device once per step and give every other metric on the host (see [`Sums`]).

mod cases;
mod cpu;
pub(super) mod launch;
mod reference;
mod sums;

pub use cases::cases;
pub use sums::{SUMS, Sums};

use super::{activation, operands, vector};
use crate::{
    Result,
    cpu::CpuCall,
    graph::{Backward, Op},
    machine::lower::Lower,
    reference_by_definition,
    tensor::{DType, Shape, Spec, Volume},
};

/// Added to numerator and denominator, so that an absent class scores 1 if nothing is predicted.
pub const EPSILON: f64 = 1e-7;

/// How the Dice coefficient becomes a loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossKind {
    /// `1 - D`.
    Dice,
    /// `log(cosh(1 - D))`: flat near the optimum, linear far from it.
    LogDice,
}

/// Operands `[logits, labels, class_weights]`, results `[loss, sums]`.
///
/// Logits are `[N, D, H, W, C]`; labels `[N, D, H, W, 1]` of u8; one logit channel means binary mode: a sigmoid, and
/// any label but 0 is foreground. A label outside the classes belongs to none. Sums are `[N, C, 6]`, see [`Sums`]: the
/// loss is that of the whole batch, but every sample's sums are kept apart for the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiceLoss {
    /// The loss.
    pub kind: LossKind,
}

/// Operands `[logits, labels, class_weights, sums, dloss]`, result `[dlogits]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiceLossBackward {
    /// The loss.
    pub kind: LossKind,
}

fn check(logits: &Spec, labels: &Spec, weights: &Spec) -> Result<Volume, String> {
    let logits = activation(logits, "the logits")?;
    let expected = Spec::new(logits.with_channels(1).shape(), DType::U8);
    if *labels != expected {
        return Err(format!("labels are {labels}, expected {expected}"));
    }
    vector(weights, logits.c, "the class weights")?;
    Ok(logits)
}

fn sums_spec(logits: Volume) -> Spec {
    Spec::f32(Shape::new(&[logits.n, logits.c, SUMS]))
}

impl Op for DiceLoss {
    fn kind(&self) -> &'static str {
        "dice_loss"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>, String> {
        let [logits, labels, weights] = operands(inputs)?;
        let logits = check(&logits, &labels, &weights)?;
        Ok(vec![Spec::f32_vector(1), sums_spec(logits)])
    }

    fn backward(&self, cx: &mut Backward<'_>) -> Result<()> {
        let Some(dloss) = cx.gradient(0) else { return Ok(()) };
        let operands = [cx.input(0), cx.input(1), cx.input(2), cx.output(1), dloss];
        let dlogits = cx.record1("backward", DiceLossBackward { kind: self.kind }, &operands)?;
        cx.set(0, dlogits);
        Ok(())
    }

    fn cpu_workspace(&self, inputs: &[Spec], _outputs: &[Spec], _threads: usize) -> usize {
        cpu::workspace(inputs[0].shape.volume().expect("checked when recorded"))
    }

    reference_by_definition!();

    fn run_cpu(&self, call: &CpuCall<'_>) {
        cpu::forward(self, call);
    }

    fn launches(&self, cx: &mut Lower<'_>) -> Result<()> {
        launch::forward(self, cx)
    }
}

impl Op for DiceLossBackward {
    fn kind(&self) -> &'static str {
        "dice_loss.backward"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Vec<Spec>, String> {
        let [logits, labels, weights, sums, dloss] = operands(inputs)?;
        let volume = check(&logits, &labels, &weights)?;
        if sums != sums_spec(volume) {
            return Err(format!("sums are {sums}, expected {}", sums_spec(volume)));
        }
        vector(&dloss, 1, "the gradient of the loss")?;
        Ok(vec![logits])
    }

    fn in_place(&self) -> Vec<(usize, usize)> {
        vec![(0, 0)]
    }

    fn cpu_workspace(&self, inputs: &[Spec], _outputs: &[Spec], _threads: usize) -> usize {
        4 * cpu::coefficients_length(inputs[0].shape.volume().expect("checked when recorded").c)
    }

    reference_by_definition!();

    fn run_cpu(&self, call: &CpuCall<'_>) {
        cpu::backward(self, call);
    }

    fn launches(&self, cx: &mut Lower<'_>) -> Result<()> {
        launch::backward(self, cx)
    }
}
