//! Where voxels lie in a body.

use serde::{Deserialize, Serialize};

use super::{orientation::Orientation, resample::Alignment};

/// Rows of the matrix that takes voxel indices (x, y, z, 1) to millimetres in a right-anterior-superior frame.
pub type Affine = [[f64; 4]; 3];

/// The lattice of a volume's voxels. Axes are x, y, z, in which order an affine takes them; voxels lie in memory as
/// `[z, y, x]` row-major, which the network calls D, H, W.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Grid {
    /// Voxels along x, y, z.
    pub extents: [usize; 3],
    /// Lengths of a voxel along x, y, z in mm.
    pub spacing: [f64; 3],
    /// Voxel indices to mm.
    pub affine: Affine,
}

impl Grid {
    /// A grid by its affine; the spacing is the lengths of the columns. (A file may state a spacing beside its affine,
    /// which differs from these by rounding: whoever reads one fills in the field.)
    pub fn new(extents: [usize; 3], affine: Affine) -> Self {
        Self { extents, spacing: column_lengths(&affine), affine }
    }

    /// A grid whose axes are the body's, with the first voxel at the origin.
    pub fn spaced(extents: [usize; 3], spacing: [f64; 3]) -> Self {
        let [x, y, z] = spacing;
        Self { extents, spacing, affine: [[x, 0.0, 0.0, 0.0], [0.0, y, 0.0, 0.0], [0.0, 0.0, z, 0.0]] }
    }

    /// The number of voxels.
    pub fn voxels(&self) -> usize {
        self.extents.iter().product()
    }

    /// Extents in the order of memory: D, H, W, which are z, y, x.
    pub fn shape(&self) -> [usize; 3] {
        reversed(self.extents)
    }

    /// The x, y, z of a voxel by its place in memory.
    pub fn position(&self, index: usize) -> [usize; 3] {
        let [x, y, _] = self.extents;
        [index % x, index / x % y, index / (x * y)]
    }

    /// Where an index x, y, z lies, in mm.
    pub fn place(&self, index: [f64; 3]) -> [f64; 3] {
        self.affine.map(|row| (0..3).map(|axis| row[axis] * index[axis]).sum::<f64>() + row[3])
    }

    /// The body's directions in which the axes grow.
    pub fn orientation(&self) -> Orientation {
        Orientation::of(&self.affine)
    }

    /// The largest distance in mm between the places of one voxel on two grids of the same extents. The difference of two
    /// affines is affine, so its length is largest at one of the corners. NaN where a place is not a number.
    pub fn farthest_apart(&self, other: &Self) -> f64 {
        let squared = |corner: usize| -> f64 {
            let at = [0, 1, 2].map(|axis| (corner >> axis & 1) as f64 * (self.extents[axis] as f64 - 1.0));
            let apart = |(left, right): (&[f64; 4], &[f64; 4])| {
                (0..3).map(|axis| (left[axis] - right[axis]) * at[axis]).sum::<f64>() + left[3] - right[3]
            };
            self.affine.iter().zip(&other.affine).map(|rows| apart(rows).powi(2)).sum()
        };
        // f64::max would drop what is not a number.
        (0..8)
            .map(|corner| squared(corner).sqrt())
            .fold(0.0, |most, at| if at > most || at.is_nan() { at } else { most })
    }

    /// The grid of the same places with axes in another orientation.
    pub fn reoriented(&self, to: Orientation) -> Self {
        let turn = self.orientation().turn(to);
        let mut turned = Self {
            extents: turn.map(|(axis, _)| self.extents[axis]),
            spacing: turn.map(|(axis, _)| self.spacing[axis]),
            affine: self.affine,
        };
        for (axis, (from, is_reversed)) in turn.into_iter().enumerate() {
            for (row, old) in turned.affine.iter_mut().zip(&self.affine) {
                row[axis] = if is_reversed { -old[from] } else { old[from] };
                if is_reversed {
                    row[3] += old[from] * (self.extents[from] as f64 - 1.0);
                }
            }
        }
        turned
    }

