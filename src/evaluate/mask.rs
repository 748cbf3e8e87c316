//! One class of a label map, cut out with a margin of one empty voxel, and what borders it.

use super::overlap::Label;

/// The smallest box that holds every voxel of a class, half open, in voxels of the whole volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    low: [usize; 3],
    high: [usize; 3],
}

/// A binary volume whose outermost layer of voxels is empty.
///
/// The margin stands for everything outside: a mask that touches the volume's edge has its border there.
pub(super) struct Mask {
    pub inside: Vec<bool>,
    pub extents: [usize; 3],
}

impl Bounds {
    /// The boxes of classes `0..classes` over several label maps of the same extents together.
    pub fn joint<P: Label, T: Label>(
        prediction: &[P],
        truth: &[T],
        extents: [usize; 3],
        classes: usize,
    ) -> Vec<Option<Self>> {
        let mut bounds = vec![None; classes];
        Self::extend(&mut bounds, prediction, extents);
        Self::extend(&mut bounds, truth, extents);
        bounds
    }

    fn extend<L: Label>(bounds: &mut [Option<Self>], labels: &[L], extents: [usize; 3]) {
        let [_, height, width] = extents;
        for (row, line) in labels.chunks_exact(width.max(1)).enumerate() {
            let (z, y) = (row / height, row % height);
            for (x, &label) in line.iter().enumerate() {
                let class = usize::from(label.into());
                // Most voxels are background, whose box nobody asks for.
                if class == 0 || class >= bounds.len() {
                    continue;
                }
                let place = [z, y, x];
                let bounds = bounds[class].get_or_insert(Self { low: place, high: place });
                for (axis, &at) in place.iter().enumerate() {
                    bounds.low[axis] = bounds.low[axis].min(at);
                    bounds.high[axis] = bounds.high[axis].max(at + 1);
                }
            }
        }
    }
}

impl Mask {
    /// The voxels of `class` inside `bounds`, with the margin around them.
    pub fn cut<L: Label>(labels: &[L], extents: [usize; 3], class: u16, bounds: Bounds) -> Self {
        let inner: [usize; 3] = std::array::from_fn(|axis| bounds.high[axis] - bounds.low[axis]);
        let [depth, height, width] = inner.map(|extent| extent + 2);
        let mut inside = vec![false; depth * height * width];
        for z in 0..inner[0] {
            for y in 0..inner[1] {
                let from = ((z + bounds.low[0]) * extents[1] + y + bounds.low[1]) * extents[2] + bounds.low[2];
                let to = ((z + 1) * height + y + 1) * width + 1;
                let source = &labels[from..from + inner[2]];
                for (inside, &label) in inside[to..to + inner[2]].iter_mut().zip(source) {
                    *inside = label.into() == class;
                }
            }
        }
        Self { inside, extents: [depth, height, width] }
    }

    /// Where the border voxels are: inside, with at least one of the six face neighbours outside.
    pub fn border(&self) -> Vec<bool> {
        let [_, height, width] = self.extents;
        let plane = height * width;
        let mut border = vec![false; self.inside.len()];
        for (index, border) in border.iter_mut().enumerate() {
            // The margin is empty, so an inside voxel has all six neighbours in the array.
            *border = self.inside[index]
                && ![1, width, plane].iter().all(|step| self.inside[index - step] && self.inside[index + step]);
        }
        border
    }

    /// The code of every 2x2x2 neighbourhood, bit `4 dz + 2 dy + dx` per inside voxel, and the codes' extents (one less
    /// on each axis). A code sits at the corner that its eight voxels share.
    pub fn neighbour_codes(&self) -> (Vec<u8>, [usize; 3]) {
        let [depth, height, width] = self.extents;
        let extents = [depth - 1, height - 1, width - 1];
        let mut codes = Vec::with_capacity(extents.iter().product());
        let row = |z: usize, y: usize| &self.inside[(z * height + y) * width..][..width];
        for z in 0..extents[0] {
            for y in 0..extents[1] {
                let rows = [row(z, y), row(z, y + 1), row(z + 1, y), row(z + 1, y + 1)];
                codes.extend((0..extents[2]).map(|x| {
                    let bits =
                        |(pair, row): (usize, &&[bool])| (u8::from(row[x]) | u8::from(row[x + 1]) << 1) << (2 * pair);
                    rows.iter().enumerate().map(bits).sum::<u8>()
                }));
            }
        }
        (codes, extents)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_that_fills_the_volume_has_its_border_at_the_edge() {
        let labels = vec![1u8; 27];
        let bounds = Bounds::joint(&labels, &labels, [3, 3, 3], 2)[1].unwrap();
        let mask = Mask::cut(&labels, [3, 3, 3], 1, bounds);
        assert_eq!(mask.extents, [5, 5, 5]);
        assert_eq!(mask.border().iter().filter(|&&border| border).count(), 26);

        let (codes, extents) = mask.neighbour_codes();
        assert_eq!((codes.len(), extents), (64, [4, 4, 4]));
        // The eight outermost codes see one corner voxel each, the eight innermost see eight.
        assert_eq!((codes[0], codes[63]), (0b1000_0000, 0b0000_0001));
        assert_eq!(codes.iter().filter(|&&code| code == 255).count(), 8);
    }

    #[test]
    fn the_joint_box_holds_both_maps_and_ignores_other_classes() {
        let (mut left, mut right) = (vec![0u8; 4 * 5 * 6], vec![0u16; 4 * 5 * 6]);
        left[(5 + 2) * 6 + 3] = 1;
        right[(3 * 5 + 4) * 6] = 1;
        right[0] = 2;
        let bounds = Bounds::joint(&left, &right, [4, 5, 6], 4);
        assert_eq!(bounds[1], Some(Bounds { low: [1, 2, 0], high: [4, 5, 4] }));
        assert_eq!(bounds[2], Some(Bounds { low: [0, 0, 0], high: [1, 1, 1] }));
        assert_eq!(bounds[3], None);
    }
}
