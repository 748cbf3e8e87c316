//! wgrad: the gradient of a filter.
//!
//! It reduces over all voxels (millions) into a filter (thousands), so the voxels are cut into slices whose partial sums go to
//! the workspace and are added in slice order: the same bits for any number of threads. The number of slices
//! depends on the problem alone. Deep layers have many filter blocks and need no slices.

#![allow(unsafe_code)]

use super::{
    outer::{OuterFunction, OuterShape, choose},
    pack::FilterLayout,
    source::{PHASES, Source},
    wgrad_sums::AddSlices,
    wgrad_task::Task,
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

/// Elements of the staged input and gradient of one slab: 320 KiB.
pub(super) const SLAB_LEN: usize = 80 * 1024;

/// Channels of one task, of either tensor.
const CHANNELS: usize = 64;

/// Voxels below which a slice's own copy of the filter costs more than it helps.
pub(super) const SLICE_VOXELS: usize = 512;

/// Tasks to aim for by slicing.
pub(super) const TASKS: usize = 64;

/// Elements per task of the final sum over slices.
const SUM_LEN: usize = 4096;

/// Extents of a filter gradient.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extents {
    /// The type of input and output gradient.
    pub dtype: DType,
    pub batch: usize,
    pub input: [usize; 3],
    pub output: [usize; 3],
    pub kernel: [usize; 3],
    pub pad_before: [usize; 3],
    pub channels_in: usize,
    /// Of one group.
    pub channels_out: usize,
    /// Output gradients that belong to the same input.
    pub groups: usize,
    /// The gradient's layout is not `[group][tap][input channel][output channel]`: sums are put in place at the end.
    pub scattered: bool,
}

/// How the work is cut. A function of the extents and the instruction set alone.
pub(super) struct Blocking {
    pub word: Word,
    pub shape: OuterShape,
    pub function: OuterFunction,
    /// Output channels of a register block.
    pub width: usize,
    /// Channels of one task.
    pub channels_in: usize,
    pub channels_out: usize,
    /// Output planes, output rows and input voxels of a slab: whole words of these.
    pub slab: [usize; 3],
    pub slices: usize,
}

impl Extents {
    pub(super) fn taps(&self) -> usize {
        self.kernel.iter().product()
    }

    pub(super) fn filter_len(&self) -> usize {
        self.groups * self.taps() * self.channels_in * self.channels_out
    }

    /// Workspace elements that [`Extents::run`] needs.
    pub(super) fn workspace(&self, threads: usize) -> usize {
        let need = |isa| {
            if self.is_minimal() {
                return self.minimal_workspace(threads, isa);
            }
            let blocking = self.blocking(isa);
            let partials = self.partials_len(blocking.slices) + self.bias_partials_len(blocking.slices);
            ALIGNMENT + partials + threads * self.staged_len(&blocking).iter().sum::<usize>()
        };
        Isa::ALL.into_iter().filter(|isa| isa.is_available()).map(need).max().unwrap_or(0)
    }

    /// Elements of the slices' sums, 0 if the only slice sums in the gradient itself.
    pub(super) fn partials_len(&self, slices: usize) -> usize {
        if slices > 1 || self.scattered { slices * self.filter_len() } else { 0 }
    }

    /// Elements of the slices' sums of the output gradient: `[slice][group][output channel]`.
    pub(super) fn bias_partials_len(&self, slices: usize) -> usize {
        slices * self.groups * self.channels_out
    }

    fn blocking(&self, isa: Isa) -> Blocking {
        let (shape, function) = choose(isa, [self.kernel[1], self.kernel[2]], self.channels_in, self.channels_out);
        let width = shape.vectors * isa.lanes();
        let word = Word::of(self.dtype, isa);
        let mut blocking = Blocking {
            word,
            shape,
            function,
            width,
            channels_in: self.channels_in.next_multiple_of(shape.staged_block()).min(CHANNELS),
            channels_out: self.channels_out.next_multiple_of(width).min(CHANNELS),
            slab: [1, 1, self.input[2].next_multiple_of(word.elements())],
            slices: 1,
        };
        blocking.slab = self.choose_slab(&blocking);
        let groups = self.channel_groups(&blocking);
        let slabs = self.slabs(&blocking).iter().product::<usize>();
        let voxels = self.batch * self.output.iter().product::<usize>();
        blocking.slices = TASKS.div_ceil(groups[0] * groups[1]).min(voxels / SLICE_VOXELS).clamp(1, slabs);
        blocking
    }

