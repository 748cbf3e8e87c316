//! Samples a volume at other places: axis by axis, so that a cubic sample costs four products per axis and not 64.
//!
//! # Where samples lie
//!
//! [`Alignment::Edges`], the default, as in nnU-Net, `skimage.transform.resize` and `scipy.ndimage.zoom(grid_mode=True)`:
//! voxels are boxes, and source and target fill the same length, so sample `i` of `t` lies at `(i + 1/2) s / t - 1/2` among
//! `s` voxels. [`Alignment::FirstCentre`], as in ITK's resampling from the same origin: at `i * step`.
//!
//! # What lies between voxels
//!
//! Beyond its outermost centres a line goes on with its outermost value (SciPy's `mode="nearest"`, nnU-Net's `edge`).
//! Linear interpolation, and cubic B-splines through the voxels, are SciPy's of order 1 and 3 with that mode; a spline may
//! overshoot beside a step. The nearest voxel is for labels, and for images along an axis whose slices are thick; halfway
//! between two voxels it is the one behind.

mod pass;
mod spline;

use serde::{Deserialize, Serialize};

use super::Volume;

/// How source and target lie on each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Alignment {
    /// Both fill the same box.
    #[default]
    Edges,
    /// The first voxels' centres are one, and the target's voxels are so many of the source's apart, along x, y, z.
    FirstCentre {
        /// Target spacing over source spacing.
        step: [f64; 3],
    },
}

/// What lies between voxels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interpolation {
    /// The nearest voxel's value.
    Nearest,
    /// A straight line from voxel to voxel.
    Linear,
    /// The cubic B-spline through the voxels.
    Cubic,
}

impl Alignment {
    /// What leads from the target back to the source.
    pub fn inverse(self) -> Self {
        match self {
            Self::Edges => Self::Edges,
            Self::FirstCentre { step } => Self::FirstCentre { step: step.map(|step| 1.0 / step) },
        }
    }

    /// The three axes' samples.
    pub(super) fn lines(self, source: [usize; 3], target: [usize; 3]) -> [Line; 3] {
        [0, 1, 2].map(|axis| {
            let step = match self {
                Self::Edges => None,
                Self::FirstCentre { step } => Some(step[axis]),
            };
            Line { source: source[axis], target: target[axis], step }
        })
    }
}

/// Samples along one axis.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    /// Voxels of the source.
    source: usize,
    /// Samples.
    target: usize,
    /// Distance of samples from the first centre on; none: edges are aligned.
    step: Option<f64>,
}

impl Line {
    /// Source voxels from one sample to the next.
    pub(super) fn step(&self) -> f64 {
        self.step.unwrap_or(self.source as f64 / self.target as f64)
    }

    /// Where a sample lies, in source voxels.
    pub(super) fn place(&self, sample: usize) -> f64 {
        match self.step {
            None => (sample as f64 + 0.5) * self.source as f64 / self.target as f64 - 0.5,
            Some(step) => sample as f64 * step,
        }
    }

    /// The voxel nearest to a sample.
    fn nearest(&self, sample: usize) -> usize {
        let voxel = match self.step {
            // In integers, so that a place halfway between two voxels belongs to the same one on every machine.
            None => (2 * sample + 1) * self.source / (2 * self.target),
            Some(step) => (sample as f64 * step + 0.5) as usize,
        };
        voxel.min(self.source - 1)
    }

    /// Whether every sample is a voxel.
    fn is_identity(&self) -> bool {
        self.source == self.target && self.step() == 1.0
    }
}

impl Volume<f32> {
    /// The volume sampled on [`super::Grid::resampled`], with an interpolation for each of the axes x, y, z.
    ///
    /// Axes that shrink come first, which is less work and less memory: at most the volume and two passes' results are
    /// alive at once. An axis that does not change is left as it is, bit for bit. The result has the same bits for any
    /// number of threads.
    ///
    /// # Panics
    /// When an extent is 0.
    pub fn resampled(
        self,
        extents: [usize; 3],
        alignment: Alignment,
        interpolation: [Interpolation; 3],
        threads: usize,
    ) -> Self {
        assert!(!extents.contains(&0), "at least one voxel along each axis");
        let grid = self.grid.resampled(extents, alignment);
        let lines = alignment.lines(self.grid.extents, extents);
        let channels = self.channels();
        let (mut voxels, mut now) = (self.voxels, self.grid.extents);
        let mut order = [0, 1, 2];
        // In integers: target / source, compared by cross products.
        order.sort_by_key(|&axis| (lines[axis].target as u128 * (1 << 32)) / lines[axis].source as u128);
        for axis in order {
            if !lines[axis].is_identity() {
                voxels = pass::along(&voxels, now, channels, axis, lines[axis], interpolation[axis], threads);
                now[axis] = extents[axis];
            }
        }
        Self { grid, voxels }
    }
}

impl<T: Copy> Volume<T> {
    /// [`Volume::resampled`] with the nearest voxels, for values of any type: labels.
    ///
    /// # Panics
    /// When an extent is 0.
    pub fn resampled_nearest(&self, extents: [usize; 3], alignment: Alignment) -> Self {
        assert!(!extents.contains(&0), "at least one voxel along each axis");
        let grid = self.grid.resampled(extents, alignment);
        let from =
            alignment.lines(self.grid.extents, extents).map(|line| (0..line.target).map(move |i| line.nearest(i)));
        let [x, y, z] = from.map(Iterator::collect::<Vec<usize>>);
        let [width, height, _] = self.grid.extents;
        let mut voxels = Vec::with_capacity(grid.voxels() * self.channels());
        for channel in self.voxels.chunks_exact(self.grid.voxels()) {
            for k in &z {
                for j in &y {
                    let row = &channel[(k * height + j) * width..][..width];
                    voxels.extend(x.iter().map(|&i| row[i]));
                }
            }
        }
        Self { grid, voxels }
    }
}

#[cfg(test)]
mod tests;
