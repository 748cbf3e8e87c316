//! Turning a volume: axes change places and direction, voxels keep their bits.

use super::{Orientation, Volume};

impl<T: Copy> Volume<T> {
    /// The same voxels with axes in another orientation. Turning back gives the same bits.
    pub fn reoriented(self, to: Orientation) -> Self {
        let turn = self.grid.orientation().turn(to);
        if turn == [(0, false), (1, false), (2, false)] {
            return self;
        }
        let grid = self.grid.reoriented(to);
        let [x, y, _] = self.grid.extents;
        let strides = [1, x as isize, (x * y) as isize];
        // From a voxel of the result to the next one along each of its axes, counted in the source.
        let steps = turn.map(|(from, is_reversed)| if is_reversed { -strides[from] } else { strides[from] });
        let first: isize = (turn.iter().filter(|(_, is_reversed)| *is_reversed))
            .map(|&(from, _)| strides[from] * (self.grid.extents[from] as isize - 1))
            .sum();
        let mut voxels = Vec::with_capacity(self.voxels.len());
        let [x, y, z] = grid.extents.map(|extent| extent as isize);
        for channel in self.voxels.chunks_exact(self.grid.voxels()) {
            for k in 0..z {
                for j in 0..y {
                    let row = first + k * steps[2] + j * steps[1];
                    voxels.extend((0..x).map(|i| channel[(row + i * steps[0]) as usize]));
                }
            }
        }
        Self { grid, voxels }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::Grid;

    #[test]
    fn every_orientation_and_back_gives_the_same_bits() {
        let grid = Grid::spaced([3, 4, 5], [1.0, 0.5, 2.0]);
        let volume = Volume::new(grid, (0..120u16).collect());
        for from in Orientation::all() {
            let start = volume.clone().reoriented(from);
            for to in Orientation::all() {
                let turned = start.clone().reoriented(to);
                assert_eq!(turned.grid.orientation(), to);
                // Each value still lies where it was.
                for index in [0, 17, 59] {
                    let value = turned.voxels[index];
                    let at = turned.grid.place(turned.grid.position(index).map(|i| i as f64));
                    assert_eq!(at, grid.place(grid.position(usize::from(value)).map(|i| i as f64)), "{from} {to}");
                }
                assert_eq!(turned.reoriented(from), start, "{from} {to}");
            }
        }
    }
}
