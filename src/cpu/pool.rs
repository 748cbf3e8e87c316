//! Passes between a grid and the grid of half its extents: max pool 2x2x2, nearest upsampling x2, and their backwards.
//!
//! Elements are of any [`Element`] type; `fine` is the N D H W C tensor of twice the extents `coarse` along D, H and W.

#![allow(unsafe_code)]

mod fused;
mod norm;

use super::{
    element::Element,
    elementwise,
    simd::{Kernel, Simd, dispatch},
    threads::{SharedMut, Threads},
};

/// Extents of a pair of grids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Halving {
    /// Samples.
    pub batch: usize,
    /// Planes, rows and voxels per row of the coarse grid.
    pub coarse: [usize; 3],
    /// The same of the fine grid: twice as many, or one more, which no coarse voxel sees.
    pub fine: [usize; 3],
    /// Channels of both.
    pub channels: usize,
}

impl Halving {
    /// Max pool: each coarse value is the largest of its eight fine values.
    pub fn max_pool<E: Element>(&self, threads: &Threads, fine: &[E], coarse: &mut [E]) {
        self.check(fine.len(), coarse.len());
        self.for_rows(threads, coarse, |row, coarse| {
            let rows = self.fine_rows(row).map(|start| &fine[start..start + 2 * coarse.len()]);
            dispatch(threads.isa(), Reduce { rows, coarse, channels: self.channels, largest: true });
        });
    }

    /// Its gradient: `d_fine` is `d_coarse` at the first of the largest fine values in scan order (d, h, w), else 0.
    /// The place is found again from `fine`, so nothing needs to be kept.
    pub fn max_pool_backward<E: Element>(&self, threads: &Threads, d_coarse: &[E], fine: &[E], d_fine: &mut [E]) {
        self.check(fine.len(), d_coarse.len());
        self.check(d_fine.len(), d_coarse.len());
        if self.fine.iter().any(|extent| extent % 2 != 0) {
            // The planes that no coarse voxel sees get no gradient.
            elementwise::fill(threads, d_fine, E::zeroed());
        }
        let length = self.coarse[2] * self.channels;
        let d_fine = SharedMut::new(d_fine);
        threads.run(self.rows(), &|row| {
            let starts = self.fine_rows(row);
            let rows = starts.map(|start| &fine[start..start + 2 * length]);
            // SAFETY: the four fine rows of a coarse row belong to this task alone.
            let d_rows = starts.map(|start| unsafe { d_fine.slice(start, 2 * length) });
            let gradients = &d_coarse[row * length..(row + 1) * length];
            dispatch(threads.isa(), Distribute { rows, d_rows, gradients, channels: self.channels });
        });
    }

    /// Nearest upsampling: each of the eight fine values is the coarse value.
    pub fn upsample<E: Element>(&self, threads: &Threads, coarse: &[E], fine: &mut [E]) {
        self.check(fine.len(), coarse.len());
        let length = self.coarse[2] * self.channels;
        let fine = SharedMut::new(fine);
        threads.run(self.rows(), &|row| {
            let coarse = &coarse[row * length..(row + 1) * length];
            for start in self.fine_rows(row) {
                // SAFETY: the four fine rows of a coarse row belong to this task alone.
                let fine = unsafe { fine.slice(start, 2 * length) };
                for (pair, value) in fine.chunks_exact_mut(2 * self.channels).zip(coarse.chunks_exact(self.channels)) {
                    let (left, right) = pair.split_at_mut(self.channels);
                    left.copy_from_slice(value);
                    right.copy_from_slice(value);
                }
            }
        });
    }

    /// Its gradient: each coarse gradient is the sum of the eight fine ones.
    pub fn upsample_backward<E: Element>(&self, threads: &Threads, d_fine: &[E], d_coarse: &mut [E]) {
        self.check(d_fine.len(), d_coarse.len());
        self.for_rows(threads, d_coarse, |row, coarse| {
            let rows = self.fine_rows(row).map(|start| &d_fine[start..start + 2 * coarse.len()]);
            dispatch(threads.isa(), Reduce { rows, coarse, channels: self.channels, largest: false });
        });
    }

    /// Rows of the coarse grid.
    fn rows(&self) -> usize {
        self.batch * self.coarse[0] * self.coarse[1]
    }

