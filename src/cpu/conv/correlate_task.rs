//! One task of fprop and dgrad: it packs its part of the filter once; then, slab by slab, it stages the input with its halo and walks
//! the register tiles.

#![allow(unsafe_code)]

use std::ops::Range;

use super::{
    correlate::{Blocking, Extents},
    narrow::Narrow,
    pack::FilterLayout,
    source::{PHASES, Source, Window},
    tile::Tile,
    tile_shapes::Choice,
    word::Word,
};
use crate::{
    cpu::{Element, Isa, simd::dispatch, threads::SharedMut},
    tensor::DType,
};

/// What all tasks share.
pub(super) struct Task<'a, E> {
    pub extents: &'a Extents,
    pub blocking: &'a Blocking,
    pub isa: Isa,
    pub source: &'a Source<'a, E>,
    pub filter: (&'a [E], &'a FilterLayout),
    pub output: &'a SharedMut<E>,
    pub strides: [usize; 4],
    pub group_offsets: [usize; PHASES],
    pub bias: Option<&'a [f32]>,
    pub relu: bool,
    /// Where sums of the output go.
    pub partials: Option<&'a SharedMut<f32>>,
}

/// A slab's sample and its first output plane, row and voxel.
#[derive(Clone, Copy)]
struct Slab {
    sample: usize,
    start: [usize; 3],
}

/// One output block, slab and chunk of a task's work.
struct Part<'a> {
    block: usize,
    slab_group: usize,
    slab: Slab,
    words: Range<usize>,
    staged: &'a [f32],
    filter: &'a [f32],
    /// Where the fp32 sums of this block and slab are kept from chunk to chunk, or those of one tile.
    sums: &'a mut [f32],
    /// What will be staged next, to be fetched meanwhile.
    next: Option<(Window, Range<usize>)>,
}

