//! Sums that wgrad takes beside its matrix products: of the output gradient per channel, and over slices.

#![allow(unsafe_code)]

use std::ops::Range;

use crate::cpu::simd::{Kernel, PairKernel, Pairs, Simd};

/// Adds a staged gradient to sums per channel.
pub(super) struct SumRows<'a> {
    /// `[row][channel block][voxel][width]`.
    pub(super) staged: &'a [f32],
    pub(super) rows: usize,
    /// Voxels and width.
    pub(super) row: [usize; 2],
    /// The voxels that belong to this slab; the others are margins.
    pub(super) own: Range<usize>,
    pub(super) sums: &'a mut [f32],
}

impl Kernel for SumRows<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: the machine runs S.
        unsafe { self.add::<S>(|element| element) }
    }
}

impl PairKernel for SumRows<'_> {
    /// A word of pairs counts for its first voxel: its second is the next word's first.
    #[inline(always)]
    unsafe fn run<S: Pairs>(self) {
        // SAFETY: the machine runs S.
        unsafe { self.add::<S>(|word| S::first(word)) }
    }
}

impl SumRows<'_> {
    #[inline(always)]
    unsafe fn add<S: Simd>(self, value: impl Fn(S::V) -> S::V) {
        let [voxels, width] = self.row;
        let blocks = self.sums.len().div_ceil(width);
        assert!(self.own.end <= voxels && self.staged.len() >= self.rows * blocks * voxels * width, "staged rows");
        for first in (0..self.sums.len()).step_by(S::LANES) {
            let lanes = S::LANES.min(self.sums.len() - first);
            // SAFETY: the rows, blocks and voxels of the staged gradient exist, and `lanes` sums from `first` on.
            unsafe {
                let column = self.staged.as_ptr().add(first / width * voxels * width + first % width);
                let mut total = S::load_partial(self.sums.as_ptr().add(first), lanes);
                let mut lost = S::zero();
                for row in 0..self.rows {
                    let row = column.add(row * blocks * voxels * width);
                    // Short sums within a row; over the rows, what each addition rounds off is kept.
                    let mut chains = [S::zero(); 2];
                    let mut voxel = self.own.start;
                    while voxel + 2 <= self.own.end {
                        chains[0] = S::add(chains[0], value(S::load(row.add(voxel * width))));
                        chains[1] = S::add(chains[1], value(S::load(row.add((voxel + 1) * width))));
                        voxel += 2;
                    }
                    if voxel < self.own.end {
                        chains[0] = S::add(chains[0], value(S::load(row.add(voxel * width))));
                    }
                    let row_sum = S::add(chains[0], chains[1]);
                    let sum = S::add(total, row_sum);
                    let added = S::sub(sum, total);
                    lost = S::add(lost, S::add(S::sub(total, S::sub(sum, added)), S::sub(row_sum, added)));
                    total = sum;
                }
                S::store_partial(self.sums.as_mut_ptr().add(first), S::add(total, lost), lanes);
            }
        }
    }
}

/// Adds the slices' sums of some consecutive filter elements, in slice order.
pub(super) struct AddSlices<'a> {
    pub(super) partials: &'a [f32],
    pub(super) filter_len: usize,
    pub(super) sums: &'a mut [f32],
}

impl Kernel for AddSlices<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        self.sums.copy_from_slice(&self.partials[..self.sums.len()]);
        let mut start = self.filter_len;
        while start < self.partials.len() {
            let partial = &self.partials[start..];
            for (sum, value) in self.sums.iter_mut().zip(partial) {
                *sum += value;
            }
            start += self.filter_len;
        }
    }
}
