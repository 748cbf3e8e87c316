//! fprop and dgrad: a correlation of a staged source with a packed filter.
//!
//! A task owns a slab of output voxels and some output-channel blocks. It stages the slab's input with its halo once, then
//! for each channel block walks the slab's register tiles while that block of the filter stays in the
//! second-level cache. Many input channels are taken in chunks, so that filter block and slab both fit.

use super::{
    pack::{FilterView, Packing},
    stage::{BLOCK, Source, Window},
    tile::{Tile, TileFunction, TileShape, choose},
};
use crate::cpu::{
    simd::Isa,
    threads::{SharedMut, Threads},
};

/// Elements of a staged slab: 320 KiB, so that it shares a 1 MiB second-level cache with a filter block.
const SLAB_LEN: usize = 80 * 1024;

/// Elements of one filter block and chunk: 448 KiB.
const FILTER_LEN: usize = 112 * 1024;

/// Tasks below which slabs and channel groups are cut finer, for the sake of many cores.
const TASKS: usize = 32;

/// Extents of a correlation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extents {
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
pub(super) struct Target<'a> {
    pub output: &'a mut [f32],
    /// Elements from one sample, plane, row and voxel to the next.
    pub strides: [usize; 4],
    /// First element of each group.
    pub group_offsets: [usize; 8],
    pub bias: Option<&'a [f32]>,
    pub relu: bool,
}

/// How a correlation is cut. A function of its extents and the instruction set alone.
struct Blocking {
    shape: TileShape,
    function: TileFunction,
    packing: Packing,
    /// Output planes, rows and voxels of a slab.
    slab: [usize; 3],
    /// Input channels staged at a time.
    chunk: usize,
    /// Output blocks, over all groups, of one task.
    blocks_per_task: usize,
}

impl Extents {
    /// Workspace elements that [`Extents::run`] needs.
    pub(super) fn workspace(&self, threads: usize) -> usize {
        let need = |isa| {
            let blocking = self.blocking(isa);
            blocking.packing.len() + threads * self.staged_len(&blocking)
        };
        Isa::ALL.into_iter().filter(|isa| isa.is_available()).map(need).max().unwrap_or(0)
    }

    fn blocking(&self, isa: Isa) -> Blocking {
        let (shape, function) = choose(isa, self.output[1], self.output[2], self.channels_out);
        let taps = self.kernel.iter().product::<usize>();
        let width = shape.vectors * isa.lanes();
        let packing = Packing {
            groups: self.groups,
            taps,
            channels_in: self.channels_in,
            channels_out: self.channels_out,
            width,
        };
        let chunks = (taps * self.channels_in * width).div_ceil(FILTER_LEN).max(1);
        let chunk = self.channels_in.div_ceil(chunks).next_multiple_of(BLOCK);
        let mut blocking = Blocking { shape, function, packing, slab: [0; 3], chunk, blocks_per_task: 1 };
        blocking.slab = self.choose_slab(&blocking);
        let blocks = packing.groups * packing.blocks();
        let groups = TASKS.div_ceil(self.slabs(&blocking).iter().product::<usize>()).clamp(1, blocks);
        blocking.blocks_per_task = blocks.div_ceil(groups);
        blocking
    }

    /// The slab that stages least for the whole volume, among those that fit the cache and leave enough tasks.
    fn choose_slab(&self, blocking: &Blocking) -> [usize; 3] {
        let TileShape { rows, columns, .. } = blocking.shape;
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
                    let scarce = TASKS.div_ceil(slabs * blocks).max(1);
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
        voxels * blocking.chunk.min(self.channels_in.next_multiple_of(BLOCK))
    }

    /// Computes the correlation of `source` with `filter` into `target`.
    pub(super) fn run(
        &self,
        threads: &Threads,
        source: &Source<'_>,
        filter: FilterView<'_>,
        target: Target<'_>,
        workspace: &mut [f32],
    ) {
        let blocking = self.blocking(threads.isa());
        let packing = blocking.packing;
        let (packed, scratch) = workspace.split_at_mut(packing.len());
        packing.pack(threads, filter, packed);
        let packed = &*packed;

        let slabs = self.slabs(&blocking);
        let blocks = packing.groups * packing.blocks();
        let block_groups = blocks.div_ceil(blocking.blocks_per_task);
        let output = SharedMut::new(target.output);
        // Channel groups vary fastest, so that tasks which stage the same slab run close in time.
        threads.run_with(
            slabs.iter().product::<usize>() * block_groups,
            scratch,
            self.staged_len(&blocking),
            |task, staged| {
                let (slab, group) = (task / block_groups, task % block_groups);
                let first = group * blocking.blocks_per_task;
                let task = Task {
                    extents: self,
                    blocking: &blocking,
                    isa: threads.isa(),
                    sample: slab / (slabs[1] * slabs[2] * slabs[3]),
                    start: [
                        slab / (slabs[2] * slabs[3]) % slabs[1] * blocking.slab[0],
                        slab / slabs[3] % slabs[2] * blocking.slab[1],
                        slab % slabs[3] * blocking.slab[2],
                    ],
                    strides: target.strides,
                    group_offsets: target.group_offsets,
                    bias: target.bias,
                    relu: target.relu,
                };
                task.run(source, packed, first..blocks.min(first + blocking.blocks_per_task), staged, &output);
            },
        );
    }
}

