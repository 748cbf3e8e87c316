//! fprop and dgrad: a correlation of a staged source with a packed filter, and how it is cut into tasks.
//!
//! A task owns some output-channel blocks of some slabs of output voxels. Its filter and a slab stay in the second-level cache: many
//! input channels are taken in chunks, so that both fit. Tasks that pack for themselves read a large filter exactly once from
//! memory and write no copy of it back.

use super::{
    Epilogue,
    correlate_task::Task,
    pack::{FilterLayout, Packing},
    source::{PHASES, Source},
    stage::BLOCK,
    tile_shapes::{Choice, HALF_LANES, choose},
    word::Word,
};
use crate::{
    cpu::{
        Element,
        simd::{ALIGNMENT, Isa, aligned},
        threads::{SharedMut, Threads},
    },
    tensor::DType,
};

/// Elements of a staged slab: 320 KiB, so that it shares a 1 MiB second-level cache with a filter block.
pub(super) const SLAB_LEN: usize = 80 * 1024;

/// What a slab costs besides, in staged elements: without a halo, slabs of any size would stage the same.
pub(super) const SLAB_COST: usize = 1024;

/// Elements of one task's packed filter: 448 KiB.
pub(super) const FILTER_LEN: usize = 112 * 1024;

/// Tasks to aim for: enough to keep many cores busy to the end.
pub(super) const TASKS: usize = 64;

/// Most voxels of one task: its fp32 sums of the output stay short.
pub(super) const LONGEST_SUM: usize = 32 * 1024;

/// Voxels below which packing the filter for a task would cost more than a few percent of the task.
pub(super) const TASK_VOXELS: usize = 512;

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
pub(super) struct Blocking {
    pub choice: Choice,
    pub packing: Packing,
    /// Output planes, rows and voxels of a slab.
    pub slab: [usize; 3],
    /// Words of input channels staged and packed at a time.
    pub chunk: usize,
    /// Output blocks, over all groups, of one task.
    pub blocks_per_task: usize,
    /// Tasks along the slabs.
    pub slab_groups: usize,
}

impl Blocking {
    /// Results of a register tile.
    pub(super) fn tile_len(&self) -> usize {
        self.choice.shape.rows * self.choice.shape.columns * self.packing.width
    }
}

impl Extents {
    /// Workspace elements that [`Extents::run`] needs.
    pub(super) fn workspace(&self, threads: usize) -> usize {
        let need = |isa| {
            if self.is_minimal() {
                return self.minimal_workspace(threads, isa);
            }
            let blocking = self.blocking(isa);
            self.partials_len(&blocking) + ALIGNMENT + threads * self.scratch_len(&blocking).iter().sum::<usize>()
        };
        Isa::ALL.into_iter().filter(|isa| isa.is_available()).map(need).max().unwrap_or(0)
    }

    /// Taps of the kernel.
    pub(super) fn taps(&self) -> usize {
        self.kernel.iter().product()
    }

    fn blocking(&self, isa: Isa) -> Blocking {
        let [_, rows, columns] = self.output;
        let word = Word::of(self.dtype, isa);
        let words = self.channels_in.div_ceil(word.elements());
        let choice = choose((isa, word), [rows, columns], self.kernel[2], words, self.channels_out);
        let shape = choice.shape;
        let packing = Packing {
            word,
            groups: self.groups,
            channels_out: self.channels_out,
            width: shape.width(isa),
            last: choice.half.map(|_| HALF_LANES),
            taps: shape.taps,
            staged_block: choice.staged_block,
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
    pub(super) fn keeps_sums(&self, blocking: &Blocking) -> bool {
        self.dtype != DType::F32 && self.words(blocking) > blocking.chunk
    }

    /// Words of all input channels.
    pub(super) fn words(&self, blocking: &Blocking) -> usize {
        self.channels_in.div_ceil(blocking.packing.word.elements())
    }

    /// Sums of all register tiles of a slab and an output block.
    pub(super) fn slab_sums(&self, blocking: &Blocking) -> usize {
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
                    let cost = slabs * (staged + SLAB_COST) * scarce;
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
    pub(super) fn slabs(&self, blocking: &Blocking) -> [usize; 4] {
        let along = |axis: usize| self.output[axis].div_ceil(blocking.slab[axis]);
        [self.batch, along(0), along(1), along(2)]
    }

    /// Planes, rows and voxels of a staged slab.
    pub(super) fn staged_extents(&self, blocking: &Blocking) -> [usize; 3] {
        std::array::from_fn(|axis| blocking.slab[axis] + self.kernel[axis] - 1)
    }

    fn staged_len(&self, blocking: &Blocking) -> usize {
        let voxels = self.staged_extents(blocking).iter().product::<usize>();
        voxels * blocking.chunk.min(self.words(blocking).next_multiple_of(blocking.packing.staged_block))
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
        if self.is_minimal() {
            self.run_minimal(threads, source, filter, target, workspace);
            return;
        }
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
    pub(super) fn add_partials(&self, partials: &[f32], totals: [&mut [f64]; 2]) {
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
