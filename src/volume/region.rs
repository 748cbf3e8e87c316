//! Cropping and padding: a box of voxels that may reach over the volume's border.

use super::Volume;

impl<T: Copy> Volume<T> {
    /// The voxels in the box of these extents from voxel `start` (x, y, z) on; outside the volume, `outside`.
    pub fn region(&self, start: [isize; 3], extents: [usize; 3], outside: T) -> Self {
        self.region_with(start, extents, &vec![outside; self.channels()])
    }

    /// [`Self::region`] with a value for each channel outside: for probabilities, 1 for the background.
    ///
    /// # Panics
    /// When there is not one value for each channel.
    pub fn region_with(&self, start: [isize; 3], extents: [usize; 3], outside: &[T]) -> Self {
        assert_eq!(outside.len(), self.channels(), "a value for each channel");
        let grid = self.grid.region(start, extents);
        let shared = [0, 1, 2].map(|axis| Shared::of(self.grid.extents[axis], start[axis], extents[axis]));
        let [x, y, z] = shared;
        let ([from_x, from_y, _], [to_x, to_y, _]) = (self.grid.extents, extents);
        let mut voxels = Vec::with_capacity(grid.voxels() * outside.len());
        for (channel, &outside) in self.voxels.chunks_exact(self.grid.voxels()).zip(outside) {
            let first = voxels.len();
            voxels.resize(first + grid.voxels(), outside);
            let out = &mut voxels[first..];
            for k in 0..z.length {
                for j in 0..y.length {
                    let from = ((z.source + k) * from_y + y.source + j) * from_x + x.source;
                    let to = ((z.target + k) * to_y + y.target + j) * to_x + x.target;
                    out[to..to + x.length].copy_from_slice(&channel[from..from + x.length]);
                }
            }
        }
        Self { grid, voxels }
    }

    /// Without so many voxels before and behind, along x, y, z.
    ///
    /// # Panics
    /// When nothing would be left of an axis.
    pub fn cropped(&self, before: [usize; 3], behind: [usize; 3]) -> Self {
        let extent = |axis: usize| self.grid.extents[axis].checked_sub(before[axis] + behind[axis]).filter(|&n| n > 0);
        let extents = [0, 1, 2].map(|axis| extent(axis).expect("something is left of each axis"));
        // Nothing is outside, so any voxel serves as its value.
        self.region(before.map(|n| n as isize), extents, self.voxels[0])
    }

    /// With so many voxels more before and behind, along x, y, z.
    pub fn padded(&self, before: [usize; 3], behind: [usize; 3], value: T) -> Self {
        let extents = [0, 1, 2].map(|axis| self.grid.extents[axis] + before[axis] + behind[axis]);
        self.region(before.map(|n| -(n as isize)), extents, value)
    }
}

/// What a line of voxels and a box have in common along one axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shared {
    /// The first common voxel, counted in the line.
    pub source: usize,
    /// The same, counted in the box.
    pub target: usize,
    /// Common voxels.
    pub length: usize,
}

impl Shared {
    /// A line of `extent` voxels, and a box of `length` that begins at its voxel `start`, which may lie outside.
    pub fn of(extent: usize, start: isize, length: usize) -> Self {
        let source = start.max(0) as usize;
        let target = start.min(0).unsigned_abs();
        let length = extent.saturating_sub(source).min(length.saturating_sub(target));
        Self { source, target, length }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::Grid;

    fn volume() -> Volume<u16> {
        Volume::new(Grid::spaced([4, 3, 2], [1.0, 2.0, 3.0]), (1..=48).collect())
    }

    #[test]
    fn cropping_undoes_padding_and_padding_restores_what_was_not_cropped() {
        let (before, behind) = ([1, 0, 2], [3, 1, 0]);
        let padded = volume().padded(before, behind, 0);
        assert_eq!((padded.grid.extents, padded.channels()), ([8, 4, 4], 2));
        assert_eq!(padded.grid.place([0.0; 3]), [-1.0, 0.0, -6.0]);
        assert_eq!(padded.voxels.iter().filter(|value| **value != 0).count(), 48);
        assert_eq!(padded.cropped(before, behind), volume());

        let cropped = volume().cropped([1, 1, 0], [1, 0, 1]);
        assert_eq!(cropped.voxels, [6, 7, 10, 11, 30, 31, 34, 35]);
        let back = cropped.padded([1, 1, 0], [1, 0, 1], 0);
        assert_eq!(back.grid, volume().grid);
        assert!(back.voxels.iter().zip(volume().voxels).all(|(back, value)| *back == 0 || *back == value));
    }

    #[test]
    fn a_region_that_misses_the_volume_holds_only_what_is_outside() {
        for start in [[4, 0, 0], [-2, 0, 0], [0, 9, 0], [0, 0, isize::MAX - 9]] {
            let region = volume().region_with(start, [2; 3], &[7, 8]);
            assert_eq!(region.voxels, [[7; 8], [8; 8]].concat(), "{start:?}");
        }
    }
}
