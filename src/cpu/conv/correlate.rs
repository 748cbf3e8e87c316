//! fprop and dgrad: a correlation of a staged source with a packed filter.
//!
//! A task owns some output-channel blocks of some slabs of output voxels. It packs its part of the filter once; then, slab by slab, it stages
//! the input with its halo and walks the register tiles. Filter and slab stay in the second-level cache: many
//! input channels are taken in chunks, so that both fit. Tasks that pack for themselves read a large filter exactly once from
//! memory and write no copy of it back.

use std::ops::Range;

use super::{
    Epilogue,
    narrow::Narrow,
    pack::{FilterLayout, Packing},
    source::{PHASES, Source, Window},
    stage::BLOCK,
    tile::{Choice, HALF_LANES, Tile, choose},
    word::Word,
};
use crate::{
    cpu::{
        Element,
        simd::{ALIGNMENT, Isa, aligned, dispatch},
        threads::{SharedMut, Threads},
    },
    tensor::DType,
};

/// Elements of a staged slab: 320 KiB, so that it shares a 1 MiB second-level cache with a filter block.
const SLAB_LEN: usize = 80 * 1024;

/// Elements of one task's packed filter: 448 KiB.
const FILTER_LEN: usize = 112 * 1024;

/// Tasks to aim for: enough to keep many cores busy to the end.
const TASKS: usize = 64;

/// Most voxels of one task: its fp32 sums of the output stay short.
const LONGEST_SUM: usize = 32 * 1024;

/// Voxels below which packing the filter for a task would cost more than a few percent of the task.
const TASK_VOXELS: usize = 512;

/// Elements of one task's fp32 sums where results have 16 bits and the input channels come in several chunks: 512 KiB.
const SUMS_LEN: usize = 128 * 1024;

/// Extents of a correlation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extents {
    /// The type of source, filter and output.
    pub dtype: DType,
    pub batch: usize,
    pub output: [usize; 3],
    pub kernel: [usize; 3],
    pub pad_before: [usize; 3],
    pub channels_in: usize,
    /// Of one group.
    pub channels_out: usize,
    /// Filters applied to the same source, each with its own place in the output.
    pub groups: usize,
}

/// Where results go.
pub(super) struct Target<'a, E> {
    pub output: &'a mut [E],
    /// Elements from one sample, plane, row and voxel to the next.
    pub strides: [usize; 4],
    /// First element of each group.
    pub group_offsets: [usize; PHASES],
    pub epilogue: Epilogue<'a>,
}

/// How a correlation is cut. A function of its extents and the instruction set alone.
struct Blocking {
    choice: Choice,
    packing: Packing,
    /// Output planes, rows and voxels of a slab.
    slab: [usize; 3],
    /// Words of input channels staged and packed at a time.
    chunk: usize,
    /// Output blocks, over all groups, of one task.
    blocks_per_task: usize,
    /// Tasks along the slabs.
    slab_groups: usize,
}

impl Blocking {
    /// Results of a register tile.
    fn tile_len(&self) -> usize {
        self.choice.shape.rows * self.choice.shape.columns * self.packing.width
    }
}

impl Extents {
    /// Workspace elements that [`Extents::run`] needs.
    pub(super) fn workspace(&self, threads: usize) -> usize {
        let need = |isa| {
            let blocking = self.blocking(isa);
            self.partials_len(&blocking) + ALIGNMENT + threads * self.scratch_len(&blocking).iter().sum::<usize>()
        };
        Isa::ALL.into_iter().filter(|isa| isa.is_available()).map(need).max().unwrap_or(0)
    }

    fn taps(&self) -> usize {
        self.kernel.iter().product()
    }

    fn blocking(&self, isa: Isa) -> Blocking {
        let [_, rows, columns] = self.output;
        let word = Word::of(self.dtype, isa);
        let words = self.channels_in.div_ceil(word.elements());
        let choice = choose(isa, [rows, columns], self.kernel[2], words, self.channels_out);
        let shape = choice.shape;
        let packing = Packing {
            word,
            groups: self.groups,
            channels_out: self.channels_out,
            width: shape.width(isa),
            last: choice.half.map(|_| HALF_LANES),
            taps: shape.taps,
            dot: shape.dot,
        };
        let chunks = packing.len(self.taps(), words).div_ceil(FILTER_LEN).max(1);
        let chunk = words.div_ceil(chunks).next_multiple_of(BLOCK);
        let mut blocking = Blocking { choice, packing, slab: [0; 3], chunk, blocks_per_task: 1, slab_groups: 1 };
        blocking.slab = self.choose_slab(&blocking);
        let slabs = self.slabs(&blocking).iter().product::<usize>();
        let blocks = packing.groups * packing.blocks();
        let voxels = self.batch * self.output.iter().product::<usize>();
        // As many blocks per task as fit the cache, unless that leaves too few tasks.
        let most = (FILTER_LEN / packing.len(self.taps(), chunk.min(words))).clamp(1, blocks);
        let groups = blocks.div_ceil(most).max(TASKS.div_ceil(slabs).min(blocks));
        blocking.blocks_per_task = blocks.div_ceil(groups);
        let block_groups = blocks.div_ceil(blocking.blocks_per_task);
        blocking.slab_groups =
            TASKS.div_ceil(block_groups).min(voxels / TASK_VOXELS).max(voxels / LONGEST_SUM).clamp(1, slabs);
        if self.keeps_sums(&blocking) {
            let fit = (SUMS_LEN / (blocking.blocks_per_task * self.slab_sums(&blocking))).clamp(1, slabs);
            blocking.slab_groups = blocking.slab_groups.max(slabs.div_ceil(fit));
        }
        blocking
    }

