//! The three graphs of a program: a training step, a validation pass, a prediction.

use std::sync::Arc;

use super::{Mode, UNet, UNetConfig};
use crate::{
    Result,
    graph::{Graph, Role, Stage, Tape, ValueId, differentiate},
    ops::{
        activation::{Sigmoid, Softmax},
        dice::{DiceLoss, LossKind},
        dropout,
        elementwise::Add,
        non_finite::NonFinite,
        optimizer::{self, Optimizer},
    },
    tensor::{DType, Spec, Volume},
};

/// Names of the values that the host writes and reads.
pub mod names {
    /// Images, `[N, D, H, W, channels]`.
    pub const IMAGES: &str = "images";
    /// Labels, `[N, D, H, W, 1]` of u8.
    pub const LABELS: &str = "labels";
    /// How the images are to be augmented, where the step does it: a row for each case.
    pub const NUMBERS: &str = "numbers";
    /// Weights of the classes in the loss.
    pub const CLASS_WEIGHTS: &str = "class_weights";
    /// Random-number state: seed and step.
    pub const RNG: &str = "rng";
    /// What the optimizer needs anew at each step.
    pub const HYPER: &str = "hyper";
    /// The gradient that the backward pass starts from: the loss scale.
    pub const LOSS_SCALE: &str = "loss_scale";
    /// Whether a step's gradients left the range of their numbers, so that it was skipped: 1 or 0. Where the loss is scaled.
    pub const OVERFLOW: &str = "overflow";
    /// The loss of a training step.
    pub const LOSS: &str = "loss";
    /// The sums of a training step, `[N, C, 6]`.
    pub const SUMS: &str = "sums";
    /// The loss of a validation pass.
    pub const VALIDATION_LOSS: &str = "validation.loss";
    /// The sums of a validation pass.
    pub const VALIDATION_SUMS: &str = "validation.sums";
    /// Images of a validation pass.
    pub const VALIDATION_IMAGES: &str = "validation.images";
    /// Labels of a validation pass.
    pub const VALIDATION_LABELS: &str = "validation.labels";
    /// Numbers of a validation pass.
    pub const VALIDATION_NUMBERS: &str = "validation.numbers";
    /// Images, labels and numbers of a training step.
    pub const TRAINING_BATCH: [&str; 3] = [IMAGES, LABELS, NUMBERS];
    /// Images, labels and numbers of a validation pass.
    pub const VALIDATION_BATCH: [&str; 3] = [VALIDATION_IMAGES, VALIDATION_LABELS, VALIDATION_NUMBERS];
    /// Probabilities of a prediction, `[N, D, H, W, outputs]`.
    pub const PROBABILITIES: &str = "probabilities";
}

/// What a training step is made of.
#[derive(Clone, Copy, Debug)]
pub struct StepConfig {
    /// The network.
    pub network: UNetConfig,
    /// Samples in a batch.
    pub batch: usize,
    /// Extents [D, H, W].
    pub extent: [usize; 3],
    /// The loss.
    pub loss: LossKind,
    /// Clipping and update rule.
    pub optimizer: Optimizer,
}

impl StepConfig {
    fn images(&self) -> Volume {
        Volume { n: self.batch, extent: self.extent, c: self.network.channels }
    }

    fn labels(&self) -> Spec {
        Spec::new(self.images().with_channels(1).shape(), DType::U8)
    }
}

/// Forward, loss, backward, clipping and weight update as one graph.
///
/// # Errors
/// If the extents do not fit the network.
pub fn record_training(config: &StepConfig) -> Result<Graph> {
    let mut tape = Tape::new();
    let images = tape.source(names::IMAGES, Spec::f32(config.images().shape()), Role::Batch);
    let labels = tape.source(names::LABELS, config.labels(), Role::Batch);
    let weights = class_weights(&mut tape, config);
    let rng = tape.source(names::RNG, dropout::rng_spec(), Role::Input);
    let hyper = tape.source(names::HYPER, optimizer::hyper_spec(), Role::Input);
    let scale = tape.source(names::LOSS_SCALE, Spec::f32_vector(1), Role::Input);
    let logits = UNet::new(&mut tape, config.network, Mode::Training { rng }).record(images)?;

    tape.set_stage(Stage::Loss);
    let loss = record_loss(&mut tape, config, [logits, labels, weights], names::LOSS, names::SUMS)?;
    let pairs = differentiate(&mut tape, &[(loss, scale)], &(Arc::new(Add) as _))?;

    tape.set_stage(Stage::Optimizer);
    let mut operands = vec![hyper];
    operands.extend(pairs.iter().map(|(parameter, _)| parameter));
    operands.extend(pairs.iter().map(|(_, gradient)| gradient));
    for kind in config.optimizer.rule.state() {
        for (parameter, _) in &pairs {
            let value = tape.graph().value(*parameter).clone();
            operands.push(tape.source(format!("optimizer.{kind}.{}", value.name), value.spec, Role::OptimizerState));
        }
    }
    if config.network.precision.scales_loss() {
        let gradients: Vec<ValueId> = pairs.iter().map(|&(_, gradient)| gradient).collect();
        let flag = tape.record1("overflow", NonFinite, &gradients)?;
        tape.keep_output(flag, names::OVERFLOW);
        operands.push(flag);
    }
    tape.record("optimizer", config.optimizer, &operands)?;
    Ok(tape.finish())
}

/// Forward pass with the moving averages, and the loss's sums.
///
/// # Errors
/// If the extents do not fit the network.
pub fn record_validation(config: &StepConfig) -> Result<Graph> {
    let mut tape = Tape::new();
    let images = tape.source(names::VALIDATION_IMAGES, Spec::f32(config.images().shape()), Role::Batch);
    let labels = tape.source(names::VALIDATION_LABELS, config.labels(), Role::Batch);
    let weights = class_weights(&mut tape, config);
    let logits = UNet::new(&mut tape, config.network, Mode::Inference).record(images)?;
    tape.set_stage(Stage::Loss);
    let operands = [logits, labels, weights];
    record_loss(&mut tape, config, operands, names::VALIDATION_LOSS, names::VALIDATION_SUMS)?;
    Ok(tape.finish())
}

/// Forward pass with the moving averages, and the probabilities.
///
/// # Errors
/// If the extents do not fit the network.
pub fn record_prediction(network: UNetConfig, batch: usize, extent: [usize; 3]) -> Result<Graph> {
    let mut tape = Tape::new();
    let shape = Volume { n: batch, extent, c: network.channels }.shape();
    let images = tape.source(names::IMAGES, Spec::f32(shape), Role::Batch);
    let logits = UNet::new(&mut tape, network, Mode::Inference).record(images)?;
    let probabilities = if network.outputs() == 1 {
        tape.record1("head.sigmoid", Sigmoid, &[logits])?
    } else {
        tape.record1("head.softmax", Softmax, &[logits])?
    };
    tape.keep_output(probabilities, names::PROBABILITIES);
    Ok(tape.finish())
}

fn class_weights(tape: &mut Tape, config: &StepConfig) -> ValueId {
    tape.source(names::CLASS_WEIGHTS, Spec::f32_vector(config.network.outputs()), Role::Input)
}

fn record_loss(
    tape: &mut Tape,
    config: &StepConfig,
    operands: [ValueId; 3],
    loss: &str,
    sums: &str,
) -> Result<ValueId> {
    let results = tape.record("dice", DiceLoss { kind: config.loss }, &operands)?;
    tape.keep_output(results[0], loss);
    tape.keep_output(results[1], sums);
    Ok(results[0])
}
