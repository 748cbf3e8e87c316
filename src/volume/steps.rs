//! What was done to a grid, as data: applied to volumes, and undone.

use serde::{Deserialize, Serialize};

use super::{Alignment, Grid, Interpolation, Orientation, Volume};

/// One change of a grid.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Step {
    /// Axes change places and direction.
    Reorient(Orientation),
    /// A box is cut out, or reaches over the border: cropping and padding.
    Region {
        /// The box's first voxel, x, y, z.
        start: [isize; 3],
        /// The box's extents.
        extents: [usize; 3],
    },
    /// Voxels get other lengths.
    Resample {
        /// The new extents.
        extents: [usize; 3],
        /// How both grids lie on each other.
        alignment: Alignment,
    },
}

/// The way from one grid to another, step by step, and back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Steps {
    source: Grid,
    steps: Vec<Step>,
}

/// How values are carried along.
#[derive(Clone, Copy, Debug)]
pub struct Carry<'a> {
    /// Between voxels, along x, y, z of the grid that is resampled.
    pub interpolation: [Interpolation; 3],
    /// Each channel's value where there is no volume.
    pub outside: &'a [f32],
    /// Threads that resample; the result does not depend on them.
    pub threads: usize,
}

impl Step {
    /// The grid behind this step.
    pub fn grid(&self, grid: &Grid) -> Grid {
        match *self {
            Self::Reorient(to) => grid.reoriented(to),
            Self::Region { start, extents } => grid.region(start, extents),
            Self::Resample { extents, alignment } => grid.resampled(extents, alignment),
        }
    }

    /// The step that leads back to `grid`, on which this one was done.
    pub fn inverse(&self, grid: &Grid) -> Self {
        match *self {
            Self::Reorient(_) => Self::Reorient(grid.orientation()),
            Self::Region { start, .. } => Self::Region { start: start.map(|start| -start), extents: grid.extents },
            Self::Resample { alignment, .. } => {
                Self::Resample { extents: grid.extents, alignment: alignment.inverse() }
            }
        }
    }

    fn carry(&self, volume: Volume<f32>, how: Carry<'_>) -> Volume<f32> {
        match *self {
            Self::Reorient(to) => volume.reoriented(to),
            Self::Region { start, extents } => volume.region_with(start, extents, how.outside),
            Self::Resample { extents, alignment } => {
                volume.resampled(extents, alignment, how.interpolation, how.threads)
            }
        }
    }

    fn carry_labels<T: Copy>(&self, labels: Volume<T>, outside: T) -> Volume<T> {
        match *self {
            Self::Reorient(to) => labels.reoriented(to),
            Self::Region { start, extents } => labels.region(start, extents, outside),
            Self::Resample { extents, alignment } => labels.resampled_nearest(extents, alignment),
        }
    }
}

impl Steps {
    /// No step yet.
    pub fn from(source: Grid) -> Self {
        Self { source, steps: Vec::new() }
    }

