//! wgrad in fp32 by minimal filtering: the transpose of [`super::winograd`].
//!
//! With `y = A^T [(G g G^T) . (B^T d B)] A`, the gradient of a plane of taps is `G^T [(A dy A^T) . (B^T d B)] G`, summed over tiles: at
//! each of the 16 points a product of transformed inputs and transformed gradients, and one way back at the end of all sums. The taps
//! along the planes stay as they are. Planes are innermost in the staged points, so that these taps are what the taps along a row
//! are in the direct sum, and its microkernels serve.

use super::{
    outer::{OuterFunction, OuterShape, choose},
    pack::FilterLayout,
    source::Source,
    stage::BLOCK,
    wgrad::{Extents, SLAB_LEN, SLICE_VOXELS, TASKS},
    winograd::POINTS,
    winograd_wgrad_task::Task,
};
use crate::{
    cpu::{
        Element,
        simd::{ALIGNMENT, Isa, aligned},
        threads::{SharedMut, Threads},
    },
    tensor::DType,
};

/// Channels of one task: its sums at all points, 384 KiB, share a 1 MiB second-level cache with a slab.
const CHANNELS: [usize; 2] = [64, 32];

/// How the work is cut. A function of the extents and the instruction set alone.
pub(super) struct Blocking {
    pub shape: OuterShape,
    pub function: OuterFunction,
    /// Output channels of a register block.
    pub width: usize,
    /// Channels of one task.
    pub channels_in: usize,
    pub channels_out: usize,
    /// Input planes, and pairs of rows and of voxels, of a slab.
    pub slab: [usize; 3],
    pub slices: usize,
}

/// Elements of a worker's scratch: points of the input and of the gradient, a plane before it is transformed, and sums.
type Scratch = [usize; 4];

impl Extents {
    /// Whether minimal filtering is faster than the direct sum. A function of the extents alone.
    ///
    /// Counted as in [`super::correlate::Extents::is_minimal`]; the way back is taken once per slice, and so rarely that it is left out.
    pub(super) fn is_minimal(&self) -> bool {
        let [kd, kh, kw] = self.kernel;
        let same = self.input == self.output && self.groups == 1 && !self.scattered;
        if self.dtype != DType::F32 || !same || [kh, kw] != [3, 3] {
            return false;
        }
        let [_, rows, columns] = self.output;
        if rows.min(columns) < 2 {
            return false;
        }
        let tiled = rows.next_multiple_of(2) * columns.next_multiple_of(2);
        let products = kd * self.channels_in * self.channels_out;
        let transforms = 24 * self.channels_in.next_multiple_of(BLOCK) + 18 * self.channels_out;
        let voxels = self.batch * self.output.iter().product::<usize>();
        (4 * products + transforms) * tiled + 100 * products * rows * columns / voxels < 9 * products * rows * columns
    }

    /// Workspace elements that [`Extents::run_minimal`] needs.
    pub(super) fn minimal_workspace(&self, threads: usize, isa: Isa) -> usize {
        let blocking = self.minimal_blocking(isa);
        let partials = self.partials_len(blocking.slices) + self.bias_partials_len(blocking.slices);
        ALIGNMENT + partials + threads * self.minimal_scratch(&blocking).iter().sum::<usize>()
    }

    /// Tiles along each axis.
    fn tiles(&self) -> [usize; 3] {
        [self.output[0], self.output[1].div_ceil(2), self.output[2].div_ceil(2)]
    }

    fn minimal_blocking(&self, isa: Isa) -> Blocking {
        let (shape, function) = choose(isa, [1, self.kernel[0]], self.channels_in, self.channels_out);
        let width = shape.vectors * isa.lanes();
        let mut blocking = Blocking {
            shape,
            function,
            width,
            channels_in: self.channels_in.next_multiple_of(BLOCK).min(CHANNELS[0]),
            channels_out: self.channels_out.next_multiple_of(width).min(CHANNELS[1].next_multiple_of(width)),
            slab: [1; 3],
            slices: 1,
        };
        blocking.slab = self.minimal_slab(&blocking);
        let groups = self.minimal_groups(&blocking);
        let slabs = self.minimal_slabs(&blocking).iter().product::<usize>();
        let voxels = self.batch * self.output.iter().product::<usize>();
        blocking.slices = TASKS.div_ceil(groups[0] * groups[1]).min(voxels / SLICE_VOXELS).clamp(1, slabs);
        blocking
    }