    /// First elements of the four fine rows under a coarse row, in scan order.
    fn fine_rows(&self, row: usize) -> [usize; 4] {
        let [depth, height, _] = self.coarse;
        let (n, d, h) = (row / (depth * height), row / height % depth, row % height);
        let [fine_depth, fine_height, fine_width] = self.fine;
        [0, 1, 2, 3].map(|i| {
            let plane = n * fine_depth + 2 * d + i / 2;
            (plane * fine_height + 2 * h + i % 2) * fine_width * self.channels
        })
    }

    fn for_rows<E: Element>(&self, threads: &Threads, coarse: &mut [E], function: impl Fn(usize, &mut [E]) + Sync) {
        threads.for_chunks(coarse, self.coarse[2] * self.channels, function);
    }

    fn check(&self, fine: usize, coarse: usize) {
        assert_eq!(coarse, self.rows() * self.coarse[2] * self.channels, "coarse length of {self:?}");
        let fits = self.fine.iter().zip(self.coarse).all(|(fine, coarse)| fine / 2 == coarse);
        assert!(fits, "extents of {self:?}");
        let voxels = self.batch * self.fine.iter().product::<usize>();
        assert_eq!(fine, voxels * self.channels, "fine length of {self:?}");
    }
}

/// One coarse row from the four fine rows over it: the largest, or the sum, of each eight values.
struct Reduce<'a, E> {
    rows: [&'a [E]; 4],
    coarse: &'a mut [E],
    channels: usize,
    largest: bool,
}

impl<E: Element> Kernel for Reduce<'_, E> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { rows, coarse, channels, largest } = self;
        assert!(rows.iter().all(|row| row.len() == 2 * coarse.len()), "fine rows are twice as long");
        for (voxel, coarse) in coarse.chunks_exact_mut(channels).enumerate() {
            for c in (0..channels).step_by(S::LANES) {
                let lanes = S::LANES.min(channels - c);
                // SAFETY: `lanes` channels from `c` on exist in the coarse voxel and in both fine voxels of each row.
                unsafe {
                    let values = eight::<S, E>(&rows, 2 * voxel * channels + c, channels, lanes);
                    let result = if largest { largest_of::<S>(&values) } else { sum_of::<S>(&values) };
                    store::<S, E>(coarse.as_mut_ptr().add(c), result, lanes);
                }
            }
        }
    }
}

/// Four fine gradient rows from the coarse one.
struct Distribute<'a, E> {
    rows: [&'a [E]; 4],
    d_rows: [&'a mut [E]; 4],
    gradients: &'a [E],
    channels: usize,
}

impl<E: Element> Kernel for Distribute<'_, E> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { rows, d_rows, gradients, channels } = self;
        let long = 2 * gradients.len();
        assert!(rows.iter().all(|row| row.len() == long) && d_rows.iter().all(|row| row.len() == long), "fine rows");
        for (voxel, gradient) in gradients.chunks_exact(channels).enumerate() {
            for c in (0..channels).step_by(S::LANES) {
                let lanes = S::LANES.min(channels - c);
                let at = 2 * voxel * channels + c;
                // SAFETY: `lanes` channels from `c` on exist in the coarse voxel and in both fine voxels of each row.
                unsafe {
                    let values = eight::<S, E>(&rows, at, channels, lanes);
                    let top = largest_of::<S>(&values);
                    let mut left = load::<S, E>(gradient.as_ptr().add(c), lanes);
                    for (i, value) in values.into_iter().enumerate() {
                        let to = d_rows[i / 2].as_mut_ptr().add(at + i % 2 * channels);
                        store::<S, E>(to, S::keep_where_not_greater(top, value, left), lanes);
                        left = S::keep_where_greater(top, value, left);
                    }
                }
            }
        }
    }
}

/// One vector of channels of the eight fine voxels, in scan order.
#[inline(always)]
unsafe fn eight<S: Simd, E: Element>(rows: &[&[E]; 4], at: usize, channels: usize, lanes: usize) -> [S::V; 8] {
    // SAFETY: the caller's promise: the lanes exist in both voxels of each row.
    unsafe {
        let mut values = [S::zero(); 8];
        for i in 0..8 {
            values[i] = load::<S, E>(rows[i / 2].as_ptr().add(at + i % 2 * channels), lanes);
        }
        values
    }
}

/// The larger of two is the first if they are equal.
#[inline(always)]
unsafe fn largest_of<S: Simd>(values: &[S::V; 8]) -> S::V {
    let mut top = values[0];
    for &value in &values[1..] {
        // SAFETY: the caller runs S.
        top = unsafe { S::max(value, top) };
    }
    top
}