    /// The slab that stages least for the whole volume among those that fit the cache and leave enough slices.
    fn choose_slab(&self, blocking: &Blocking) -> [usize; 3] {
        let groups = self.channel_groups(blocking);
        let whole_words = |voxels: usize| voxels.next_multiple_of(blocking.word.elements());
        let mut best = ([1, 1, whole_words(self.input[2].min(16))], usize::MAX);
        for planes in [1, 2, 3, 4, 6, 8].into_iter().filter(|&planes| planes <= self.output[0]) {
            for rows in [1, 2, 3, 4, 6, 8, 12, 16].into_iter().filter(|&rows| rows <= self.output[1]) {
                for parts in 1..=self.input[2].div_ceil(16) {
                    let slab = [planes, rows, whole_words(self.input[2].div_ceil(parts))];
                    let candidate = Blocking { slab, ..*blocking };
                    let staged = self.staged_len(&candidate).iter().sum::<usize>();
                    if staged > SLAB_LEN {
                        continue;
                    }
                    let slabs = self.slabs(&candidate).iter().product::<usize>();
                    let scarce = (TASKS / 4).div_ceil(slabs * groups[0] * groups[1]).max(1);
                    // Besides staging, every slab adds its register sums to the slice's: about as costly per element.
                    let sums = self.taps() * blocking.channels_in * blocking.channels_out;
                    let cost = slabs * (staged + sums) * scarce;
                    if cost < best.1 {
                        best = (slab, cost);
                    }
                    break;
                }
            }
        }
        best.0
    }

    /// Tasks along the input and output channels.
    fn channel_groups(&self, blocking: &Blocking) -> [usize; 2] {
        [self.channels_in.div_ceil(blocking.channels_in), self.channels_out.div_ceil(blocking.channels_out)]
    }

    /// Slabs along each axis.
    pub(super) fn slabs(&self, blocking: &Blocking) -> [usize; 4] {
        let [planes, rows, voxels] = blocking.slab;
        [self.batch, self.output[0].div_ceil(planes), self.output[1].div_ceil(rows), self.input[2].div_ceil(voxels)]
    }

    /// Staged planes, rows and voxels of the input and of the gradient.
    pub(super) fn staged_extents(&self, blocking: &Blocking) -> [[usize; 3]; 2] {
        let ([planes, rows, voxels], [kd, kh, kw]) = (blocking.slab, self.kernel);
        [[planes + kd - 1, rows + kh - 1, voxels], [planes, rows, voxels + kw - 1]]
    }

    fn staged_len(&self, blocking: &Blocking) -> [usize; 2] {
        let [input, dy] = self.staged_extents(blocking).map(|extents| extents.iter().product::<usize>());
        [input / blocking.word.elements() * blocking.channels_in, dy * blocking.channels_out]
            .map(|len| len.next_multiple_of(ALIGNMENT))
    }

