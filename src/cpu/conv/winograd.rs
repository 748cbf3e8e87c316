//! fprop and dgrad in fp32 by minimal filtering: F(2x2, 3x3) over rows and voxels, the taps along the planes as they are.
//!
//! Two by two outputs of a plane need four by four inputs, and 36 products of each plane of taps. Transformed, they need 16:
//!
//! ```text
//! inputs   B^T d B,  B^T = | 1  0 -1  0 |    filter   G g G^T,  G = |  1    0    0  |    outputs  A^T m A,  A^T = | 1 1  1  0 |
//!                          | 0  1  1  0 |                           | 1/2  1/2  1/2 |                             | 0 1 -1 -1 |
//!                          | 0 -1  1  0 |                           | 1/2 -1/2  1/2 |
//!                          | 0  1  0 -1 |                           |  0    0    1  |
//! ```
//!
//! Each of the 16 points is a correlation of its own with a kernel of `[kd, 1, 1]`. Nothing overlaps along rows and voxels any
//! more, so a slab's tiles are positions in one line, any number of them fills a register tile, and a tap along the planes is a constant
//! offset. Sums over `kd * ci` terms in place of `9 * kd * ci` round less often: the errors, measured against f64 with inputs of any mean,
//! are 0.5 to 0.9 times those of the plain loops from 8 channels on, and up to 1.3 times with a single one. (Of F(4, 3) along the rows
//! alone they were 2 to 3 times.)