    /// One step more.
    pub fn then(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// Where the way begins.
    pub fn source(&self) -> &Grid {
        &self.source
    }

    /// Where it ends.
    pub fn target(&self) -> Grid {
        *self.grids().last().expect("at least the source")
    }

    /// The source and the grid behind each step.
    pub fn grids(&self) -> Vec<Grid> {
        let mut grids = vec![self.source];
        for step in &self.steps {
            grids.push(step.grid(grids.last().expect("at least the source")));
        }
        grids
    }

    /// An image on the last grid.
    ///
    /// # Panics
    /// When the volume is not on the source's grid, or `how` has not a value outside for each channel.
    pub fn apply(&self, volume: Volume<f32>, how: Carry<'_>) -> Volume<f32> {
        self.forward(volume, |step, volume| step.carry(volume, how))
    }

    /// Labels on the last grid: the nearest voxels', and `outside` where there is none.
    ///
    /// # Panics
    /// When the volume is not on the source's grid.
    pub fn apply_to_labels<T: Copy>(&self, labels: Volume<T>, outside: T) -> Volume<T> {
        self.forward(labels, |step, labels| step.carry_labels(labels, outside))
    }

    /// Values on the last grid, brought back to the source's grid.
    ///
    /// # Panics
    /// When the volume is not on the last grid, or `how` has not a value outside for each channel.
    pub fn undo(&self, volume: Volume<f32>, how: Carry<'_>) -> Volume<f32> {
        self.backward(volume, |step, volume| step.carry(volume, how))
    }

    /// Labels on the last grid, brought back to the source's grid.
    ///
    /// # Panics
    /// When the volume is not on the last grid.
    pub fn undo_labels<T: Copy>(&self, labels: Volume<T>, outside: T) -> Volume<T> {
        self.backward(labels, |step, labels| step.carry_labels(labels, outside))
    }

    fn forward<T>(&self, volume: Volume<T>, carry: impl Fn(&Step, Volume<T>) -> Volume<T>) -> Volume<T> {
        assert_eq!(volume.grid.extents, self.source.extents, "a volume on the source's grid");
        self.steps.iter().fold(volume, |volume, step| carry(step, volume))
    }

    fn backward<T>(&self, volume: Volume<T>, carry: impl Fn(&Step, Volume<T>) -> Volume<T>) -> Volume<T> {
        let grids = self.grids();
        assert_eq!(volume.grid.extents, self.target().extents, "a volume on the last grid");
        let back = self.steps.iter().zip(&grids).rev();
        back.fold(volume, |volume, (step, before)| {
            // The grid is known to the bit; going back would round it.
            Volume { grid: *before, ..carry(&step.inverse(before), volume) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINEAR: [Interpolation; 3] = [Interpolation::Linear; 3];

    fn grid() -> Grid {
        Grid::new([9, 12, 7], [[-0.1, -1.3, 0.0, 40.0], [0.0, 0.1, -2.1, 12.0], [0.7, 0.0, 0.1, -9.0]])
    }

    #[test]
    fn turning_and_padding_are_undone_bit_for_bit_and_the_grid_always_is() {
        let source = grid();
        let volume = Volume::new(source, (0..2 * source.voxels()).map(|i| (i % 97) as f32).collect::<Vec<_>>());
        let how = Carry { interpolation: LINEAR, outside: &[0.0, 5.0], threads: 2 };
        let steps = Steps::from(source)
            .then(Step::Reorient(Orientation::RAS))
            .then(Step::Region { start: [-1, -2, -3], extents: [16, 16, 16] });
        assert_ne!(source.orientation(), Orientation::RAS);
        assert_eq!(steps.target().orientation(), Orientation::RAS);
        let there = steps.apply(volume.clone(), how);
        assert_eq!(there.grid, steps.target());
        assert!(steps.undo(there, how) == volume);

        let resampled = steps.then(Step::Resample { extents: [8, 24, 10], alignment: Alignment::Edges });
        let back = resampled.undo(resampled.apply(volume, how), how);
        assert_eq!(back.grid, source);
        let read: Steps = serde_json::from_str(&serde_json::to_string(&resampled).unwrap()).unwrap();
        assert_eq!(read, resampled);
    }

    #[test]
    fn labels_come_back_where_they_were_when_voxels_were_cut_into_whole_parts() {
        let source = grid();
        let labels = Volume::new(source, (0..source.voxels()).map(|i| (i * 7 % 5) as u8).collect::<Vec<_>>());
        let steps = Steps::from(source)
            .then(Step::Reorient("PSR".parse().unwrap()))
            .then(Step::Resample {
                extents: source.reoriented("PSR".parse().unwrap()).extents.map(|n| 3 * n),
                alignment: Alignment::Edges,
            })
            .then(Step::Region { start: [0, -2, 0], extents: [50, 40, 50] });
        let there = steps.apply_to_labels(labels.clone(), 9);
        assert!(steps.undo_labels(there, 9) == labels);
        // A ramp along an axis survives linear resampling away from the borders, there and back.
        let ramp = Volume::new(source, (0..source.voxels()).map(|i| source.position(i)[1] as f32).collect::<Vec<_>>());
        let how = Carry { interpolation: LINEAR, outside: &[0.0], threads: 1 };
        let step = [1.0, 0.5, 1.0];
        let steps = Steps::from(source)
            .then(Step::Resample { extents: [9, 23, 7], alignment: Alignment::FirstCentre { step } });
        let back = steps.undo(steps.apply(ramp.clone(), how), how);
        assert!(back == ramp);
    }
}
