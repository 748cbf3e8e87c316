//! What watches a run: progress bars, history files, event files.

use std::time::Duration;

use super::figures::EpochFigures;
use crate::Result;

/// Is told how a run goes.
pub trait Observer {
    /// An epoch begins (counted from 1, of so many) at step `_first` of `_steps`.
    fn epoch_starts(&mut self, _epoch: usize, _epochs: usize, _steps: usize, _first: usize) {}

    /// A step is done: its loss, its soft Dice coefficient and its duration, waiting for data included.
    fn step(&mut self, _loss: f64, _dice: f64, _took: Duration) {}

    /// After a step, where the loss is scaled: the scale of the next one, and steps of the epoch that were skipped.
    fn loss_scale(&mut self, _scale: f32, _skipped_in_epoch: u64) {}

    /// An epoch is done. The checkpoint that says so is written after this returns.
    ///
    /// # Errors
    /// If what should be kept cannot be written.
    fn epoch_ends(&mut self, figures: &EpochFigures) -> Result<()>;
}