    /// The slab that stages least for the whole volume among those that fit the cache and leave enough slices.
    fn minimal_slab(&self, blocking: &Blocking) -> [usize; 3] {
        let (groups, tiles) = (self.minimal_groups(blocking), self.tiles());
        let mut best = ([1; 3], usize::MAX);
        for planes in [1, 2, 3, 4, 6, 8, 12, 16, 24].into_iter().filter(|&planes| planes <= tiles[0]) {
            for rows in [1, 2, 3, 4, 6, 8].into_iter().filter(|&rows| rows <= tiles[1]) {
                for parts in 1..=tiles[2] {
                    let candidate = Blocking { slab: [planes, rows, tiles[2].div_ceil(parts)], ..*blocking };
                    let [input, dy, _, sums] = self.minimal_scratch(&candidate);
                    if input + dy > SLAB_LEN {
                        continue;
                    }
                    let slabs = self.minimal_slabs(&candidate).iter().product::<usize>();
                    let scarce = (TASKS / 4).div_ceil(slabs * groups[0] * groups[1]).max(1);
                    // What is copied first is a part of the cost, and every slab adds its register sums to the task's.
                    let [copied_input, copied_dy] = self.minimal_planes(&candidate);
                    let copied = planes * copied_input + (planes + self.kernel[0] - 1) * copied_dy;
                    let cost = slabs * (input + dy + copied + sums) * scarce;
                    if cost < best.1 {
                        best = (candidate.slab, cost);
                    }
                    break;
                }
            }
        }
        best.0
    }

    /// Tasks along the input and output channels.
    fn minimal_groups(&self, blocking: &Blocking) -> [usize; 2] {
        [self.channels_in.div_ceil(blocking.channels_in), self.channels_out.div_ceil(blocking.channels_out)]
    }

    fn minimal_slabs(&self, blocking: &Blocking) -> [usize; 4] {
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

    /// Elements of a plane of a slab before it is transformed: of the input with its halo, and of the gradient.
    fn minimal_planes(&self, blocking: &Blocking) -> [usize; 2] {
        let [_, rows, columns] = blocking.slab;
        [(2 * rows + 2) * (2 * columns + 2) * blocking.channels_in, 4 * rows * columns * blocking.channels_out]
    }

    fn minimal_scratch(&self, blocking: &Blocking) -> Scratch {
        let ([planes, rows, columns], kd) = (blocking.slab, self.kernel[0]);
        let tiles = POINTS * rows * columns;
        [
            tiles * planes * blocking.channels_in,
            tiles * (planes + kd - 1) * blocking.channels_out,
            self.minimal_planes(blocking).into_iter().max().unwrap_or(0),
            POINTS * kd * blocking.channels_in * blocking.channels_out,
        ]
        .map(|len| len.next_multiple_of(ALIGNMENT))
    }

    /// [`Extents::run`] where [`Extents::is_minimal`].
    pub(super) fn run_minimal<E: Element>(
        &self,
        threads: &Threads,
        [input, dy]: [&Source<'_, E>; 2],
        dfilter: &mut [f32],
        layout: &FilterLayout,
        dbias: Option<&mut [f32]>,
        workspace: &mut [f32],
    ) {
        let blocking = self.minimal_blocking(threads.isa());
        let filter_len = self.filter_len();
        let [groups_in, groups_out] = self.minimal_groups(&blocking);
        let (partials, workspace) = workspace.split_at_mut(self.partials_len(blocking.slices));
        let (bias_partials, memory) = workspace.split_at_mut(self.bias_partials_len(blocking.slices));
        let shared_bias = SharedMut::new(bias_partials);
        let direct = partials.is_empty();
        let sums = SharedMut::new(if direct { &mut *dfilter } else { &mut *partials });
        let scratch = self.minimal_scratch(&blocking);
        let slabs = self.minimal_slabs(&blocking).iter().product::<usize>();
        let tasks = blocking.slices * groups_in * groups_out;
        threads.run_with(tasks, aligned(memory), scratch.iter().sum(), |task, memory| {
            let (slice, group) = (task / (groups_in * groups_out), task % (groups_in * groups_out));
            let (first_in, first_out) =
                (group / groups_out * blocking.channels_in, group % groups_out * blocking.channels_out);
            let task = Task {
                extents: self,
                blocking: &blocking,
                isa: threads.isa(),
                channels_in: first_in..self.channels_in.min(first_in + blocking.channels_in),
                channels_out: first_out..self.channels_out.min(first_out + blocking.channels_out),
                dfilter: sums.pointer().wrapping_add(slice * filter_len),
                bias_sums: match dbias.is_some() && first_in == 0 {
                    true => shared_bias.pointer().wrapping_add(slice * self.channels_out),
                    false => std::ptr::null_mut(),
                },
            };
            let cut = |slice: usize| slice * slabs / blocking.slices;
            let (staged_input, memory) = memory.split_at_mut(scratch[0]);
            let (staged_dy, memory) = memory.split_at_mut(scratch[1]);
            let (plane, sums) = memory.split_at_mut(scratch[2]);
            task.run(cut(slice)..cut(slice + 1), [input, dy], [staged_input, staged_dy, plane, sums]);
        });
        self.finish(threads, blocking.slices, [partials, bias_partials], dfilter, layout, dbias);
    }
}
