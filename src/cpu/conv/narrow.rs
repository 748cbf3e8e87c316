//! The end of a tile whose results have 16 bits: its fp32 sums, complete over all input channels, are rounded once.

#![allow(unsafe_code)]

use crate::cpu::{
    Element,
    simd::{Kernel, Simd},
};

/// A tile's sums and where they go. Addresses and strides in elements.
pub(super) struct Narrow<'a, E> {
    /// `[row][voxel][width]`, all of the register tile.
    pub sums: &'a [f32],
    pub columns: usize,
    pub width: usize,
    /// First voxel and channel of the output tile.
    pub output: *mut E,
    pub output_row_stride: usize,
    pub output_stride: usize,
    /// Rows, voxels and channels that exist.
    pub extents: [usize; 3],
    /// As in [`super::tile::Tile`].
    pub bias: *const f32,
    pub relu: bool,
    pub statistics: *mut f32,
    pub statistics_stride: usize,
}

impl<E: Element> Kernel for Narrow<'_, E> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let [rows, columns, channels] = self.extents;
        assert!(self.sums.len() >= rows * self.columns * self.width, "sums of a whole tile");
        for first in (0..channels).step_by(S::LANES) {
            let lanes = S::LANES.min(channels - first);
            // SAFETY: the caller's promise: these rows, voxels and channels exist, in the bias and the statistics too.
            unsafe {
                if lanes == S::LANES {
                    self.vector::<S, true>([rows, columns], first, lanes);
                } else {
                    self.vector::<S, false>([rows, columns], first, lanes);
                }
            }
        }
    }
}

impl<E: Element> Narrow<'_, E> {
    /// One vector of channels.
    #[inline(always)]
    unsafe fn vector<S: Simd, const WHOLE: bool>(&self, [rows, columns]: [usize; 2], first: usize, lanes: usize) {
        // SAFETY: the caller of `run` vouches for these rows, voxels and channels.
        unsafe {
            let bias = match self.bias.is_null() {
                true => S::zero(),
                false => S::load_lanes::<WHOLE>(self.bias.add(first), lanes),
            };
            let mut total = [S::zero(); 2];
            for row in 0..rows {
                for column in 0..columns {
                    let sum = self.sums.as_ptr().add((row * self.columns + column) * self.width + first);
                    let to = self.output.add(row * self.output_row_stride + column * self.output_stride + first);
                    let mut sum = S::add(S::load_lanes::<WHOLE>(sum, lanes), bias);
                    if self.relu {
                        sum = S::max(sum, S::zero());
                    }
                    E::store_lanes::<S, WHOLE>(to, sum, lanes);
                    if !self.statistics.is_null() {
                        // Of what was stored.
                        let y = E::load_lanes::<S, WHOLE>(to, lanes);
                        total = [S::add(total[0], y), S::fma(y, y, total[1])];
                    }
                }
            }
            if !self.statistics.is_null() {
                for (half, total) in total.into_iter().enumerate() {
                    let to = self.statistics.add(half * self.statistics_stride + first);
                    S::store_lanes::<WHOLE>(to, S::add(S::load_lanes::<WHOLE>(to, lanes), total), lanes);
                }
            }
        }
    }
}
