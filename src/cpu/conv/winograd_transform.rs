//! The transforms of minimal filtering, between voxels or taps and points; see [`super::winograd`].

#![allow(unsafe_code)]

use std::ops::Range;

use super::{stage::BLOCK, winograd::POINTS};
use crate::cpu::simd::{Kernel, Simd};

/// `B^T d`.
#[inline(always)]
unsafe fn input_points<S: Simd>([a, b, c, d]: [S::V; 4]) -> [S::V; 4] {
    // SAFETY: the caller's promise: the machine runs S.
    unsafe { [S::sub(a, c), S::add(b, c), S::sub(c, b), S::sub(b, d)] }
}

/// `G g`.
#[inline(always)]
unsafe fn filter_points<S: Simd>([a, b, c]: [S::V; 3]) -> [S::V; 4] {
    // SAFETY: the caller's promise: the machine runs S.
    unsafe {
        let half = S::splat(0.5);
        let [sum, middle] = [S::mul(half, S::add(a, c)), S::mul(half, b)];
        [a, S::add(sum, middle), S::sub(sum, middle), c]
    }
}

/// `A^T m`.
#[inline(always)]
unsafe fn outputs<S: Simd>([a, b, c, d]: [S::V; 4]) -> [S::V; 2] {
    // SAFETY: the caller's promise: the machine runs S.
    unsafe { [S::add(S::add(a, b), c), S::sub(S::sub(b, c), d)] }
}

/// Transforms planes of 3x3 taps: `[plane][9 taps][row]` to `[point][plane][row]`.
pub(super) struct FilterPoints<'a> {
    pub packed: &'a [f32],
    pub planes: usize,
    /// Elements of one tap.
    pub row: usize,
    pub points: &'a mut [f32],
    pub point_stride: usize,
}

impl Kernel for FilterPoints<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { packed, planes, row, points, point_stride } = self;
        assert!(packed.len() >= planes * 9 * row, "planes of taps");
        assert!(points.len() >= (POINTS - 1) * point_stride + planes * row, "points");
        for plane in 0..planes {
            for i in (0..row).step_by(S::LANES) {
                let lanes = S::LANES.min(row - i);
                // SAFETY: these lanes of all taps and points exist, as asserted; the machine runs S.
                unsafe {
                    let mut columns = [[S::zero(); 4]; 3];
                    for column in 0..3 {
                        let mut taps = [S::zero(); 3];
                        for tap in 0..3 {
                            let from = packed.as_ptr().add((plane * 9 + tap * 3 + column) * row + i);
                            taps[tap] = if lanes == S::LANES { S::load(from) } else { S::load_partial(from, lanes) };
                        }
                        columns[column] = filter_points::<S>(taps);
                    }
                    for r in 0..4 {
                        let values = filter_points::<S>([columns[0][r], columns[1][r], columns[2][r]]);
                        for c in 0..4 {
                            let to = points.as_mut_ptr().add((r * 4 + c) * point_stride + plane * row + i);
                            if lanes == S::LANES {
                                S::store(to, values[c]);
                            } else {
                                S::store_partial(to, values[c], lanes);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Transforms a plane of voxels in channel blocks: `[row][channel block][voxel][16]`, two rows and voxels more than the tiles cover.
pub(super) struct InputPoints<'a> {
    pub plane: &'a [f32],
    pub blocks: usize,
    /// Rows of tiles, tiles of a row.
    pub tiles: [usize; 2],
    pub points: &'a mut [f32],
    /// Elements from one point, channel block, row of tiles and tile to the next.
    pub strides: [usize; 4],
}

impl Kernel for InputPoints<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { plane, blocks, tiles: [rows, columns], points, strides: [sp, sb, sr, sc] } = self;
        let width = 2 * columns + 2;
        let row_len = blocks * width * BLOCK;
        assert!(plane.len() >= (2 * rows + 2) * row_len, "rows of voxels");
        let last = (POINTS - 1) * sp + (blocks - 1) * sb + (rows - 1) * sr + (columns - 1) * sc;
        assert!(points.len() >= last + BLOCK, "points");
        for row in 0..rows {
            for block in 0..blocks {
                for lane in (0..BLOCK).step_by(S::LANES) {
                    let from = 2 * row * row_len + block * width * BLOCK + lane;
                    let to = block * sb + row * sr + lane;
                    // SAFETY: the last row's, block's and tile's last lanes exist, as asserted; the machine runs S.
                    unsafe {
                        let from = plane.as_ptr().add(from);
                        let mut to = points.as_mut_ptr().add(to);
                        // Two of a tile's four columns of voxels are the next one's, too.
                        let mut a = column::<S>(from, row_len);
                        let mut b = column::<S>(from.add(BLOCK), row_len);
                        for tile in 0..columns {
                            let next = from.add((2 * tile + 2) * BLOCK);
                            let c = column::<S>(next, row_len);
                            let d = column::<S>(next.add(BLOCK), row_len);
                            for r in 0..4 {
                                let values = input_points::<S>([a[r], b[r], c[r], d[r]]);
                                for point in 0..4 {
                                    S::store(to.add((r * 4 + point) * sp), values[point]);
                                }
                            }
                            (a, b) = (c, d);
                            to = to.wrapping_add(sc);
                        }
                    }
                }
            }
        }
    }
}

/// Four voxels, one below the other, transformed.
#[inline(always)]
unsafe fn column<S: Simd>(from: *const f32, row_len: usize) -> [S::V; 4] {
    // SAFETY: the caller's promise: these voxels exist.
    unsafe {
        let [a, b] = [S::load(from), S::load(from.add(row_len))];
        let [c, d] = [S::load(from.add(2 * row_len)), S::load(from.add(3 * row_len))];
        input_points::<S>([a, b, c, d])
    }
}

/// Transforms the sums of a strip of tiles back to voxels, and finishes these as [`super::tile`] does.
pub(super) struct Outputs<'a> {
    /// `[point][tile of the strip][width]`.
    pub sums: &'a [f32],
    pub point_stride: usize,
    pub width: usize,
    /// The strip's tiles, numbered through the planes and rows of the slab.
    pub positions: Range<usize>,
    /// Rows of tiles of a plane, tiles of a row.
    pub tiles: [usize; 2],
    /// The slab's first voxel and channel.
    pub output: *mut f32,
    /// Elements from one plane, row and voxel to the next.
    pub strides: [usize; 3],
    /// Rows and voxels that exist from the first on.
    pub extents: [usize; 2],
    pub channels: usize,
    pub accumulate: bool,
    /// As in [`super::tile::Tile`].
    pub bias: *const f32,
    pub relu: bool,
    pub statistics: *mut f32,
    pub statistics_stride: usize,
}

impl Kernel for Outputs<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let needed = (POINTS - 1) * self.point_stride + self.positions.len() * self.width;
        assert!(self.sums.len() >= needed && self.channels <= self.width, "sums of all points");
        for first in (0..self.channels).step_by(S::LANES) {
            let lanes = S::LANES.min(self.channels - first);
            // SAFETY: the caller's promise: the voxels of these tiles inside the extents exist, in the bias and the statistics too.
            unsafe {
                if lanes == S::LANES {
                    self.vector::<S, true>(first, lanes);
                } else {
                    self.vector::<S, false>(first, lanes);
                }
            }
        }
    }
}