impl<E: Element> Task<'_, E> {
    /// Computes some output blocks of some slabs.
    pub(super) fn run(
        &self,
        blocks: Range<usize>,
        slab_group: usize,
        slabs: Range<usize>,
        [packed, staged, sums]: [&mut [f32]; 3],
    ) {
        let (extents, packing) = (self.extents, &self.blocking.packing);
        let elements = packing.word.elements();
        let kept = if extents.keeps_sums(self.blocking) { extents.slab_sums(self.blocking) } else { 0 };
        for block in blocks.clone() {
            self.clear_statistics(slab_group, block);
        }
        let all = extents.words(self.blocking);
        for first in (0..all).step_by(self.blocking.chunk) {
            let words = first..all.min(first + self.blocking.chunk);
            let channels = first * elements..extents.channels_in.min(words.end * elements);
            let packed_len = packing.len(extents.taps(), words.len());
            for (block, part) in blocks.clone().zip(packed.chunks_exact_mut(packed_len)) {
                packing.pack(self.isa, self.filter, block, channels.clone(), part);
            }
            for index in slabs.clone() {
                let slab = self.slab(index);
                // A dot product reads whole blocks; else only the second element of a last word may not exist.
                let defined = elements
                    * if packing.dot { words.len().next_multiple_of(packing.staged_block) } else { words.len() };
                let word = (self.isa, packing.word);
                let (window, block) = (self.window(slab), packing.staged_block);
                // Of a task's first slab, which nothing has fetched, each plane is fetched while the one before it is staged.
                let [planes, rows, columns] = window.extents;
                let plane_len = rows * words.len().div_ceil(block) * block * columns;
                let at_once = if index == slabs.start { 1 } else { planes };
                for d in (0..planes).step_by(at_once) {
                    if at_once == 1 && d + 1 < planes {
                        self.source.prefetch(&window.planes(d + 1..d + 2), 0..rows, &channels);
                    }
                    let (window, staged) = (window.planes(d..d + at_once), &mut staged[d * plane_len..]);
                    self.source.stage(word, window, channels.clone(), block, defined, staged);
                }
                let mut next = slabs.contains(&(index + 1)).then(|| self.window(self.slab(index + 1)));
                for (block, filter) in blocks.clone().zip(packed.chunks_exact(packed_len)) {
                    let place = (index - slabs.start) * blocks.len() + block - blocks.start;
                    let sums = &mut sums[place * kept..];
                    let next = next.take().map(|window| (window, channels.clone()));
                    self.run_block(Part { block, slab_group, slab, words: words.clone(), staged, filter, sums, next });
                }
            }
        }
    }

    /// What a slab reads.
    fn window(&self, slab: Slab) -> Window {
        Window {
            sample: slab.sample,
            start: std::array::from_fn(|axis| slab.start[axis] as isize - self.extents.pad_before[axis] as isize),
            extents: self.extents.staged_extents(self.blocking),
        }
    }

    /// Group and first output channel of a block.
    fn first_channel(&self, block: usize) -> (usize, usize) {
        let packing = &self.blocking.packing;
        (block / packing.blocks(), block % packing.blocks() * packing.width)
    }

    /// Address of a block's sums of one slab group; null if nobody asked. The squares lie `groups * channels_out` behind.
    fn statistics(&self, slab_group: usize, block: usize) -> *mut f32 {
        let (group, channel) = self.first_channel(block);
        let channels = self.extents.groups * self.extents.channels_out;
        let element = slab_group * 2 * channels + group * self.extents.channels_out + channel;
        self.partials.map_or(std::ptr::null_mut(), |partials| partials.pointer().wrapping_add(element))
    }

    fn clear_statistics(&self, slab_group: usize, block: usize) {
        let sums = self.statistics(slab_group, block);
        if sums.is_null() {
            return;
        }
        let valid = self.blocking.packing.width.min(self.extents.channels_out - self.first_channel(block).1);
        for half in 0..2 {
            // SAFETY: these channels of this slab group lie inside the partial sums and belong to this task alone.
            unsafe { sums.add(half * self.extents.groups * self.extents.channels_out).write_bytes(0, valid) };
        }
    }

    fn slab(&self, index: usize) -> Slab {
        let [_, nd, nh, nw] = self.extents.slabs(self.blocking);
        let at = [index / (nh * nw) % nd, index / nw % nh, index % nw];
        Slab { sample: index / (nd * nh * nw), start: std::array::from_fn(|axis| at[axis] * self.blocking.slab[axis]) }
    }

    /// All register tiles of the slab for one output block and one chunk of input channels.
    fn run_block(&self, part: Part<'_>) {
        let Part { block, slab_group, slab, words, staged, filter, sums, next } = part;
        let (extents, packing, shape) = (self.extents, &self.blocking.packing, self.blocking.choice.shape);
        let (group, first_out) = self.first_channel(block);
        let [_, staged_rows, width] = extents.staged_extents(self.blocking);
        let block_stride = width * packing.staged_block;
        let row_stride = words.len().div_ceil(packing.staged_block) * block_stride;
        let last = words.end == extents.words(self.blocking);
        let keeps_sums = extents.keeps_sums(self.blocking);
        // The tile itself rounds its results, if it has all of their sums.
        let narrow = packing.word == Word::Pair && !keeps_sums && !packing.dot;
        let mut first_sum = 0;
        let end: [usize; 3] =
            std::array::from_fn(|axis| extents.output[axis].min(slab.start[axis] + self.blocking.slab[axis]));
        let block_width = packing.block_width(block);
        let channels_out = block_width.min(extents.channels_out - first_out);
        let Choice { function, half, .. } = self.blocking.choice;
        let function = half.filter(|_| block_width < packing.width).unwrap_or(function);
        let bias = match self.bias {
            Some(bias) if last => bias[first_out..].as_ptr(),
            _ => std::ptr::null(),
        };
        let relu = self.relu && last;
        let statistics = if last { self.statistics(slab_group, block) } else { std::ptr::null_mut() };
        let statistics_stride = extents.groups * extents.channels_out;
        let tile_rows = (end[0] - slab.start[0]) * (end[1] - slab.start[1]).div_ceil(shape.rows);
        let mut tile_row = 0;
        for d in slab.start[0]..end[0] {
            for h in (slab.start[1]..end[1]).step_by(shape.rows) {
                if let Some((window, channels)) = &next {
                    let rows = |tile_row: usize| tile_row * window.extents[0] * window.extents[1] / tile_rows;
                    self.source.prefetch(window, rows(tile_row)..rows(tile_row + 1), channels);
                    tile_row += 1;
                }
                for w in (slab.start[2]..end[2]).step_by(shape.columns) {
                    let staged_row = (d - slab.start[0]) * staged_rows + h - slab.start[1];
                    let input = &staged[staged_row * row_stride + (w - slab.start[2]) * packing.staged_block..];
                    let [sn, sd, sh, sw] = self.strides;
                    let to = self.group_offsets[group] + slab.sample * sn + d * sd + h * sh + w * sw + first_out;
                    // The tile's first voxel exists, so this stays inside the output.
                    let output = self.output.pointer().wrapping_add(to);
                    let tile = Tile {
                        input: input.as_ptr(),
                        block_stride,
                        plane_stride: staged_rows * row_stride,
                        row_stride,
                        kernel: extents.kernel,
                        word: packing.word,
                        words: words.len(),
                        filter: filter.as_ptr(),
                        output: output.cast(),
                        narrow,
                        output_row_stride: sh,
                        output_stride: sw,
                        rows: shape.rows.min(end[1] - h),
                        columns: shape.columns.min(end[2] - w),
                        channels_out,
                        accumulate: words.start > 0,
                        bias,
                        relu,
                        statistics,
                        statistics_stride,
                    };
                    if E::DTYPE == DType::F32 || narrow {
                        // SAFETY: `Threads` checked the instruction set. The staged slab spans whole register tiles and their
                        // halo; `filter` holds this block's chunk by the packing; the bias has `channels_out` elements (asserted
                        // at the border). Voxels and channels of the tile that exist lie inside the output (its length
                        // was asserted against these strides), whose elements are fp32 or, if `narrow`, bfloat16, and, like the sums
                        // of this block and slab group, belong to this task alone, because tasks partition slabs and output blocks.
                        unsafe { function(self.isa, &tile) };
                        continue;
                    }
                    let sums = &mut sums[first_sum..][..self.blocking.tile_len()];
                    let whole = Tile {
                        output: sums.as_mut_ptr(),
                        narrow: false,
                        output_row_stride: shape.columns * block_width,
                        output_stride: block_width,
                        rows: shape.rows,
                        columns: shape.columns,
                        channels_out: block_width,
                        bias: std::ptr::null(),
                        relu: false,
                        statistics: std::ptr::null_mut(),
                        ..tile
                    };
                    // SAFETY: as above, but for the output: all of the tile's sums, which are there.
                    unsafe { function(self.isa, &whole) };
                    if keeps_sums {
                        first_sum += sums.len();
                    }
                    if last {
                        let narrow = Narrow {
                            sums,
                            columns: shape.columns,
                            width: block_width,
                            output,
                            output_row_stride: sh,
                            output_stride: sw,
                            extents: [tile.rows, tile.columns, channels_out],
                            bias,
                            relu,
                            statistics,
                            statistics_stride,
                        };
                        dispatch(self.isa, narrow);
                    }
                }
            }
        }
    }
}
