//! One task of a minimal wgrad: some input and output channels of some slabs. Their sums at all points stay in its scratch, and the last
//! slab's end takes them back to taps.

#![allow(unsafe_code)]

use std::ops::Range;

use super::{
    outer::Outer,
    source::{Source, Window},
    stage::BLOCK,
    wgrad::Extents,
    wgrad_sums::SumRows,
    winograd::POINTS,
    winograd_transform::{FilterGradient, GradientPoints, InputPoints},
    winograd_wgrad::Blocking,
    word::Word,
};
use crate::cpu::{Element, Isa, simd::dispatch};

/// Some input and output channels of one slice.
pub(super) struct Task<'a> {
    pub extents: &'a Extents,
    pub blocking: &'a Blocking,
    pub isa: Isa,
    pub channels_in: Range<usize>,
    pub channels_out: Range<usize>,
    /// First element of the slice's filter gradient.
    pub dfilter: *mut f32,
    /// First element of the slice's sums of the output gradient; null if nobody asked or another task adds them.
    pub bias_sums: *mut f32,
}

impl Task<'_> {
    /// Sums over some slabs, at least one.
    pub(super) fn run<E: Element>(
        &self,
        slabs: Range<usize>,
        [input, dy]: [&Source<'_, E>; 2],
        [staged_input, staged_dy, plane, sums]: [&mut [f32]; 4],
    ) {
        for slab in slabs.clone() {
            let is_first = slab == slabs.start;
            self.stage_input(slab, input, plane, staged_input, is_first);
            self.stage_gradient(slab, dy, plane, staged_dy, is_first);
            let next = slabs.contains(&(slab + 1)).then(|| self.windows(slab + 1));
            for point in 0..POINTS {
                if let Some([window, dy_window]) = &next {
                    // Meanwhile a share of what will be staged next is fetched.
                    let share = |window: &Window| {
                        let rows = |point: usize| point * window.extents[0] * window.extents[1] / POINTS;
                        rows(point)..rows(point + 1)
                    };
                    input.prefetch(window, share(window), &self.channels_in);
                    dy.prefetch(dy_window, share(dy_window), &self.channels_out);
                }
                self.add_point(slab, point, [staged_input, staged_dy], sums, is_first);
            }
        }
        let (extents, [rows, row]) = (self.extents, self.sums_extents());
        let plane_stride = extents.channels_in * extents.channels_out;
        dispatch(
            self.isa,
            FilterGradient {
                sums,
                planes: extents.kernel[0],
                rows: self.channels_in.len(),
                row,
                plane_stride: rows * row,
                // The first channel of the first tap exists. These channels of this slice's filter belong to this task alone.
                dfilter: self
                    .dfilter
                    .wrapping_add(self.channels_in.start * extents.channels_out + self.channels_out.start),
                tap_stride: plane_stride,
                row_stride: extents.channels_out,
                count: self.channels_out.len(),
            },
        );
    }

    /// Rows and elements of a row of a tap's sums: `[point][tap along the planes][input channel][output channel]`.
    fn sums_extents(&self) -> [usize; 2] {
        [self.blocking.channels_in, self.blocking.channels_out]
    }

    /// Planes of a gradient's window before the input's first.
    fn margin(&self) -> usize {
        self.extents.kernel[0] - 1 - self.extents.pad_before[0]
    }

    /// What a slab reads: of the input, and of the gradient.
    fn windows(&self, slab: usize) -> [Window; 2] {
        let (sample, start, [planes, rows, columns]) = self.extents.minimal_slab_at(self.blocking, slab);
        let [d, h, w] = [start[0] as isize, 2 * start[1] as isize, 2 * start[2] as isize];
        let [_, ph, pw] = self.extents.pad_before.map(|pad| pad as isize);
        let halo = self.extents.kernel[0] - 1;
        [
            Window { sample, start: [d, h - ph, w - pw], extents: [planes, 2 * rows + 2, 2 * columns + 2] },
            Window {
                sample,
                start: [d - self.margin() as isize, h, w],
                extents: [planes + halo, 2 * rows, 2 * columns],
            },
        ]
    }

    /// Transforms a slab's input: `[point][row of tiles][tile][channel block][plane][16]`. Of a task's first slab, which nothing has
    /// fetched, each plane is fetched while the one before it is transformed.
    fn stage_input<E: Element>(
        &self,
        slab: usize,
        input: &Source<'_, E>,
        plane: &mut [f32],
        staged: &mut [f32],
        is_first: bool,
    ) {
        let (_, _, [planes, rows, columns]) = self.extents.minimal_slab_at(self.blocking, slab);
        let blocks = self.channels_in.len().div_ceil(BLOCK);
        let tile = blocks * planes * BLOCK;
        for d in 0..planes {
            let window = self.windows(slab)[0];
            if is_first && d + 1 < planes {
                let next = window.planes(d + 1..d + 2);
                input.prefetch(&next, 0..next.extents[1], &self.channels_in);
            }
            let window = window.planes(d..d + 1);
            let word = (self.isa, Word::Single);
            input.stage(word, window, self.channels_in.clone(), BLOCK, 0, plane);
            let points = InputPoints {
                plane,
                blocks,
                tiles: [rows, columns],
                points: &mut staged[d * BLOCK..],
                strides: [rows * columns * tile, planes * BLOCK, columns * tile, tile],
            };
            dispatch(self.isa, points);
        }
    }

    /// Transforms a slab's gradient with margins of planes, `[point][row of tiles][tile][channel block][plane][width]`, and adds its own
    /// planes to the sums of the bias gradient, if this task has any.
    fn stage_gradient<E: Element>(
        &self,
        slab: usize,
        dy: &Source<'_, E>,
        plane: &mut [f32],
        staged: &mut [f32],
        is_first: bool,
    ) {
        let (_, _, [planes, rows, columns]) = self.extents.minimal_slab_at(self.blocking, slab);
        let (width, channels) = (self.blocking.width, self.channels_out.len());
        let all = planes + self.extents.kernel[0] - 1;
        let tile = channels.div_ceil(width) * all * width;
        for d in 0..all {
            let window = self.windows(slab)[1];
            if is_first && d + 1 < all {
                let next = window.planes(d + 1..d + 2);
                dy.prefetch(&next, 0..next.extents[1], &self.channels_out);
            }
            let window = window.planes(d..d + 1);
            dy.stage((self.isa, Word::Single), window, self.channels_out.clone(), width, 0, plane);
            let points = GradientPoints {
                plane,
                blocks: channels.div_ceil(width),
                width,
                tiles: [rows, columns],
                points: &mut staged[d * width..],
                strides: [rows * columns * tile, all * width, columns * tile, tile],
            };
            dispatch(self.isa, points);
            if self.bias_sums.is_null() || !(self.margin()..self.margin() + planes).contains(&d) {
                continue;
            }
            let sums = self.bias_sums.wrapping_add(self.channels_out.start);
            // SAFETY: these sums exist, and of the tasks of this slice and these output channels only one has them.
            let sums = unsafe {
                if is_first && d == self.margin() {
                    std::ptr::write_bytes(sums, 0, channels);
                }
                std::slice::from_raw_parts_mut(sums, channels)
            };
            let row = [2 * columns, width];
            dispatch(self.isa, SumRows { staged: plane, rows: 2 * rows, row, own: 0..2 * columns, sums });
        }
    }

    /// All register blocks of one point.
    fn add_point(&self, slab: usize, point: usize, [input, dy]: [&[f32]; 2], sums: &mut [f32], is_first: bool) {
        let (extents, blocking) = (self.extents, self.blocking);
        let (_, _, [planes, rows, columns]) = extents.minimal_slab_at(blocking, slab);
        let (kd, width, tiles) = (extents.kernel[0], blocking.width, rows * columns);
        let dy_planes = planes + kd - 1;
        let input_tile = self.channels_in.len().div_ceil(BLOCK) * planes * BLOCK;
        let dy_tile = self.channels_out.len().div_ceil(width) * dy_planes * width;
        let (input, dy) = (&input[point * tiles * input_tile..], &dy[point * tiles * dy_tile..]);
        assert!(input.len() >= tiles * input_tile && dy.len() >= tiles * dy_tile, "points of the whole slab");
        let [sum_rows, sum_row] = self.sums_extents();
        let sums = &mut sums[point * kd * sum_rows * sum_row..][..kd * sum_rows * sum_row];
        for out in (0..self.channels_out.len()).step_by(width) {
            for channel in (0..self.channels_in.len()).step_by(blocking.shape.channels) {
                for tap in (0..kd).step_by(blocking.shape.taps) {
                    let first_dy = (out / width * dy_planes + kd - 1 - tap) * width;
                    let outer = Outer {
                        word: Word::Single,
                        input: input[channel / BLOCK * planes * BLOCK + channel % BLOCK..].as_ptr(),
                        input_plane_stride: 0,
                        input_row_stride: input_tile,
                        dy: dy[first_dy..].as_ptr(),
                        dy_plane_stride: 0,
                        dy_row_stride: dy_tile,
                        extents: [1, tiles, planes],
                        sums: sums[(tap * sum_rows + channel) * sum_row + out..].as_mut_ptr(),
                        tap_stride: sum_rows * sum_row,
                        channel_stride: sum_row,
                        channels_in: blocking.shape.channels.min(self.channels_in.len() - channel),
                        channels_out: width.min(self.channels_out.len() - out),
                        accumulate: !is_first,
                    };
                    // SAFETY: `Threads` checked the instruction set. The points hold whole register blocks of all tiles, as asserted, and
                    // gradients reach `taps - 1 <= kernel - 1` planes before `first_dy`, which starts that far behind the
                    // margin. The sums of these channels lie inside the point's.
                    unsafe { (blocking.function)(self.isa, &outer) };
                }
            }
        }
    }
}
