//! How much the loss is scaled in fp16, so that small gradients do not vanish and large ones stay in range.
//!
//! The backward pass starts from the scale instead of from 1, and the optimizer divides by it. A step whose gradients are
//! not finite is skipped on the device; the scale is halved then, and doubled after [`PATIENCE`] good steps in a row.
//! Scales are powers of two, so scaling changes exponents alone.

use serde::{Deserialize, Serialize};

/// The scale of a new run: a loss is about 1, its gradient by a voxel one over the number of voxels.
pub const INITIAL: f32 = 65536.0;

/// Good steps in a row after which the scale is doubled.
pub const PATIENCE: u32 = 2000;

/// Beyond it nothing is gained: what would still vanish is smaller than 2^-24 / 2^24.
const MOST: f32 = 16_777_216.0;

/// Where a run's loss scaling stands: saved with a checkpoint, so that a resumed run goes on with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossScale {
    scale: f32,
    good_steps: u32,
    skipped: u64,
    skipped_in_epoch: u64,
}

impl Default for LossScale {
    fn default() -> Self {
        Self { scale: INITIAL, good_steps: 0, skipped: 0, skipped_in_epoch: 0 }
    }
}

impl LossScale {
    /// The factor of the next step's loss.
    pub fn scale(&self) -> f32 {
        self.scale
    }

    /// Steps that were skipped since the run began.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Steps of the epoch under way that were skipped.
    pub fn skipped_in_epoch(&self) -> u64 {
        self.skipped_in_epoch
    }

    /// The state after a step whose gradients were finite.
    pub fn after_good_step(self) -> Self {
        match self.good_steps + 1 {
            PATIENCE => Self { scale: (2.0 * self.scale).min(MOST), good_steps: 0, ..self },
            good_steps => Self { good_steps, ..self },
        }
    }

    /// The state after a step that was skipped; none if gradients overflow although the loss is not scaled at all.
    pub fn after_skipped_step(self) -> Option<Self> {
        let (skipped, skipped_in_epoch) = (self.skipped + 1, self.skipped_in_epoch + 1);
        (self.scale > 1.0).then(|| Self { scale: self.scale / 2.0, good_steps: 0, skipped, skipped_in_epoch })
    }

    /// The state at the beginning of an epoch.
    pub fn in_new_epoch(self) -> Self {
        Self { skipped_in_epoch: 0, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_doubles_after_two_thousand_good_steps_in_a_row_and_halves_after_a_bad_one() {
        let good = |state: LossScale, steps| (0..steps).fold(state, |state, _| state.after_good_step());
        let start = LossScale::default();
        assert_eq!(good(start, 1999).scale(), 65536.0);
        assert_eq!(good(start, 2000).scale(), 131_072.0);
        let skipped = good(start, 1999).after_skipped_step().unwrap();
        assert_eq!((skipped.scale(), skipped.skipped(), skipped.skipped_in_epoch()), (32768.0, 1, 1));
        assert_eq!(good(skipped, 1999).scale(), 32768.0);
        assert_eq!(good(skipped, 2000).scale(), 65536.0);
        let later = skipped.in_new_epoch();
        assert_eq!((later.skipped(), later.skipped_in_epoch()), (1, 0));
    }

    #[test]
    fn the_scale_stays_in_its_bounds_and_gives_up_at_one() {
        let mut state = LossScale::default();
        (0..100 * PATIENCE).for_each(|_| state = state.after_good_step());
        assert_eq!(state.scale(), 2f32.powi(24));
        for skipped in 1..=24 {
            state = state.after_skipped_step().unwrap();
            assert_eq!(state.skipped(), skipped);
        }
        assert_eq!((state.scale(), state.after_skipped_step()), (1.0, None));
    }
}