/// One slab and some output blocks.
struct Task<'a> {
    extents: &'a Extents,
    blocking: &'a Blocking,
    isa: Isa,
    sample: usize,
    /// First output plane, row and voxel.
    start: [usize; 3],
    strides: [usize; 4],
    group_offsets: [usize; 8],
    bias: Option<&'a [f32]>,
    relu: bool,
}

impl Task<'_> {
    fn run(
        &self,
        source: &Source<'_>,
        packed: &[f32],
        blocks: std::ops::Range<usize>,
        staged: &mut [f32],
        output: &SharedMut<f32>,
    ) {
        let (extents, packing) = (self.extents, &self.blocking.packing);
        let mut channel = 0;
        while channel < extents.channels_in {
            let end = extents.channels_in.min(channel + self.blocking.chunk);
            let window = Window {
                sample: self.sample,
                start: std::array::from_fn(|axis| self.start[axis] as isize - extents.pad_before[axis] as isize),
                extents: extents.staged_extents(self.blocking),
            };
            source.stage(window, channel..end, BLOCK, staged);
            for block in blocks.clone() {
                let filter = &packed[block * packing.block_len() + channel * packing.taps * packing.width..];
                self.run_block(block, channel..end, staged, filter, output);
            }
            channel = end;
        }
    }

    /// All register tiles of the slab for one output block and one chunk of input channels.
    fn run_block(
        &self,
        block: usize,
        channels: std::ops::Range<usize>,
        staged: &[f32],
        filter: &[f32],
        output: &SharedMut<f32>,
    ) {
        let (extents, packing, shape) = (self.extents, &self.blocking.packing, self.blocking.shape);
        let (group, first_out) = (block / packing.blocks(), block % packing.blocks() * packing.width);
        let [_, staged_rows, width] = extents.staged_extents(self.blocking);
        let block_stride = width * BLOCK;
        let row_stride = channels.len().div_ceil(BLOCK) * block_stride;
        let last = channels.end == extents.channels_in;
        let end: [usize; 3] =
            std::array::from_fn(|axis| extents.output[axis].min(self.start[axis] + self.blocking.slab[axis]));
        for d in self.start[0]..end[0] {
            for h in (self.start[1]..end[1]).step_by(shape.rows) {
                for w in (self.start[2]..end[2]).step_by(shape.columns) {
                    let staged_row = (d - self.start[0]) * staged_rows + h - self.start[1];
                    let input = &staged[staged_row * row_stride + (w - self.start[2]) * BLOCK..];
                    let [sn, sd, sh, sw] = self.strides;
                    let to = self.group_offsets[group] + self.sample * sn + d * sd + h * sh + w * sw + first_out;
                    let tile = Tile {
                        input: input.as_ptr(),
                        block_stride,
                        plane_stride: staged_rows * row_stride,
                        row_stride,
                        kernel: extents.kernel,
                        channels: channels.len(),
                        filter: filter.as_ptr(),
                        // The tile's first voxel exists, so this stays inside the output.
                        output: output.pointer().wrapping_add(to),
                        output_row_stride: sh,
                        output_stride: sw,
                        rows: shape.rows.min(end[1] - h),
                        columns: shape.columns.min(end[2] - w),
                        channels_out: packing.width.min(extents.channels_out - first_out),
                        accumulate: channels.start > 0,
                        bias: match self.bias {
                            Some(bias) if last => bias[first_out..].as_ptr(),
                            _ => std::ptr::null(),
                        },
                        relu: self.relu && last,
                    };
                    // SAFETY: `Threads` checked the instruction set. The staged slab spans whole register tiles and their
                    // halo; `filter` holds this block's chunk by the packing; the bias has `channels_out` elements (asserted
                    // at the border). Voxels and channels of the tile that exist lie inside the output (its length
                    // was asserted against these strides) and belong to this task alone, because tasks partition
                    // slabs and output blocks.
                    unsafe { (self.blocking.function)(self.isa, &tile) };
                }
            }
        }
    }
}
