//! Volumes that know where they lie: turn, crop, pad, resample, and the way back.
//!
//! Pure: takes voxels, returns voxels. [`Steps`] records what was done to a [`Grid`] as data, so that whatever a network
//! says on the last grid can be brought back to the first.

mod grid;
mod orientation;
mod region;
pub mod resample;
mod steps;
mod turn;

pub use grid::{Affine, Grid, column_lengths};
pub use orientation::Orientation;
pub use region::Shared;
pub use resample::{Alignment, Interpolation};
pub use steps::{Carry, Step, Steps};

/// Voxels `[channel, z, y, x]` row-major, on a grid.
#[derive(Clone, Debug, PartialEq)]
pub struct Volume<T> {
    /// Where they lie.
    pub grid: Grid,
    /// Values: of all voxels of the first channel, then of the next.
    pub voxels: Vec<T>,
}

impl<T> Volume<T> {
    /// Voxels on a grid.
    ///
    /// # Panics
    /// When they are not a whole number of channels, at least one.
    pub fn new(grid: Grid, voxels: Vec<T>) -> Self {
        let whole = grid.voxels() > 0 && !voxels.is_empty() && voxels.len().is_multiple_of(grid.voxels());
        assert!(whole, "{} values on a grid of {:?}", voxels.len(), grid.extents);
        Self { grid, voxels }
    }

    /// The number of channels.
    pub fn channels(&self) -> usize {
        self.voxels.len() / self.grid.voxels()
    }
}