    /// Whether results wait as fp32 sums for later chunks: with 16 bits they would be rounded after each.
    fn keeps_sums(&self, blocking: &Blocking) -> bool {
        self.dtype != DType::F32 && self.words(blocking) > blocking.chunk
    }

    /// Words of all input channels.
    fn words(&self, blocking: &Blocking) -> usize {
        self.channels_in.div_ceil(blocking.packing.word.elements())
    }

    /// Sums of all register tiles of a slab and an output block.
    fn slab_sums(&self, blocking: &Blocking) -> usize {
        blocking.slab.iter().product::<usize>() * blocking.packing.width
    }

    /// Elements of a worker's fp32 sums: of a tile, or of all tiles of a task. None where results are fp32.
    fn sums_len(&self, blocking: &Blocking) -> usize {
        if self.keeps_sums(blocking) {
            let slabs = self.slabs(blocking).iter().product::<usize>().div_ceil(blocking.slab_groups);
            return slabs * blocking.blocks_per_task * self.slab_sums(blocking);
        }
        if self.dtype == DType::F32 { 0 } else { blocking.tile_len() }
    }

    /// The slab that stages least for the whole volume, among those that fit the cache and leave enough tasks.
    fn choose_slab(&self, blocking: &Blocking) -> [usize; 3] {
        let (rows, columns) = (blocking.choice.shape.rows, blocking.choice.shape.columns);
        let tiles = [self.output[0], self.output[1].div_ceil(rows), self.output[2].div_ceil(columns)];
        let blocks = blocking.packing.groups * blocking.packing.blocks();
        let mut best = ([1, rows, columns], usize::MAX);
        for planes in [1, 2, 3, 4, 6, 8].into_iter().filter(|&planes| planes <= tiles[0]) {
            for row_tiles in [1, 2, 3, 4, 5, 6, 8, 12, 16, 24].into_iter().filter(|&count| count <= tiles[1]) {
                for parts in 1..=tiles[2] {
                    let slab = [planes, row_tiles * rows, tiles[2].div_ceil(parts) * columns];
                    let candidate = Blocking { slab, ..*blocking };
                    let slabs = self.slabs(&candidate).iter().product::<usize>();
                    let staged = self.staged_len(&candidate);
                    if staged > SLAB_LEN {
                        continue;
                    }
                    // Too few tasks cost more than a larger halo.
                    let scarce = (TASKS / 4).div_ceil(slabs * blocks).max(1);
                    let cost = slabs * staged * scarce;
                    if cost < best.1 {
                        best = (slab, cost);
                    }
                    break;
                }
            }
        }
        best.0
    }

    /// Slabs along each axis.
    fn slabs(&self, blocking: &Blocking) -> [usize; 4] {
        let along = |axis: usize| self.output[axis].div_ceil(blocking.slab[axis]);
        [self.batch, along(0), along(1), along(2)]
    }

    /// Planes, rows and voxels of a staged slab.
    fn staged_extents(&self, blocking: &Blocking) -> [usize; 3] {
        std::array::from_fn(|axis| blocking.slab[axis] + self.kernel[axis] - 1)
    }

    fn staged_len(&self, blocking: &Blocking) -> usize {
        let voxels = self.staged_extents(blocking).iter().product::<usize>();
        voxels * blocking.chunk.min(self.words(blocking).next_multiple_of(BLOCK))
    }

    /// Elements of the slab groups' sums: `[slab group][sum, squares][group][output channel]`.
    fn partials_len(&self, blocking: &Blocking) -> usize {
        blocking.slab_groups * 2 * self.groups * self.channels_out
    }

    /// Elements of a worker's packed filter, staged slab and sums.
    fn scratch_len(&self, blocking: &Blocking) -> [usize; 3] {
        let packed = blocking.packing.len(self.taps(), blocking.chunk.min(self.words(blocking)));
        [blocking.blocks_per_task * packed, self.staged_len(blocking), self.sums_len(blocking)]
            .map(|len| len.next_multiple_of(ALIGNMENT))
    }

