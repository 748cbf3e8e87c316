//! Where a patch begins.

use super::Turn;
use crate::random::Stream;

/// Whether a sample is one of those around foreground: in a batch of several, one of the last, as in nnU-Net.
pub(super) fn is_around_foreground(share: f64, turn: Turn, stream: &mut Stream) -> bool {
    if turn.batch == 1 {
        return stream.chance(share);
    }
    let others = (turn.batch as f64 * (1.0 - share)).round_ties_even() as usize;
    turn.position % turn.batch >= others
}

/// Anywhere within the volume, each place alike.
pub(super) fn anywhere(source: [usize; 3], target: [usize; 3], stream: &mut Stream) -> [isize; 3] {
    [0, 1, 2].map(|axis| match bounds(source[axis], target[axis]) {
        (first, last) if first < last => first + stream.below((last - first) as usize + 1) as isize,
        (only, _) => only,
    })
}

/// Around a voxel, but not over the volume's border if that can be.
pub(super) fn around(voxel: [usize; 3], source: [usize; 3], target: [usize; 3]) -> [isize; 3] {
    [0, 1, 2].map(|axis| {
        let (first, last) = bounds(source[axis], target[axis]);
        (voxel[axis] as isize - (target[axis] / 2) as isize).clamp(first, last)
    })
}

/// The first and the last place along an axis: within the volume, or with the volume in the middle, an odd voxel at the far end.
fn bounds(source: usize, target: usize) -> (isize, isize) {
    if source >= target {
        return (0, (source - target) as isize);
    }
    let middle = -(((target - source) / 2) as isize);
    (middle, middle)
}