impl Outputs<'_> {
    /// One vector of channels.
    #[inline(always)]
    unsafe fn vector<S: Simd, const WHOLE: bool>(&self, first: usize, lanes: usize) {
        let ([rows, columns], [sd, sh, sw]) = (self.tiles, self.strides);
        // SAFETY: the caller of `run` vouches for these voxels and channels, and the sums were asserted.
        unsafe {
            let bias = match self.bias.is_null() {
                true => S::zero(),
                false => S::load_lanes::<WHOLE>(self.bias.add(first), lanes),
            };
            let mut totals = [S::zero(); 2];
            let mut at = [
                self.positions.start / (rows * columns),
                self.positions.start / columns % rows,
                self.positions.start % columns,
            ];
            for strip in 0..self.positions.len() {
                let from = self.sums.as_ptr().add(strip * self.width + first);
                let mut below = [[S::zero(); 2]; 4];
                for c in 0..4 {
                    let mut points = [S::zero(); 4];
                    for r in 0..4 {
                        let from = from.add((r * 4 + c) * self.point_stride);
                        points[r] = S::load_lanes::<WHOLE>(from, lanes);
                    }
                    below[c] = outputs::<S>(points);
                }
                let to = self.output.add(at[0] * sd + 2 * at[1] * sh + 2 * at[2] * sw + first);
                for r in 0..2 {
                    if 2 * at[1] + r >= self.extents[0] {
                        continue;
                    }
                    let row = outputs::<S>([below[0][r], below[1][r], below[2][r], below[3][r]]);
                    for c in 0..2 {
                        if 2 * at[2] + c >= self.extents[1] {
                            continue;
                        }
                        let to = to.add(r * sh + c * sw);
                        let mut y = S::add(row[c], bias);
                        if self.accumulate {
                            y = S::add(y, S::load_lanes::<WHOLE>(to, lanes));
                        }
                        if self.relu {
                            y = S::max(y, S::zero());
                        }
                        S::store_lanes::<WHOLE>(to, y, lanes);
                        totals = [S::add(totals[0], y), S::fma(y, y, totals[1])];
                    }
                }
                at[2] += 1;
                if at[2] == columns {
                    (at[1], at[2]) = (at[1] + 1, 0);
                    if at[1] == rows {
                        (at[0], at[1]) = (at[0] + 1, 0);
                    }
                }
            }
            if !self.statistics.is_null() {
                for (half, total) in totals.into_iter().enumerate() {
                    let to = self.statistics.add(half * self.statistics_stride + first);
                    S::store_lanes::<WHOLE>(to, S::add(S::load_lanes::<WHOLE>(to, lanes), total), lanes);
                }
            }
        }
    }
}