    /// Computes the correlation of `source` with a filter into `target`.
    pub(super) fn run<E: Element>(
        &self,
        threads: &Threads,
        source: &Source<'_, E>,
        filter: (&[E], &FilterLayout),
        target: Target<'_, E>,
        workspace: &mut [f32],
    ) {
        assert_eq!(self.dtype, E::DTYPE, "type of the tensors");
        let blocking = self.blocking(threads.isa());
        let slabs = self.slabs(&blocking).iter().product::<usize>();
        let blocks = blocking.packing.groups * blocking.packing.blocks();
        let block_groups = blocks.div_ceil(blocking.blocks_per_task);
        let scratch_len = self.scratch_len(&blocking);
        let output = SharedMut::new(target.output);
        let (partials, workspace) = workspace.split_at_mut(self.partials_len(&blocking));
        let Epilogue { bias, relu, statistics } = target.epilogue;
        let shared_partials = SharedMut::new(partials);
        let task = Task {
            extents: self,
            blocking: &blocking,
            isa: threads.isa(),
            source,
            filter,
            output: &output,
            strides: target.strides,
            group_offsets: target.group_offsets,
            bias,
            relu,
            partials: statistics.is_some().then_some(&shared_partials),
        };
        let tasks = blocking.slab_groups * block_groups;
        threads.run_with(tasks, aligned(workspace), scratch_len.iter().sum(), |index, scratch| {
            let (slab_group, block_group) = (index / block_groups, index % block_groups);
            let first = block_group * blocking.blocks_per_task;
            let blocks = first..blocks.min(first + blocking.blocks_per_task);
            let cut = |group: usize| group * slabs / blocking.slab_groups;
            let (packed, scratch) = scratch.split_at_mut(scratch_len[0]);
            let (staged, sums) = scratch.split_at_mut(scratch_len[1]);
            task.run(blocks, slab_group, cut(slab_group)..cut(slab_group + 1), [packed, staged, sums]);
        });
        if let Some([sums, squares]) = statistics {
            self.add_partials(partials, [sums, squares]);
        }
    }

    /// Adds the slab groups' sums in their order, in double precision. Channels of all groups fall on the same totals.
    fn add_partials(&self, partials: &[f32], totals: [&mut [f64]; 2]) {
        for (half, total) in totals.into_iter().enumerate() {
            let (channels, count) = (self.groups * self.channels_out, total.len());
            total.fill(0.0);
            for group in partials.chunks_exact(2 * channels) {
                for (channel, &sum) in group[half * channels..][..channels].iter().enumerate() {
                    total[channel % count] += f64::from(sum);
                }
            }
        }
    }
}

/// What all tasks share.
struct Task<'a, E> {
    extents: &'a Extents,
    blocking: &'a Blocking,
    isa: Isa,
    source: &'a Source<'a, E>,
    filter: (&'a [E], &'a FilterLayout),
    output: &'a SharedMut<E>,
    strides: [usize; 4],
    group_offsets: [usize; PHASES],
    bias: Option<&'a [f32]>,
    relu: bool,
    /// Where sums of the output go.
    partials: Option<&'a SharedMut<f32>>,
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
}

impl<E: Element> Task<'_, E> {
    fn run(
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
                let window = Window {
                    sample: slab.sample,
                    start: std::array::from_fn(|axis| slab.start[axis] as isize - extents.pad_before[axis] as isize),
                    extents: extents.staged_extents(self.blocking),
                };
                // A dot product reads whole blocks; else only the second element of a last word may not exist.
                let defined = elements * if packing.dot { words.len().next_multiple_of(BLOCK) } else { words.len() };
                self.source.stage((self.isa, packing.word), window, channels.clone(), BLOCK, defined, staged);
                for (block, filter) in blocks.clone().zip(packed.chunks_exact(packed_len)) {
                    let place = (index - slabs.start) * blocks.len() + block - blocks.start;
                    let sums = &mut sums[place * kept..];
                    let words = words.clone();
                    self.run_block(Part { block, slab_group, slab, words, staged, filter, sums });
                }
            }
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
        let Part { block, slab_group, slab, words, staged, filter, sums } = part;
        let (extents, packing, shape) = (self.extents, &self.blocking.packing, self.blocking.choice.shape);
        let (group, first_out) = self.first_channel(block);
        let [_, staged_rows, width] = extents.staged_extents(self.blocking);
        let block_stride = width * BLOCK;
        let row_stride = words.len().div_ceil(BLOCK) * block_stride;
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
        for d in slab.start[0]..end[0] {
            for h in (slab.start[1]..end[1]).step_by(shape.rows) {
                for w in (slab.start[2]..end[2]).step_by(shape.columns) {
                    let staged_row = (d - slab.start[0]) * staged_rows + h - slab.start[1];
                    let input = &staged[staged_row * row_stride + (w - slab.start[2]) * BLOCK..];
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