    /// Computes the gradient of the filter, and of the bias if asked, from the input and each group's output gradient.
    #[expect(clippy::too_many_arguments, reason = "the operation's tensors")]
    pub(super) fn run<E: Element>(
        &self,
        threads: &Threads,
        input: &Source<'_, E>,
        dy: &[Source<'_, E>],
        dfilter: &mut [f32],
        layout: &FilterLayout,
        dbias: Option<&mut [f32]>,
        workspace: &mut [f32],
    ) {
        assert_eq!(self.dtype, E::DTYPE, "type of the tensors");
        assert!(dbias.is_none() || self.input[2] == self.output[2], "slabs count each gradient once");
        assert!(dy.len() == self.groups && dy.len() <= PHASES, "one gradient per group");
        if self.is_minimal() {
            self.run_minimal(threads, [input, &dy[0]], dfilter, layout, dbias, workspace);
            return;
        }
        let blocking = self.blocking(threads.isa());
        let filter_len = self.filter_len();
        let [groups_in, groups_out] = self.channel_groups(&blocking);
        let (partials, workspace) = workspace.split_at_mut(self.partials_len(blocking.slices));
        let (bias_partials, scratch) = workspace.split_at_mut(self.bias_partials_len(blocking.slices));
        let shared_bias = SharedMut::new(bias_partials);
        let direct = partials.is_empty();
        let sums = SharedMut::new(if direct { &mut *dfilter } else { &mut *partials });
        let staged_len = self.staged_len(&blocking);
        let per_worker = staged_len.iter().sum();
        threads.run_with(blocking.slices * groups_in * groups_out, aligned(scratch), per_worker, |task, staged| {
            let (slice, group) = (task / (groups_in * groups_out), task % (groups_in * groups_out));
            let (first_in, first_out) =
                (group / groups_out * blocking.channels_in, group % groups_out * blocking.channels_out);
            let task = Task {
                extents: self,
                blocking: &blocking,
                isa: threads.isa(),
                channels_in: first_in..self.channels_in.min(first_in + blocking.channels_in),
                channels_out: first_out..self.channels_out.min(first_out + blocking.channels_out),
                sums: sums.pointer().wrapping_add(slice * filter_len),
                bias_sums: match dbias.is_some() && first_in == 0 {
                    true => shared_bias.pointer().wrapping_add(slice * self.groups * self.channels_out),
                    false => std::ptr::null_mut(),
                },
            };
            let slabs = self.slabs(&blocking).iter().product::<usize>();
            let cut = |slice: usize| slice * slabs / blocking.slices;
            let (staged_input, staged_dy) = staged.split_at_mut(staged_len[0]);
            task.add_slabs(cut(slice)..cut(slice + 1), input, dy, [staged_input, staged_dy]);
        });
        self.finish(threads, blocking.slices, [partials, bias_partials], dfilter, layout, dbias);
    }

    /// Adds the slices' sums of the bias gradient, if asked, and of the filter gradient, if they are not there yet.
    pub(super) fn finish(
        &self,
        threads: &Threads,
        slices: usize,
        [partials, bias_partials]: [&[f32]; 2],
        dfilter: &mut [f32],
        layout: &FilterLayout,
        dbias: Option<&mut [f32]>,
    ) {
        if let Some(dbias) = dbias {
            // Channels of all groups fall on the same totals.
            let count = dbias.len();
            for (channel, total) in dbias.iter_mut().enumerate() {
                *total =
                    bias_partials.iter().skip(channel).step_by(count).map(|&sum| f64::from(sum)).sum::<f64>() as f32;
            }
        }
        if !partials.is_empty() {
            self.add_slices(threads, &partials[..slices * self.filter_len()], dfilter, layout);
        }
    }

    /// Adds the slices' sums in slice order and puts them where the layout says.
    fn add_slices(&self, threads: &Threads, partials: &[f32], dfilter: &mut [f32], layout: &FilterLayout) {
        let filter_len = self.filter_len();
        if !self.scattered {
            threads.for_chunks(dfilter, SUM_LEN, |chunk, sums| {
                let start = chunk * SUM_LEN;
                dispatch(threads.isa(), AddSlices { partials: &partials[start..], filter_len, sums });
            });
            return;
        }
        let row_len = self.channels_in * self.channels_out;
        let places = SharedMut::new(dfilter);
        threads.run(self.groups * self.taps(), &|row| {
            let base = layout.base(row / self.taps(), row % self.taps());
            for channel_in in 0..self.channels_in {
                let from = row * row_len + channel_in * self.channels_out;
                let mut channel_out = 0;
                while channel_out < self.channels_out {
                    let run = if layout.output.inner_stride == 1 { layout.output.run(channel_out) } else { 1 };
                    let run = run.min(self.channels_out - channel_out);
                    let place = base + layout.input.at(channel_in) + layout.output.at(channel_out);
                    // SAFETY: the layout maps (group, tap, channels) to distinct elements, and rows are distinct (group, tap).
                    let sums = unsafe { places.slice(place, run) };
                    dispatch(threads.isa(), AddSlices { partials: &partials[from + channel_out..], filter_len, sums });
                    channel_out += run;
                }
            }
        });
    }
}