/// `A dy`.
#[inline(always)]
unsafe fn gradient_points<S: Simd>([a, b]: [S::V; 2]) -> [S::V; 4] {
    // SAFETY: the caller's promise: the machine runs S.
    unsafe { [a, S::add(a, b), S::sub(a, b), S::sub(S::zero(), b)] }
}

/// `G^T m`.
#[inline(always)]
unsafe fn taps<S: Simd>([a, b, c, d]: [S::V; 4]) -> [S::V; 3] {
    // SAFETY: the caller's promise: the machine runs S.
    unsafe {
        let half = S::splat(0.5);
        let sum = S::mul(half, S::add(b, c));
        [S::add(a, sum), S::mul(half, S::sub(b, c)), S::add(sum, d)]
    }
}

/// Transforms a plane of gradients in channel blocks: `[row][channel block][voxel][width]`, two by two voxels per tile.
pub(super) struct GradientPoints<'a> {
    pub plane: &'a [f32],
    pub blocks: usize,
    pub width: usize,
    /// Rows of tiles, tiles of a row.
    pub tiles: [usize; 2],
    pub points: &'a mut [f32],
    /// Elements from one point, channel block, row of tiles and tile to the next.
    pub strides: [usize; 4],
}

impl Kernel for GradientPoints<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { plane, blocks, width, tiles: [rows, columns], points, strides: [sp, sb, sr, sc] } = self;
        let row_len = blocks * 2 * columns * width;
        assert!(plane.len() >= 2 * rows * row_len && width.is_multiple_of(S::LANES), "rows of voxels");
        let last = (POINTS - 1) * sp + (blocks - 1) * sb + (rows - 1) * sr + (columns - 1) * sc;
        assert!(points.len() >= last + width, "points");
        for row in 0..rows {
            for block in 0..blocks {
                for tile in 0..columns {
                    for lane in (0..width).step_by(S::LANES) {
                        let from = 2 * row * row_len + (block * 2 * columns + 2 * tile) * width + lane;
                        let to = block * sb + row * sr + tile * sc + lane;
                        // SAFETY: the last row's, block's and tile's last lanes exist, as asserted; the machine runs S.
                        unsafe {
                            let (from, to) = (plane.as_ptr().add(from), points.as_mut_ptr().add(to));
                            let below = from.add(row_len);
                            let a = gradient_points::<S>([S::load(from), S::load(below)]);
                            let b = gradient_points::<S>([S::load(from.add(width)), S::load(below.add(width))]);
                            for r in 0..4 {
                                let values = gradient_points::<S>([a[r], b[r]]);
                                for point in 0..4 {
                                    S::store(to.add((r * 4 + point) * sp), values[point]);
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Transforms sums at the points back to taps: `[point][plane][row][output channel]` to `[plane][9 taps][row][output channel]`.
pub(super) struct FilterGradient<'a> {
    pub sums: &'a [f32],
    pub planes: usize,
    /// Input channels.
    pub rows: usize,
    /// Elements of a row of sums, and of all rows of a plane.
    pub row: usize,
    pub plane_stride: usize,
    /// The first tap's first channels.
    pub dfilter: *mut f32,
    /// From one tap and row to the next.
    pub tap_stride: usize,
    pub row_stride: usize,
    /// Output channels.
    pub count: usize,
}

impl Kernel for FilterGradient<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let point_stride = self.planes * self.plane_stride;
        assert!(self.sums.len() >= POINTS * point_stride && self.rows * self.row <= self.plane_stride, "sums");
        assert!(self.count <= self.row, "output channels");
        for plane in 0..self.planes {
            for row in 0..self.rows {
                for first in (0..self.count).step_by(S::LANES) {
                    let lanes = S::LANES.min(self.count - first);
                    // SAFETY: the sums exist, as asserted, and the filter's rows by the caller's promise; the machine runs S.
                    unsafe {
                        let from = self.sums.as_ptr().add(plane * self.plane_stride + row * self.row + first);
                        let mut columns = [[S::zero(); 3]; 4];
                        for c in 0..4 {
                            let mut points = [S::zero(); 4];
                            for r in 0..4 {
                                let from = from.add((r * 4 + c) * point_stride);
                                points[r] =
                                    if lanes == S::LANES { S::load(from) } else { S::load_partial(from, lanes) };
                            }
                            columns[c] = taps::<S>(points);
                        }
                        for r in 0..3 {
                            let values = taps::<S>([columns[0][r], columns[1][r], columns[2][r], columns[3][r]]);
                            for c in 0..3 {
                                let tap = (plane * 3 + r) * 3 + c;
                                let to = self.dfilter.add(tap * self.tap_stride + row * self.row_stride + first);
                                if lanes == S::LANES {
                                    S::store(to, values[c]);
                                } else {
                                    S::store_partial(to, values[c], lanes);
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
