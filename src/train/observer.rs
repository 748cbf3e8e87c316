//! What watches a run: progress bars, history files, event files.

use std::time::Duration;

use super::figures::EpochFigures;
use crate::Result;

/// Is told how a run goes.
pub trait Observer {
    /// An epoch begins (`epoch` counts from 1) at step `first` of `steps`.
    fn epoch_starts(&mut self, epoch: usize, epochs: usize, steps: usize, first: usize);

    /// A step is done: its loss, its soft Dice coefficient and its duration, waiting for data included.
    fn step(&mut self, loss: f64, dice: f64, took: Duration);

    /// After a step, where the loss is scaled: the scale of the next one, and steps of the epoch that were skipped.
    fn loss_scale(&mut self, _scale: f32, _skipped_in_epoch: u64) {}

    /// An epoch is done. The checkpoint that says so is written after this returns.
    ///
    /// # Errors
    /// If what should be kept cannot be written.
    fn epoch_ends(&mut self, figures: &EpochFigures) -> Result<()>;
}