#[inline(always)]
unsafe fn sum_of<S: Simd>(v: &[S::V; 8]) -> S::V {
    // SAFETY: the caller runs S.
    unsafe { S::add(S::add(S::add(v[0], v[1]), S::add(v[2], v[3])), S::add(S::add(v[4], v[5]), S::add(v[6], v[7]))) }
}

#[inline(always)]
unsafe fn load<S: Simd, E: Element>(from: *const E, lanes: usize) -> S::V {
    // SAFETY: the caller's promise: `lanes` elements are readable.
    unsafe { if lanes == S::LANES { E::load::<S>(from) } else { E::load_partial::<S>(from, lanes) } }
}

#[inline(always)]
unsafe fn store<S: Simd, E: Element>(to: *mut E, v: S::V, lanes: usize) {
    // SAFETY: the caller's promise: `lanes` elements are writable.
    unsafe { if lanes == S::LANES { E::store::<S>(to, v) } else { E::store_partial::<S>(to, v, lanes) } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Isa;

    /// (fine element, coarse element) pairs in scan order of the fine grid.
    fn pairs(p: &Halving) -> Vec<(usize, usize)> {
        let [d, h, w] = p.coarse;
        let mut pairs = Vec::new();
        for n in 0..p.batch {
            for (z, y, x) in (0..2 * d).flat_map(|z| (0..2 * h).flat_map(move |y| (0..2 * w).map(move |x| (z, y, x)))) {
                for c in 0..p.channels {
                    let fine = (((n * 2 * d + z) * 2 * h + y) * 2 * w + x) * p.channels + c;
                    pairs.push((fine, (((n * d + z / 2) * h + y / 2) * w + x / 2) * p.channels + c));
                }
            }
        }
        pairs
    }

    fn cases(check: impl Fn(&Halving, &Threads, &[(usize, usize)], &[f32], &[f32])) {
        for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
            for count in 1..4 {
                let threads = Threads::with_isa(count, isa);
                for (batch, coarse, channels) in
                    [(1, [1, 1, 1], 1), (2, [1, 3, 2], 16), (1, [3, 2, 5], 19), (2, [2, 2, 4], 40)]
                {
                    let p = Halving { batch, coarse, fine: coarse.map(|extent| 2 * extent), channels };
                    let pairs = pairs(&p);
                    // Few distinct values, so that ties are common.
                    let fine: Vec<f32> = (0..pairs.len()).map(|i| (i * i % 7) as f32 - 3.0).collect();
                    let coarse: Vec<f32> = (0..pairs.len() / 8).map(|i| (i as f32).sin()).collect();
                    check(&p, &threads, &pairs, &fine, &coarse);
                }
            }
        }
    }

    #[test]
    fn max_pool_takes_the_largest_and_its_gradient_goes_to_the_first_largest_only() {
        cases(|p, threads, pairs, fine, d_coarse| {
            let mut top = vec![f32::NEG_INFINITY; d_coarse.len()];
            pairs.iter().for_each(|&(f, c)| top[c] = top[c].max(fine[f]));
            let mut coarse = vec![f32::NAN; d_coarse.len()];
            p.max_pool(threads, fine, &mut coarse);
            assert_eq!(coarse, top);

            let mut expected = vec![0.0; fine.len()];
            let mut given = vec![false; coarse.len()];
            for &(f, c) in pairs {
                if fine[f] == top[c] && !given[c] {
                    (expected[f], given[c]) = (d_coarse[c], true);
                }
            }
            let mut d_fine = vec![f32::NAN; fine.len()];
            p.max_pool_backward(threads, d_coarse, fine, &mut d_fine);
            assert_eq!(d_fine, expected);
        });
    }

    #[test]
    fn upsampling_repeats_and_its_gradient_sums() {
        cases(|p, threads, pairs, d_fine, coarse| {
            let mut fine = vec![f32::NAN; d_fine.len()];
            p.upsample(threads, coarse, &mut fine);
            assert!(pairs.iter().all(|&(f, c)| fine[f] == coarse[c]));
            let mut expected = vec![0.0f32; coarse.len()];
            pairs.iter().for_each(|&(f, c)| expected[c] += d_fine[f]);
            let mut d_coarse = vec![f32::NAN; coarse.len()];
            p.upsample_backward(threads, d_fine, &mut d_coarse);
            // Small integers: every order of summation is exact.
            assert_eq!(d_coarse, expected);
        });
    }
}