use super::{
    Epilogue,
    correlate::{Extents, FILTER_LEN, LONGEST_SUM, SLAB_COST, SLAB_LEN, TASK_VOXELS, TASKS, Target},
    pack::{FilterLayout, Packing},
    source::Source,
    stage::BLOCK,
    tile_shapes::{Choice, HALF_LANES, choose},
    winograd_task::Task,
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

/// Products of one tile, one plane of taps, one input channel and one filter.
pub(super) const POINTS: usize = 16;

/// How a minimal correlation is cut. A function of its extents and the instruction set alone.
pub(super) struct Blocking {
    pub choice: Choice,
    pub packing: Packing,
    /// Output planes, and pairs of rows and of voxels, of a slab.
    pub slab: [usize; 3],
    /// Input channels staged and packed at a time.
    pub chunk: usize,
    pub blocks_per_task: usize,
    pub slab_groups: usize,
}

/// Elements of a worker's scratch.
pub(super) struct Scratch {
    /// Transformed filters of a task's blocks.
    pub filter: usize,
    /// Transformed inputs of a slab; before these, a filter on its way.
    pub staged: usize,
    /// One plane of a slab with its halo, before it is transformed.
    pub plane: usize,
    /// Sums of the tiles of a strip at all points.
    pub sums: usize,
}

impl Extents {
    /// Whether minimal filtering is faster than the direct sum. A function of the extents alone.
    ///
    /// In vector operations per voxel and 16 channels of either side: 9 products of each plane of taps, or 4 and the transforms: those of
    /// the outputs cost as much as 18 products, of the inputs 24 with their halo, and of the filter some 100 per plane of taps
    /// in a whole volume. Odd extents compute a row or a voxel in vain. A single row or voxel is
    /// left to the direct sum: most taps meet zeros there, which round nothing in it.
    pub(super) fn is_minimal(&self) -> bool {
        let [kd, kh, kw] = self.kernel;
        if self.dtype != DType::F32 || self.groups != 1 || [kh, kw] != [3, 3] || self.channels_out <= 4 {
            return false;
        }
        let [_, rows, columns] = self.output;
        if rows.min(columns) < 2 {
            return false;
        }
        let (inputs, filters) = (self.channels_in, self.channels_out);
        let voxels = self.batch * self.output.iter().product::<usize>();
        let tiled = voxels / (rows * columns) * rows.next_multiple_of(2) * columns.next_multiple_of(2);
        let direct = 9 * kd * inputs * filters * voxels;
        let transforms = 18 * filters + 24 * inputs.next_multiple_of(BLOCK);
        let minimal = (4 * kd * inputs * filters + transforms) * tiled + 100 * kd * inputs * filters;
        minimal < direct
    }

    /// Workspace elements that [`Extents::run_minimal`] needs.
    pub(super) fn minimal_workspace(&self, threads: usize, isa: Isa) -> usize {
        let blocking = self.minimal_blocking(isa);
        self.minimal_partials(&blocking) + ALIGNMENT + threads * self.minimal_scratch(&blocking).len()
    }

    /// Tiles along each axis.
    fn tiles(&self) -> [usize; 3] {
        [self.output[0], self.output[1].div_ceil(2), self.output[2].div_ceil(2)]
    }

    fn minimal_blocking(&self, isa: Isa) -> Blocking {
        let words = self.channels_in;
        let choose = |positions: usize| {
            let choice = choose((isa, Word::Single), [1, positions], 1, self.kernel[0] * words, self.channels_out);
            let packing = Packing {
                word: Word::Single,
                groups: 1,
                channels_out: self.channels_out,
                width: choice.shape.width(isa),
                last: choice.half.map(|_| HALF_LANES),
                taps: 1,
                staged_block: BLOCK,
                dot: false,
            };
            (choice, packing)
        };
        let (choice, packing) = choose(self.tiles().iter().product::<usize>());
        let chunks = self.minimal_filter(&packing, words).div_ceil(FILTER_LEN).max(1);
        let chunk = words.div_ceil(chunks).next_multiple_of(BLOCK);
        let mut blocking = Blocking { choice, packing, slab: [0; 3], chunk, blocks_per_task: 1, slab_groups: 1 };
        blocking.slab = self.minimal_slab(&blocking);
        // The register tile that wastes least of a slab's line of tiles.
        (blocking.choice, blocking.packing) = choose(blocking.slab.iter().product());
        let (slabs, blocks) = (self.minimal_slabs(&blocking).iter().product::<usize>(), blocking.packing.blocks());
        let voxels = self.batch * self.output.iter().product::<usize>();
        // As for the direct sum.
        let most = (FILTER_LEN / self.minimal_filter(&blocking.packing, chunk.min(words))).clamp(1, blocks);
        let groups = blocks.div_ceil(most).max(TASKS.div_ceil(slabs).min(blocks));
        blocking.blocks_per_task = blocks.div_ceil(groups);
        let block_groups = blocks.div_ceil(blocking.blocks_per_task);
        blocking.slab_groups =
            TASKS.div_ceil(block_groups).min(voxels / TASK_VOXELS).max(voxels / LONGEST_SUM).clamp(1, slabs);
        blocking
    }

    /// The slab that stages least for the whole volume, among those that fit the cache and leave enough tasks.
    fn minimal_slab(&self, blocking: &Blocking) -> [usize; 3] {
        let (tiles, blocks) = (self.tiles(), blocking.packing.blocks());
        let mut best = ([1; 3], usize::MAX);
        for planes in [1, 2, 3, 4, 6, 8, 12, 16].into_iter().filter(|&planes| planes <= tiles[0]) {
            for rows in [1, 2, 3, 4, 5, 6, 8, 12, 16].into_iter().filter(|&rows| rows <= tiles[1]) {
                for parts in 1..=tiles[2] {
                    let candidate = Blocking { slab: [planes, rows, tiles[2].div_ceil(parts)], ..*blocking };
                    let staged = self.minimal_staged(&candidate);
                    if staged > SLAB_LEN {
                        continue;
                    }
                    let slabs = self.minimal_slabs(&candidate).iter().product::<usize>();
                    // What is copied first is a part of the cost; too few tasks cost more than a larger halo.
                    let copied = (planes + self.kernel[0] - 1) * self.minimal_plane(&candidate);
                    let scarce = (TASKS / 4).div_ceil(slabs * blocks).max(1);
                    let cost = slabs * (staged + copied + SLAB_COST) * scarce;
                    if cost < best.1 {
                        best = (candidate.slab, cost);
                    }
                    break;
                }
            }
        }
        best.0
    }

    /// Slabs along each axis.
    pub(super) fn minimal_slabs(&self, blocking: &Blocking) -> [usize; 4] {
        let along = |axis: usize| self.tiles()[axis].div_ceil(blocking.slab[axis]);
        [self.batch, along(0), along(1), along(2)]
    }

    /// A slab's sample, and its first tile and extents in tiles.
    pub(super) fn minimal_slab_at(&self, blocking: &Blocking, index: usize) -> (usize, [usize; 3], [usize; 3]) {
        let [_, nd, nh, nw] = self.minimal_slabs(blocking);
        let at = [index / (nh * nw) % nd, index / nw % nh, index % nw];
        let start: [usize; 3] = std::array::from_fn(|axis| at[axis] * blocking.slab[axis]);
        let extents = std::array::from_fn(|axis| blocking.slab[axis].min(self.tiles()[axis] - start[axis]));
        (index / (nd * nh * nw), start, extents)
    }

    /// Elements of a transformed filter block for `words` input channels.
    pub(super) fn minimal_filter(&self, packing: &Packing, words: usize) -> usize {
        POINTS * self.kernel[0] * words * packing.width
    }

    /// Input channels of a chunk in whole staged blocks.
    fn minimal_channels(&self, blocking: &Blocking) -> usize {
        blocking.chunk.min(self.channels_in.next_multiple_of(BLOCK))
    }

    fn minimal_staged(&self, blocking: &Blocking) -> usize {
        let [planes, rows, columns] = blocking.slab;
        POINTS * (planes + self.kernel[0] - 1) * rows * columns * self.minimal_channels(blocking)
    }

    fn minimal_plane(&self, blocking: &Blocking) -> usize {
        let [_, rows, columns] = blocking.slab;
        (2 * rows + 2) * (2 * columns + 2) * self.minimal_channels(blocking)
    }

    fn minimal_scratch(&self, blocking: &Blocking) -> Scratch {
        let (packing, columns) = (&blocking.packing, blocking.choice.shape.columns);
        let words = blocking.chunk.min(self.channels_in);
        let whole = |len: usize| len.next_multiple_of(ALIGNMENT);
        Scratch {
            filter: whole(blocking.blocks_per_task * self.minimal_filter(packing, words)),
            // The last register tile of a slab may reach behind it.
            staged: whole((self.minimal_staged(blocking) + columns * BLOCK).max(self.taps() * BLOCK * packing.width)),
            plane: whole(self.minimal_plane(blocking)),
            sums: whole(POINTS * columns * packing.width),
        }
    }

    /// Elements of the slab groups' sums: `[slab group][sum, squares][output channel]`.
    fn minimal_partials(&self, blocking: &Blocking) -> usize {
        blocking.slab_groups * 2 * self.channels_out
    }

    /// [`Extents::run`] where [`Extents::is_minimal`].
    pub(super) fn run_minimal<E: Element>(
        &self,
        threads: &Threads,
        source: &Source<'_, E>,
        filter: (&[E], &FilterLayout),
        target: Target<'_, E>,
        workspace: &mut [f32],
    ) {
        let blocking = self.minimal_blocking(threads.isa());
        let slabs = self.minimal_slabs(&blocking).iter().product::<usize>();
        let blocks = blocking.packing.blocks();
        let block_groups = blocks.div_ceil(blocking.blocks_per_task);
        let scratch = self.minimal_scratch(&blocking);
        let output = SharedMut::new(bytemuck::cast_slice_mut::<E, f32>(target.output));
        let (partials, workspace) = workspace.split_at_mut(self.minimal_partials(&blocking));
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
            bias,
            relu,
            partials: statistics.is_some().then_some(&shared_partials),
        };
        let tasks = blocking.slab_groups * block_groups;
        threads.run_with(tasks, aligned(workspace), scratch.len(), |index, memory| {
            let (slab_group, block_group) = (index / block_groups, index % block_groups);
            let first = block_group * blocking.blocks_per_task;
            let blocks = first..blocks.min(first + blocking.blocks_per_task);
            let cut = |group: usize| group * slabs / blocking.slab_groups;
            task.run(blocks, slab_group, cut(slab_group)..cut(slab_group + 1), scratch.split(memory));
        });
        if let Some([sums, squares]) = statistics {
            self.add_partials(partials, [sums, squares]);
        }
    }
}

impl Scratch {
    fn len(&self) -> usize {
        self.filter + self.staged + self.plane + self.sums
    }

    /// Filter, staged inputs, plane and sums.
    fn split<'a>(&self, memory: &'a mut [f32]) -> [&'a mut [f32]; 4] {
        let (filter, memory) = memory.split_at_mut(self.filter);
        let (staged, memory) = memory.split_at_mut(self.staged);
        let (plane, sums) = memory.split_at_mut(self.plane);
        [filter, staged, plane, sums]
    }
}
