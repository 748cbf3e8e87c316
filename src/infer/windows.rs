//! Where windows lie.
//!
//! A volume that is smaller than a window is padded to it on both sides. Window starts are positions in the padded
//! volume, so that they are never negative.

/// What a window and a volume have in common along one axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Overlap {
    /// First common position, counted in the volume.
    pub volume: usize,
    /// The same position, counted in the window.
    pub window: usize,
    /// Common positions.
    pub count: usize,
}

/// Padding in front of a volume that is smaller than a window; what is left over goes behind.
pub fn padding_before(extent: usize, patch: usize) -> usize {
    patch.saturating_sub(extent) / 2
}

/// The starts of the windows along one axis: evenly spread, neighbours at most `patch (1 - overlap)` apart (at least
/// one voxel), the last one flush with the end.
pub fn starts(extent: usize, patch: usize, overlap: f64) -> Vec<usize> {
    let span = extent.saturating_sub(patch);
    let step = ((patch as f64 * (1.0 - overlap)) as usize).max(1);
    let gaps = span.div_ceil(step);
    // Rounding span * i / gaps to the nearest keeps neighbours at most `step` apart, because `step` is whole and
    // span / gaps does not exceed it. 128 bits, since span * i may not fit 64.
    let start = |i: usize| (2 * span as u128 * i as u128 + gaps as u128) / (2 * gaps as u128);
    if gaps == 0 { vec![0] } else { (0..=gaps).map(|i| start(i) as usize).collect() }
}

/// The starts of all windows over a volume of extents D, H, W, in order of D, then H, then W.
pub fn windows(extent: [usize; 3], patch: [usize; 3], overlap: f64) -> Vec<[usize; 3]> {
    let [d, h, w] = [0, 1, 2].map(|axis| starts(extent[axis], patch[axis], overlap));
    let mut all = Vec::with_capacity(d.len() * h.len() * w.len());
    for &z in &d {
        for &y in &h {
            all.extend(w.iter().map(|&x| [z, y, x]));
        }
    }
    all
}

/// What the window at `start` of the padded volume has in common with the volume.
pub(super) fn overlap(extent: usize, patch: usize, start: usize) -> Overlap {
    let padding = padding_before(extent, patch);
    let volume = start.saturating_sub(padding);
    let end = (start + patch - padding).min(extent);
    Overlap { volume, window: volume + padding - start, count: end - volume }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn windows_cover_an_axis_evenly_and_end_flush(extent in 1usize..300, patch in 1usize..100, tenths in 0u32..10) {
            let ratio = f64::from(tenths) / 10.0;
            let starts = starts(extent, patch, ratio);
            let padded = extent.max(patch);
            prop_assert_eq!(starts[0], 0);
            prop_assert_eq!(starts[starts.len() - 1] + patch, padded);
            let widest = starts.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
            let narrowest = starts.windows(2).map(|pair| pair[1] - pair[0]).min().unwrap_or(0);
            prop_assert!(widest <= ((patch as f64 * (1.0 - ratio)) as usize).max(1));
            prop_assert!(widest - narrowest <= 1 && (starts.len() == 1 || narrowest > 0));
            // One window fewer could not do it.
            let step = ((patch as f64 * (1.0 - ratio)) as usize).max(1);
            prop_assert!(starts.len() == 1 || (starts.len() - 2) * step < padded - patch);
            for &start in &starts {
                let common = overlap(extent, patch, start);
                prop_assert_eq!(common.count, extent.min(patch));
                prop_assert!(common.volume + common.count <= extent && common.window + common.count <= patch);
            }
        }
    }

    #[test]
    fn a_small_volume_lies_in_the_middle_of_its_only_window() {
        assert_eq!(starts(5, 8, 0.5), [0]);
        assert_eq!(overlap(5, 8, 0), Overlap { volume: 0, window: 1, count: 5 });
        assert_eq!(windows([5, 8, 1], [8, 8, 8], 0.5), [[0; 3]]);
    }

    #[test]
    fn windows_come_in_order_of_d() {
        let windows = windows([9, 5, 4], [4, 4, 4], 0.0);
        assert_eq!(windows, [[0, 0, 0], [0, 1, 0], [3, 0, 0], [3, 1, 0], [5, 0, 0], [5, 1, 0]]);
        assert_eq!(starts(usize::MAX, usize::MAX - 3, 0.5), [0, 3]);
    }
}
