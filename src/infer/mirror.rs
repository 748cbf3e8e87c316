//! Mirrored copies of a window.

use std::ops::Range;

/// Every combination of the chosen axes, the unmirrored one first.
pub fn flips(axes: [bool; 3]) -> Vec<[bool; 3]> {
    let mut all = vec![[false; 3]];
    for axis in (0..3).filter(|&axis| axes[axis]) {
        for i in 0..all.len() {
            let mut flipped = all[i];
            flipped[axis] = true;
            all.push(flipped);
        }
    }
    all
}

/// Mirrors `[D, H, W, C]` along the chosen axes of D, H, W.
pub fn flip(input: &[f32], extent: [usize; 3], channels: usize, axes: [bool; 3], output: &mut [f32]) {
    for_each_pair(extent, channels, axes, |here, there| output[here].copy_from_slice(&input[there]));
}

/// Visits every voxel in order with the elements of it and of the voxel that mirroring exchanges it with.
pub(super) fn for_each_pair(
    extent: [usize; 3],
    channels: usize,
    axes: [bool; 3],
    mut visit: impl FnMut(Range<usize>, Range<usize>),
) {
    let [d, h, w] = extent;
    let mirror = |axis: usize, i: usize| if axes[axis] { extent[axis] - 1 - i } else { i };
    let voxel = |index: usize| index * channels..(index + 1) * channels;
    for z in 0..d {
        for y in 0..h {
            let (here, there) = ((z * h + y) * w, (mirror(0, z) * h + mirror(1, y)) * w);
            for x in 0..w {
                visit(voxel(here + x), voxel(there + mirror(2, x)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_comes_once() {
        assert_eq!(flips([false; 3]), [[false; 3]]);
        assert_eq!(
            flips([true, false, true]),
            [[false, false, false], [true, false, false], [false, false, true], [true, false, true]]
        );
        assert_eq!(flips([true; 3]).len(), 8);
    }

    #[test]
    fn mirroring_twice_is_nothing_and_once_moves_corners() {
        let extent = [2, 3, 5];
        let input: Vec<f32> = (0..60).map(|i| i as f32).collect();
        for axes in flips([true; 3]) {
            let (mut once, mut twice) = (vec![0.0; 60], vec![0.0; 60]);
            flip(&input, extent, 2, axes, &mut once);
            flip(&once, extent, 2, axes, &mut twice);
            assert_eq!(twice, input);
            let corner = [0, 1, 2].map(|axis| if axes[axis] { extent[axis] - 1 } else { 0 });
            let corner = ((corner[0] * 3 + corner[1]) * 5 + corner[2]) * 2;
            assert_eq!(once[..2], input[corner..corner + 2]);
        }
    }
}