    /// The grid of these extents whose first voxel is this grid's voxel `start`, which may lie outside.
    pub fn region(&self, start: [isize; 3], extents: [usize; 3]) -> Self {
        self.moved(start.map(|start| start as f64), [1.0; 3], extents)
    }

    /// The grid of these extents, aligned with this one.
    ///
    /// The result says truly where its voxels lie: its spacing is the one that these extents give, which is near to a
    /// spacing that was aimed at, and not that one.
    pub fn resampled(&self, extents: [usize; 3], alignment: Alignment) -> Self {
        let lines = alignment.lines(self.extents, extents);
        self.moved(lines.map(|line| line.place(0)), lines.map(|line| line.step()), extents)
    }

    /// The extents that come nearest to a spacing in mm over the same part of the body, at least one voxel; halves go to
    /// the even number, as in nnU-Net.
    pub fn extents_for(&self, spacing: [f64; 3]) -> [usize; 3] {
        let extent = |axis: usize| self.extents[axis] as f64 * self.spacing[axis] / spacing[axis];
        [0, 1, 2].map(|axis| (extent(axis).round_ties_even() as usize).max(1))
    }

    /// Index 0 of the result lies at `first`, and indices are `step` apart.
    fn moved(&self, first: [f64; 3], step: [f64; 3], extents: [usize; 3]) -> Self {
        let mut moved = Self { extents, spacing: [0, 1, 2].map(|axis| self.spacing[axis] * step[axis]), ..*self };
        for row in &mut moved.affine {
            for axis in 0..3 {
                row[3] += row[axis] * first[axis];
                row[axis] *= step[axis];
            }
        }
        moved
    }
}

/// Lengths of the columns x, y, z.
pub fn column_lengths(affine: &Affine) -> [f64; 3] {
    [0, 1, 2].map(|column| affine.iter().map(|row| row[column].powi(2)).sum::<f64>().sqrt())
}

/// x, y, z as D, H, W, and back.
pub(super) fn reversed<T: Copy>([a, b, c]: [T; 3]) -> [T; 3] {
    [c, b, a]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn oblique() -> Grid {
        Grid::new([5, 7, 4], [[-0.2, 1.4, 0.1, -3.0], [0.9, 0.3, 0.0, 20.0], [0.0, -0.1, -2.5, 7.5]])
    }

    #[test]
    fn a_voxel_keeps_its_place_whatever_the_orientation_region_or_extents() {
        let grid = oblique();
        let near = |a: [f64; 3], b: [f64; 3]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-12);
        for to in Orientation::all() {
            let turned = grid.reoriented(to);
            assert_eq!(turned.orientation(), to);
            let turn = grid.orientation().turn(to);
            let there = turn.map(|(axis, is_reversed)| {
                let at = [1.0, 5.0, 3.0][axis];
                if is_reversed { grid.extents[axis] as f64 - 1.0 - at } else { at }
            });
            assert!(near(turned.place(there), grid.place([1.0, 5.0, 3.0])), "{to}");
        }
        let region = grid.region([2, -3, 1], [9, 9, 9]);
        assert!(near(region.place([0.0, 4.0, 1.0]), grid.place([2.0, 1.0, 2.0])));
        // Halving voxels along x: edges stay where they are.
        let finer = grid.resampled([10, 7, 4], Alignment::Edges);
        assert!(near(finer.place([-0.5, 0.0, 0.0]), grid.place([-0.5, 0.0, 0.0])));
        assert!(near(finer.place([9.5, 0.0, 0.0]), grid.place([4.5, 0.0, 0.0])));
        assert_eq!(finer.spacing[0], grid.spacing[0] / 2.0);
        assert_eq!(grid.extents_for(finer.spacing), [10, 7, 4]);
    }

    #[test]
    fn a_place_that_is_not_a_number_is_no_distance() {
        let mut other = oblique();
        assert_eq!(oblique().farthest_apart(&other), 0.0);
        other.affine[1][3] += 0.5;
        assert!((oblique().farthest_apart(&other) - 0.5).abs() < 1e-12);
        other.affine[0][0] = f64::NAN;
        assert!(oblique().farthest_apart(&other).is_nan());
    }
}
