//! Passes between a grid and the grid of half its extents: max pool 2x2x2, nearest upsampling x2, and their backwards.
//!
//! `fine` is the N D H W C tensor of twice the extents `coarse` along D, H and W.

use super::{
    elementwise::vectorised,
    threads::{SharedMut, Threads},
};

/// Extents of a pair of grids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Halving {
    /// Samples.
    pub batch: usize,
    /// Planes, rows and voxels per row of the coarse grid.
    pub coarse: [usize; 3],
    /// Channels of both.
    pub channels: usize,
}

impl Halving {
    /// Max pool: each coarse value is the largest of its eight fine values.
    pub fn max_pool(&self, threads: &Threads, fine: &[f32], coarse: &mut [f32]) {
        self.check(fine.len(), coarse.len());
        self.for_rows(threads, coarse, |row, coarse| {
            let channels = self.channels;
            let rows = self.fine_rows(row).map(|start| &fine[start..start + 2 * coarse.len()]);
            vectorised(threads.isa(), || {
                for (voxel, coarse) in coarse.chunks_exact_mut(channels).enumerate() {
                    let at = 2 * voxel * channels;
                    let pairs: [&[f32]; 4] = rows.map(|row| &row[at..at + 2 * channels]);
                    let [a, b, c, d] = pairs.map(|pair| pair.split_at(channels));
                    let (a0, a1, b0, b1) = (&a.0[..channels], &a.1[..channels], &b.0[..channels], &b.1[..channels]);
                    let (c0, c1, d0, d1) = (&c.0[..channels], &c.1[..channels], &d.0[..channels], &d.1[..channels]);
                    let coarse = &mut coarse[..channels];
                    for i in 0..channels {
                        let ab = larger(larger(a0[i], a1[i]), larger(b0[i], b1[i]));
                        let cd = larger(larger(c0[i], c1[i]), larger(d0[i], d1[i]));
                        coarse[i] = larger(ab, cd);
                    }
                }
            });
        });
    }

    /// Its gradient: `d_fine` is `d_coarse` at the first of the largest fine values in scan order (d, h, w), else 0.
    /// The place is found again from `fine`, so nothing needs to be kept.
    pub fn max_pool_backward(&self, threads: &Threads, d_coarse: &[f32], fine: &[f32], d_fine: &mut [f32]) {
        self.check(fine.len(), d_coarse.len());
        self.check(d_fine.len(), d_coarse.len());
        let (channels, length) = (self.channels, self.coarse[2] * self.channels);
        let d_fine = SharedMut::new(d_fine);
        threads.run(self.rows(), &|row| {
            let starts = self.fine_rows(row);
            let rows = starts.map(|start| &fine[start..start + 2 * length]);
            // SAFETY: the four fine rows of a coarse row belong to this task alone.
            let d_rows = starts.map(|start| unsafe { d_fine.slice(start, 2 * length) });
            let gradients = &d_coarse[row * length..(row + 1) * length];
            vectorised(threads.isa(), || {
                let [da, db, dc, dd] = d_rows;
                for (voxel, gradient) in gradients.chunks_exact(channels).enumerate() {
                    let at = 2 * voxel * channels;
                    let part = at..at + 2 * channels;
                    let x: [&[f32]; 4] = [
                        &rows[0][part.clone()],
                        &rows[1][part.clone()],
                        &rows[2][part.clone()],
                        &rows[3][part.clone()],
                    ];
                    let mut d: [&mut [f32]; 4] =
                        [&mut da[part.clone()], &mut db[part.clone()], &mut dc[part.clone()], &mut dd[part]];
                    let gradient = &gradient[..channels];
                    for i in 0..channels {
                        let values = [
                            x[0][i],
                            x[0][channels + i],
                            x[1][i],
                            x[1][channels + i],
                            x[2][i],
                            x[2][channels + i],
                            x[3][i],
                            x[3][channels + i],
                        ];
                        let top = values.into_iter().fold(values[0], larger);
                        let mut left = gradient[i];
                        let mut take = |value: f32| {
                            let hit = value == top;
                            let taken = if hit { left } else { 0.0 };
                            left = if hit { 0.0 } else { left };
                            taken
                        };
                        let shares = values.map(&mut take);
                        for (pair, d) in d.iter_mut().enumerate() {
                            d[i] = shares[2 * pair];
                            d[channels + i] = shares[2 * pair + 1];
                        }
                    }
                }
            });
        });
    }

    /// Nearest upsampling: each of the eight fine values is the coarse value.
    pub fn upsample(&self, threads: &Threads, coarse: &[f32], fine: &mut [f32]) {
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
    pub fn upsample_backward(&self, threads: &Threads, d_fine: &[f32], d_coarse: &mut [f32]) {
        self.check(d_fine.len(), d_coarse.len());
        self.for_rows(threads, d_coarse, |row, d_coarse| {
            let channels = self.channels;
            let rows = self.fine_rows(row).map(|start| &d_fine[start..start + 2 * d_coarse.len()]);
            vectorised(threads.isa(), || {
                for (voxel, sum) in d_coarse.chunks_exact_mut(channels).enumerate() {
                    let at = 2 * voxel * channels;
                    let [a, b, c, d] = rows.map(|row| &row[at..at + 2 * channels]);
                    for i in 0..channels {
                        let j = channels + i;
                        sum[i] = ((a[i] + a[j]) + (b[i] + b[j])) + ((c[i] + c[j]) + (d[i] + d[j]));
                    }
                }
            });
        });
    }

    /// Rows of the coarse grid.
    fn rows(&self) -> usize {
        self.batch * self.coarse[0] * self.coarse[1]
    }

    /// First elements of the four fine rows under a coarse row, in scan order.
    fn fine_rows(&self, row: usize) -> [usize; 4] {
        let height = self.coarse[1];
        let (plane, h) = (row / height, row % height);
        let length = 2 * self.coarse[2] * self.channels;
        [0, 1, 2, 3].map(|i| ((2 * plane + i / 2) * 2 * height + 2 * h + i % 2) * length)
    }

    fn for_rows(&self, threads: &Threads, coarse: &mut [f32], function: impl Fn(usize, &mut [f32]) + Sync) {
        threads.for_chunks(coarse, self.coarse[2] * self.channels, function);
    }

    fn check(&self, fine: usize, coarse: usize) {
        assert_eq!(coarse, self.rows() * self.coarse[2] * self.channels, "coarse length of {self:?}");
        assert_eq!(fine, 8 * coarse, "fine length of {self:?}");
    }
}

/// The larger of two; the first if they are equal.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
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
                    let p = Halving { batch, coarse, channels };
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
