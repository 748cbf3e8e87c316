//! What watches a run: progress bars, history files, event files.

use super::figures::{EpochFigures, Figures};
use crate::Result;

/// Is told how a run goes.
pub trait Observer {
    /// An epoch begins (`epoch` counts from 1) at step `first` of `steps`.
    fn epoch_starts(&mut self, epoch: usize, epochs: usize, steps: usize, first: usize);

    /// A step is done; the figures are those of the epoch so far.
    fn step(&mut self, so_far: &Figures);

    /// An epoch is done and its checkpoints are on disk.
    ///
    /// # Errors
    /// If what should be kept cannot be written.
    fn epoch_ends(&mut self, figures: &EpochFigures) -> Result<()>;
}
