//! The values of a run's program that the host writes and reads at every step, looked up once.

use crate::{
    Result,
    nn::names,
    session::{Program, Slot},
};

/// The values that the host writes and reads at every step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slots {
    pub(super) training: BatchSlots,
    pub(super) validation: BatchSlots,
    pub(super) rng: Slot<u32>,
    pub(super) hyper: Slot<f32>,
    pub(super) loss_scale: Slot<f32>,
    /// Where the precision asks for it.
    pub(super) overflow: Option<Slot<u32>>,
    pub(super) sums: Slot<f32>,
    pub(super) validation_sums: Slot<f32>,
}

/// Where a batch goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchSlots {
    pub(super) images: Slot<f32>,
    pub(super) labels: Slot<u8>,
    /// On a GPU, where the step brings raw cases into shape.
    pub(super) numbers: Option<Slot<f32>>,
}

impl Slots {
    /// Looks them up. The loss is scaled in some precisions alone.
    pub(super) fn of(program: &dyn Program, scales_loss: bool) -> Result<Self> {
        let batch = |[images, labels, numbers]: [&str; 3]| -> Result<BatchSlots> {
            let numbers = program.has(numbers).then(|| program.slot(numbers)).transpose()?;
            Ok(BatchSlots { images: program.slot(images)?, labels: program.slot(labels)?, numbers })
        };
        Ok(Self {
            training: batch(names::TRAINING_BATCH)?,
            validation: batch(names::VALIDATION_BATCH)?,
            rng: program.slot(names::RNG)?,
            hyper: program.slot(names::HYPER)?,
            loss_scale: program.slot(names::LOSS_SCALE)?,
            overflow: scales_loss.then(|| program.slot(names::OVERFLOW)).transpose()?,
            sums: program.slot(names::SUMS)?,
            validation_sums: program.slot(names::VALIDATION_SUMS)?,
        })
    }
}
