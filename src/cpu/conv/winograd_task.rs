//! One task of a minimal fprop or dgrad: it transforms its part of the filter once; then, slab by slab, it transforms the input plane by
//! plane and walks the line of tiles in strips: register tiles at all points, and back to voxels while the sums are in the cache.

#![allow(unsafe_code)]

use std::ops::Range;

use super::{
    correlate::Extents,
    pack::FilterLayout,
    source::{Source, Window},
    stage::BLOCK,
    tile::Tile,
    tile_shapes::Choice,
    winograd::{Blocking, POINTS},
    winograd_transform::{FilterPoints, InputPoints, Outputs},
    word::Word,
};
use crate::cpu::{Element, Isa, simd::dispatch, threads::SharedMut};

/// What all tasks share.
pub(super) struct Task<'a, E> {
    pub extents: &'a Extents,
    pub blocking: &'a Blocking,
    pub isa: Isa,
    pub source: &'a Source<'a, E>,
    pub filter: (&'a [E], &'a FilterLayout),
    pub output: &'a SharedMut<f32>,
    pub strides: [usize; 4],
    pub bias: Option<&'a [f32]>,
    pub relu: bool,
    /// Where sums of the output go.
    pub partials: Option<&'a SharedMut<f32>>,
}

/// One output block, slab and chunk of a task's work.
struct Part<'a> {
    block: usize,
    slab_group: usize,
    slab: usize,
    words: Range<usize>,
    staged: &'a [f32],
    filter: &'a [f32],
    sums: &'a mut [f32],
    /// What will be staged next, to be fetched meanwhile.
    next: Option<Window>,
}

