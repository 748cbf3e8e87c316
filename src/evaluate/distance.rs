//! The exact Euclidean distance transform: from every voxel to the nearest of a set, in squared mm.
//!
//! Separable (Felzenszwalb and Huttenlocher, "Distance transforms of sampled functions", 2012): along the innermost axis
//! the nearest member is found by two scans; along each further axis, the squared distances so far are heights on which
//! parabolas stand, and the lower envelope of the parabolas is the new squared distance. Linear in the voxels.

/// Squared distances in mm^2 from every voxel of `[D, H, W]` to the nearest voxel where `members` holds (infinity if
/// there is none), with the spacing of each axis in mm.
///
/// The three squares are added innermost axis first: the order in which scipy adds them for an array indexed (x, y, z),
/// so a distance that ties with a tolerance ties here as well.
pub(super) fn squared_distances(members: &[bool], extents: [usize; 3], spacing: [f64; 3]) -> Vec<f64> {
    let [depth, height, width] = extents;
    assert_eq!(members.len(), depth * height * width, "a member flag per voxel");
    let mut squared = vec![f64::INFINITY; members.len()];
    if squared.is_empty() {
        return squared;
    }
    for (line, heights) in members.chunks_exact(width).zip(squared.chunks_exact_mut(width)) {
        nearest_in_line(line, heights, spacing[2]);
    }
    let mut envelope = Envelope::default();
    for plane in squared.chunks_exact_mut(height * width) {
        for x in 0..width {
            envelope.lower(&mut plane[x..], width, height, spacing[1]);
        }
    }
    for column in 0..height * width {
        envelope.lower(&mut squared[column..], height * width, depth, spacing[0]);
    }
    squared
}

/// Squared distance to the nearest member on the same line.
fn nearest_in_line(members: &[bool], squared: &mut [f64], spacing: f64) {
    let mut steps = usize::MAX;
    for (&member, value) in members.iter().zip(squared.iter_mut()) {
        steps = if member { 0 } else { steps.saturating_add(1) };
        if steps < usize::MAX {
            *value = (steps as f64 * spacing).powi(2);
        }
    }
    steps = usize::MAX;
    for (&member, value) in members.iter().zip(squared.iter_mut()).rev() {
        steps = if member { 0 } else { steps.saturating_add(1) };
        if steps < usize::MAX {
            *value = value.min((steps as f64 * spacing).powi(2));
        }
    }
}

/// The parabolas that touch the lower envelope of one line, kept between lines to save allocations.
#[derive(Default)]
struct Envelope {
    heights: Vec<f64>,
    /// Apex of each parabola on the envelope, in steps from the line's start.
    apexes: Vec<usize>,
    /// Where each of them begins to be the lowest, in steps.
    starts: Vec<f64>,
}

impl Envelope {
    /// Replaces `count` values, `stride` apart, by the lower envelope of the parabolas that stand on them.
    fn lower(&mut self, line: &mut [f64], stride: usize, count: usize, spacing: f64) {
        self.heights.clear();
        self.heights.extend(line.iter().step_by(stride).take(count));
        self.apexes.clear();
        self.starts.clear();
        for (place, &height) in self.heights.iter().enumerate() {
            if height.is_infinite() {
                continue;
            }
            let mut start = f64::NEG_INFINITY;
            while let (Some(&apex), Some(&since)) = (self.apexes.last(), self.starts.last()) {
                start = self.crossing(apex, place, spacing);
                if start > since {
                    break;
                }
                self.apexes.pop();
                self.starts.pop();
                start = f64::NEG_INFINITY;
            }
            self.apexes.push(place);
            self.starts.push(start);
        }
        if self.apexes.is_empty() {
            return;
        }
        let mut current = 0;
        for (place, value) in line.iter_mut().step_by(stride).take(count).enumerate() {
            while self.starts.get(current + 1).is_some_and(|&start| start <= place as f64) {
                current += 1;
            }
            let apex = self.apexes[current];
            *value = self.heights[apex] + (place.abs_diff(apex) as f64 * spacing).powi(2);
        }
    }

    /// Where the parabola at `right` becomes lower than the one at `left`. The apexes' mean is split off, so no two
    /// large squares are subtracted.
    fn crossing(&self, left: usize, right: usize, spacing: f64) -> f64 {
        let rise = (self.heights[right] - self.heights[left]) / (spacing * spacing * (right - left) as f64);
        0.5 * (rise + (left + right) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    fn by_definition(members: &[bool], extents: [usize; 3], spacing: [f64; 3]) -> Vec<f64> {
        let [_, height, width] = extents;
        let place = |index: usize| [index / (height * width), index / width % height, index % width];
        let square = |index: usize, other: usize| -> f64 {
            let (a, b) = (place(index), place(other));
            [2, 1, 0].iter().map(|&axis| (a[axis].abs_diff(b[axis]) as f64 * spacing[axis]).powi(2)).sum()
        };
        let members: Vec<usize> = (0..members.len()).filter(|&index| members[index]).collect();
        (0..extents.iter().product())
            .map(|index| members.iter().map(|&other| square(index, other)).fold(f64::INFINITY, f64::min))
            .collect()
    }

    #[test]
    fn transform_is_the_minimum_over_all_members_on_awkward_extents_and_spacings() {
        let mut stream = Stream::new(11, "distance");
        for extents in [[1, 1, 1], [1, 1, 7], [7, 1, 1], [1, 5, 1], [3, 4, 5], [6, 2, 9], [11, 7, 3]] {
            for share in [0.0, 0.02, 0.3, 1.0] {
                let spacing = [stream.between(0.2, 4.0), stream.between(0.2, 4.0), stream.between(0.2, 4.0)];
                let count = extents.iter().product();
                let members: Vec<bool> = (0..count).map(|_| stream.chance(share)).collect();
                let fast = squared_distances(&members, extents, spacing);
                for (fast, slow) in fast.iter().zip(by_definition(&members, extents, spacing)) {
                    // A near tie may be resolved to either side: the two sums then differ by their rounding alone.
                    assert!(*fast == slow || (fast - slow).abs() <= 4.0 * f64::EPSILON * slow, "{fast} {slow}");
                }
            }
        }
    }

    #[test]
    fn nothing_to_be_near_to_is_infinitely_far() {
        assert!(squared_distances(&[false; 8], [2; 3], [1.0; 3]).iter().all(|value| value.is_infinite()));
        assert!(squared_distances(&[], [0, 3, 3], [1.0; 3]).is_empty());
    }
}