impl<E: Element> Task<'_, E> {
    /// Computes some output blocks of some slabs.
    pub(super) fn run(
        &self,
        blocks: Range<usize>,
        slab_group: usize,
        slabs: Range<usize>,
        [filters, staged, plane, sums]: [&mut [f32]; 4],
    ) {
        for block in blocks.clone() {
            self.clear_statistics(slab_group, block);
        }
        let all = self.extents.channels_in;
        for first in (0..all).step_by(self.blocking.chunk) {
            let words = first..all.min(first + self.blocking.chunk);
            let filter_len = self.extents.minimal_filter(&self.blocking.packing, words.len());
            for (block, points) in blocks.clone().zip(filters.chunks_exact_mut(filter_len)) {
                self.transform_filter(block, words.clone(), staged, points);
            }
            for slab in slabs.clone() {
                self.stage(slab, words.clone(), slab == slabs.start, plane, staged);
                let mut next = slabs.contains(&(slab + 1)).then(|| self.window(slab + 1));
                for (block, filter) in blocks.clone().zip(filters.chunks_exact(filter_len)) {
                    let next = next.take();
                    let words = words.clone();
                    self.run_block(Part { block, slab_group, slab, words, staged, filter, sums, next });
                }
            }
        }
    }

    /// Packs an output block 16 input channels at a time, as for the direct sum, and transforms its planes of taps.
    fn transform_filter(&self, block: usize, words: Range<usize>, packed: &mut [f32], points: &mut [f32]) {
        let (packing, kd) = (&self.blocking.packing, self.extents.kernel[0]);
        let width = packing.block_width(block);
        for first in words.clone().step_by(BLOCK) {
            let some = first..words.end.min(first + BLOCK);
            packing.pack(self.isa, self.filter, block, some.clone(), packed);
            let to = &mut points[(first - words.start) * kd * width..];
            let (planes, row, point_stride) = (kd, some.len() * width, words.len() * kd * width);
            dispatch(self.isa, FilterPoints { packed, planes, row, points: to, point_stride });
        }
    }

    /// What a slab reads.
    fn window(&self, slab: usize) -> Window {
        let (sample, start, [planes, rows, columns]) = self.extents.minimal_slab_at(self.blocking, slab);
        let start = [start[0], 2 * start[1], 2 * start[2]];
        let extents = [planes + self.extents.kernel[0] - 1, 2 * rows + 2, 2 * columns + 2];
        let pad = self.extents.pad_before;
        Window { sample, start: std::array::from_fn(|axis| start[axis] as isize - pad[axis] as isize), extents }
    }

    /// Transforms a slab's input: `[point][channel block][plane][row of tiles][tile][16]`. Of a task's first slab, which nothing has
    /// fetched, each plane is fetched while the one before it is transformed.
    fn stage(&self, slab: usize, channels: Range<usize>, is_first: bool, plane: &mut [f32], staged: &mut [f32]) {
        let (_, _, [_, rows, columns]) = self.extents.minimal_slab_at(self.blocking, slab);
        let window = self.window(slab);
        let [planes, ..] = window.extents;
        let blocks = channels.len().div_ceil(BLOCK);
        let block_stride = planes * rows * columns * BLOCK;
        for d in 0..planes {
            if is_first && d + 1 < planes {
                let next = window.planes(d + 1..d + 2);
                self.source.prefetch(&next, 0..next.extents[1], &channels);
            }
            let window = window.planes(d..d + 1);
            let word = (self.isa, Word::Single);
            self.source.stage(word, window, channels.clone(), BLOCK, channels.len(), plane);
            let points = InputPoints {
                plane,
                blocks,
                tiles: [rows, columns],
                points: &mut staged[d * rows * columns * BLOCK..],
                strides: [blocks * block_stride, block_stride, columns * BLOCK, BLOCK],
            };
            dispatch(self.isa, points);
        }
    }

    /// Address of a block's sums of one slab group; null if nobody asked. The squares lie `channels_out` behind.
    fn statistics(&self, slab_group: usize, block: usize) -> *mut f32 {
        let element = slab_group * 2 * self.extents.channels_out + block * self.blocking.packing.width;
        self.partials.map_or(std::ptr::null_mut(), |partials| partials.pointer().wrapping_add(element))
    }

    fn clear_statistics(&self, slab_group: usize, block: usize) {
        let (sums, packing) = (self.statistics(slab_group, block), &self.blocking.packing);
        if sums.is_null() {
            return;
        }
        let valid = packing.width.min(self.extents.channels_out - block * packing.width);
        for half in 0..2 {
            // SAFETY: these channels of this slab group lie inside the partial sums and belong to this task alone.
            unsafe { sums.add(half * self.extents.channels_out).write_bytes(0, valid) };
        }
    }

    /// The slab's line of tiles for one output block and one chunk of input channels.
    fn run_block(&self, part: Part<'_>) {
        let Part { block, slab_group, slab, words, staged, filter, sums, next } = part;
        let (extents, packing) = (self.extents, &self.blocking.packing);
        let (sample, start, [planes, rows, columns]) = extents.minimal_slab_at(self.blocking, slab);
        let kd = extents.kernel[0];
        let block_stride = (planes + kd - 1) * rows * columns * BLOCK;
        let point_stride = words.len().div_ceil(BLOCK) * block_stride;
        let last = words.end == extents.channels_in;
        let Choice { shape, function, half, .. } = self.blocking.choice;
        let (width, first_out) = (packing.block_width(block), block * packing.width);
        let function = half.filter(|_| width < packing.width).unwrap_or(function);
        let channels_out = width.min(extents.channels_out - first_out);
        let positions = planes * rows * columns;
        let filter_stride = kd * words.len() * width;
        assert!(
            filter.len() >= POINTS * filter_stride && sums.len() >= POINTS * shape.columns * width,
            "room for all points"
        );
        let [sn, sd, sh, sw] = self.strides;
        let to = sample * sn + start[0] * sd + 2 * start[1] * sh + 2 * start[2] * sw + first_out;
        let bias = match self.bias {
            Some(bias) if last => bias[first_out..][..channels_out].as_ptr(),
            _ => std::ptr::null(),
        };
        for first in (0..positions).step_by(shape.columns) {
            let count = shape.columns.min(positions - first);
            if let Some(window) = &next {
                let rows = |position: usize| position * window.extents[0] * window.extents[1] / positions;
                self.source.prefetch(window, rows(first)..rows(first + count), &words);
            }
            for point in 0..POINTS {
                let input = &staged[point * point_stride + first * BLOCK..];
                let tile = Tile {
                    input: input.as_ptr(),
                    block_stride,
                    plane_stride: rows * columns * BLOCK,
                    row_stride: 0,
                    kernel: [kd, 1, 1],
                    word: Word::Single,
                    words: words.len(),
                    filter: filter[point * filter_stride..].as_ptr(),
                    output: sums[point * shape.columns * width..].as_mut_ptr(),
                    narrow: false,
                    output_row_stride: 0,
                    output_stride: width,
                    rows: 1,
                    columns: count,
                    channels_out: width,
                    accumulate: false,
                    bias: std::ptr::null(),
                    relu: false,
                    statistics: std::ptr::null_mut(),
                    statistics_stride: 0,
                };
                // SAFETY: `Threads` checked the instruction set. The staged points hold the slab's tiles with the halo of planes, and
                // behind the last one there is room for a whole register tile; `filter` and `sums` hold all points, as asserted.
                unsafe { function(self.isa, &tile) };
            }
            let outputs = Outputs {
                sums,
                point_stride: shape.columns * width,
                width,
                positions: first..first + count,
                tiles: [rows, columns],
                // The slab's first voxel exists, so this stays inside the output.
                output: self.output.pointer().wrapping_add(to),
                strides: [sd, sh, sw],
                extents: [extents.output[1] - 2 * start[1], extents.output[2] - 2 * start[2]],
                channels: channels_out,
                accumulate: words.start > 0,
                bias,
                relu: self.relu && last,
                statistics: if last { self.statistics(slab_group, block) } else { std::ptr::null_mut() },
                statistics_stride: extents.channels_out,
            };
            // Voxels and channels that exist lie inside the output, whose length was asserted against these strides, and, like the
            // sums of this block and slab group, belong to this task alone, because tasks partition slabs and output blocks.
            dispatch(self.isa, outputs);
        }
    }
}
