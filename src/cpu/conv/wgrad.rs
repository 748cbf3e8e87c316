//! wgrad: the gradient of a filter.
//!
//! It reduces over all voxels (millions) into a filter (thousands), so the voxels are cut into slices whose partial sums go to
//! the workspace and are added in slice order: the same bits for any number of threads. The number of slices
//! depends on the problem alone. Deep layers have many filter blocks and need no slices.

use std::ops::Range;

use super::{
    interleave::Begin,
    outer::{Outer, OuterFunction, OuterShape, choose},
    pack::FilterLayout,
    source::{PHASES, Source, Window},
    stage::BLOCK,
    wgrad_sums::{AddSlices, SumRows},
    word::Word,
};
use crate::{
    cpu::{
        Element,
        simd::{ALIGNMENT, Isa, aligned, dispatch, dispatch_pairs},
        threads::{SharedMut, Threads},
    },
    tensor::DType,
};

/// Elements of the staged input and gradient of one slab: 320 KiB.
const SLAB_LEN: usize = 80 * 1024;

/// Channels of one task, of either tensor.
const CHANNELS: usize = 64;

/// Voxels below which a slice's own copy of the filter costs more than it helps.
const SLICE_VOXELS: usize = 512;

/// Tasks to aim for by slicing.
const TASKS: usize = 64;

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
struct Blocking {
    word: Word,
    shape: OuterShape,
    function: OuterFunction,
    /// Output channels of a register block.
    width: usize,
    /// Channels of one task.
    channels_in: usize,
    channels_out: usize,
    /// Output planes, output rows and input voxels of a slab: whole words of these.
    slab: [usize; 3],
    slices: usize,
}

impl Extents {
    fn taps(&self) -> usize {
        self.kernel.iter().product()
    }

    fn filter_len(&self) -> usize {
        self.groups * self.taps() * self.channels_in * self.channels_out
    }

    /// Workspace elements that [`Extents::run`] needs.
    pub(super) fn workspace(&self, threads: usize) -> usize {
        let need = |isa| {
            let blocking = self.blocking(isa);
            let partials = self.partials_len(&blocking) + self.bias_partials_len(&blocking);
            ALIGNMENT + partials + threads * self.staged_len(&blocking).iter().sum::<usize>()
        };
        Isa::ALL.into_iter().filter(|isa| isa.is_available()).map(need).max().unwrap_or(0)
    }

    /// Elements of the slices' sums, 0 if the only slice sums in the gradient itself.
    fn partials_len(&self, blocking: &Blocking) -> usize {
        if blocking.slices > 1 || self.scattered { blocking.slices * self.filter_len() } else { 0 }
    }

    /// Elements of the slices' sums of the output gradient: `[slice][group][output channel]`.
    fn bias_partials_len(&self, blocking: &Blocking) -> usize {
        blocking.slices * self.groups * self.channels_out
    }

    fn blocking(&self, isa: Isa) -> Blocking {
        let (shape, function) = choose(isa, self.kernel[2], self.channels_in, self.channels_out);
        let width = shape.vectors * isa.lanes();
        let word = Word::of(self.dtype, isa);
        let mut blocking = Blocking {
            word,
            shape,
            function,
            width,
            channels_in: self.channels_in.next_multiple_of(BLOCK).min(CHANNELS),
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

    fn slabs(&self, blocking: &Blocking) -> [usize; 4] {
        let [planes, rows, voxels] = blocking.slab;
        [self.batch, self.output[0].div_ceil(planes), self.output[1].div_ceil(rows), self.input[2].div_ceil(voxels)]
    }

    /// Staged planes, rows and voxels of the input and of the gradient.
    fn staged_extents(&self, blocking: &Blocking) -> [[usize; 3]; 2] {
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
        let blocking = self.blocking(threads.isa());
        let filter_len = self.filter_len();
        let [groups_in, groups_out] = self.channel_groups(&blocking);
        let (partials, workspace) = workspace.split_at_mut(self.partials_len(&blocking));
        let (bias_partials, scratch) = workspace.split_at_mut(self.bias_partials_len(&blocking));
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
            let (staged_input, staged_dy) = staged.split_at_mut(staged_len[0]);
            let own = slice * slabs / blocking.slices..(slice + 1) * slabs / blocking.slices;
            for slab in own.clone() {
                task.add_slab(slab, slab == own.start, (input, dy), staged_input, staged_dy);
            }
        });
        if let Some(dbias) = dbias {
            // Channels of all groups fall on the same totals.
            let count = dbias.len();
            for (channel, total) in dbias.iter_mut().enumerate() {
                *total =
                    bias_partials.iter().skip(channel).step_by(count).map(|&sum| f64::from(sum)).sum::<f64>() as f32;
            }
        }
        if !direct {
            self.add_slices(threads, &partials[..blocking.slices * filter_len], dfilter, layout);
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

/// Some input and output channels of one slice's partial sums.
struct Task<'a> {
    extents: &'a Extents,
    blocking: &'a Blocking,
    isa: Isa,
    channels_in: Range<usize>,
    channels_out: Range<usize>,
    /// First element of the slice's sums.
    sums: *mut f32,
    /// First element of the slice's sums of the output gradient; null if nobody asked or another task adds them.
    bias_sums: *mut f32,
}

impl Task<'_> {
    fn address(&self, group: usize, tap: usize, channel_in: usize, channel_out: usize) -> *mut f32 {
        let extents = self.extents;
        let row = (group * extents.taps() + tap) * extents.channels_in + channel_in;
        self.sums.wrapping_add(row * extents.channels_out + channel_out)
    }

    /// Zeros the sums of a row of taps.
    fn clear_row_of_taps(&self, [group, d, h]: [usize; 3]) {
        let kernel = self.extents.kernel;
        for w in 0..kernel[2] {
            for channel in self.channels_in.clone() {
                let tap = (d * kernel[1] + h) * kernel[2] + w;
                let row = self.address(group, tap, channel, self.channels_out.start);
                // SAFETY: the row lies inside this slice's filter, and no other task has these channels of this slice.
                unsafe { std::ptr::write_bytes(row, 0, self.channels_out.len()) };
            }
        }
    }

    /// Adds a slab's sums to the task's, or starts these with the first one.
    fn add_slab<E: Element>(
        &self,
        slab: usize,
        is_first: bool,
        (input, dy): (&Source<'_, E>, &[Source<'_, E>]),
        staged_input: &mut [f32],
        staged_dy: &mut [f32],
    ) {
        let (extents, blocking) = (self.extents, self.blocking);
        let [_, nd, nh, nw] = extents.slabs(blocking);
        let sample = slab / (nd * nh * nw);
        let index = [slab / (nh * nw) % nd, slab / nw % nh, slab % nw];
        let start: [isize; 3] = std::array::from_fn(|axis| (index[axis] * blocking.slab[axis]) as isize);
        let [pd, ph, pw] = extents.pad_before.map(|pad| pad as isize);
        let [input_extents, dy_extents] = extents.staged_extents(blocking);
        // Input voxels at the ragged end count as zeros, and so do gradients outside the volume.
        let window = Window { sample, start: [start[0] - pd, start[1] - ph, start[2]], extents: input_extents };
        self.stage(input, Begin::Second, window, self.channels_in.clone(), BLOCK, staged_input);
        let margin = pw - (extents.kernel[2] as isize - 1);
        let window = Window { sample, start: [start[0], start[1], start[2] + margin], extents: dy_extents };
        for (group, dy) in dy.iter().enumerate() {
            self.stage(dy, Begin::Every, window, self.channels_out.clone(), blocking.width, staged_dy);
            if !self.bias_sums.is_null() {
                let sums = self.bias_sums.wrapping_add(group * extents.channels_out + self.channels_out.start);
                let channels = self.channels_out.len();
                if is_first {
                    // SAFETY: of the tasks of this slice and these output channels only one has these sums.
                    unsafe { std::ptr::write_bytes(sums, 0, channels) };
                }
                let sum = SumRows {
                    staged: staged_dy,
                    rows: dy_extents[0] * dy_extents[1],
                    row: [dy_extents[2], blocking.width],
                    own: (-margin) as usize..(-margin) as usize + blocking.slab[2],
                    // SAFETY: of the tasks of this slice and these output channels only one has these sums.
                    sums: unsafe { std::slice::from_raw_parts_mut(sums, channels) },
                };
                match blocking.word {
                    Word::Single => dispatch(self.isa, sum),
                    Word::Pair => dispatch_pairs(self.isa, sum),
                }
            }
            for d in 0..extents.kernel[0] {
                let planes = self.valid(0, start[0], d);
                for h in 0..extents.kernel[1] {
                    let rows = self.valid(1, start[1], h);
                    if !planes.is_empty() && !rows.is_empty() {
                        let staged = [&*staged_input, &*staged_dy];
                        self.add_row_of_taps([group, d, h], [planes.clone(), rows], staged, is_first);
                    } else if is_first {
                        self.clear_row_of_taps([group, d, h]);
                    }
                }
            }
        }
    }

    /// Stages a window in blocks of `block` channels: voxel by voxel, or in pairs of them.
    fn stage<E: Element>(
        &self,
        source: &Source<'_, E>,
        begin: Begin,
        window: Window,
        channels: Range<usize>,
        block: usize,
        staged: &mut [f32],
    ) {
        match self.blocking.word {
            // Channels that do not exist are never stored, so they need not be zeros.
            Word::Single => source.stage((self.isa, Word::Single), window, channels, block, 0, staged),
            Word::Pair => source.interleave(self.isa, begin, window, channels, block, staged),
        }
    }

    /// Planes (or rows) of the slab that exist and whose input at tap `tap` lies inside the volume.
    fn valid(&self, axis: usize, start: isize, tap: usize) -> Range<usize> {
        let extents = self.extents;
        let shift = start + tap as isize - extents.pad_before[axis] as isize;
        let count = (extents.output[axis] as isize - start).min(self.blocking.slab[axis] as isize);
        let begin = (-shift).max(0);
        let end = (extents.input[axis] as isize - shift).min(count).max(begin);
        begin as usize..end as usize
    }

    /// All register blocks of one (group, kd, kh).
    fn add_row_of_taps(
        &self,
        [group, d, h]: [usize; 3],
        [planes, rows]: [Range<usize>; 2],
        [staged_input, staged_dy]: [&[f32]; 2],
        is_first: bool,
    ) {
        let (extents, blocking) = (self.extents, self.blocking);
        let OuterShape { taps, channels, .. } = blocking.shape;
        let [[_, input_rows, voxels], [_, dy_rows, dy_voxels]] = extents.staged_extents(blocking);
        let words = voxels / blocking.word.elements();
        let input_row = self.channels_in.len().div_ceil(BLOCK) * words * BLOCK;
        let dy_row = self.channels_out.len().div_ceil(blocking.width) * dy_voxels * blocking.width;
        let input = &staged_input[((planes.start + d) * input_rows + rows.start + h) * input_row..];
        let dy = &staged_dy[(planes.start * dy_rows + rows.start) * dy_row..];
        for out in (0..self.channels_out.len()).step_by(blocking.width) {
            for channel in (0..self.channels_in.len()).step_by(channels) {
                for w in (0..extents.kernel[2]).step_by(taps) {
                    let first_dy = (out / blocking.width * dy_voxels + extents.kernel[2] - 1 - w) * blocking.width;
                    let tap = (d * extents.kernel[1] + h) * extents.kernel[2] + w;
                    let outer = Outer {
                        word: blocking.word,
                        input: input[channel / BLOCK * words * BLOCK + channel % BLOCK..].as_ptr(),
                        input_plane_stride: input_rows * input_row,
                        input_row_stride: input_row,
                        dy: dy[first_dy..].as_ptr(),
                        dy_plane_stride: dy_rows * dy_row,
                        dy_row_stride: dy_row,
                        extents: [planes.len(), rows.len(), words],
                        sums: self.address(group, tap, self.channels_in.start + channel, self.channels_out.start + out),
                        tap_stride: extents.channels_in * extents.channels_out,
                        channel_stride: extents.channels_out,
                        channels_in: channels.min(self.channels_in.len() - channel),
                        channels_out: blocking.width.min(self.channels_out.len() - out),
                        accumulate: !is_first,
                    };
                    // SAFETY: `Threads` checked the instruction set. The staged slabs hold whole register blocks: `valid` keeps
                    // planes and rows inside both, and gradients reach `taps - 1 <= kernel - 1` voxels before `first_dy`,
                    // which starts that far behind the row's margin. The sums of these channels, taps and this slice belong
                    // to this task alone.
                    unsafe { (blocking.function)(self.isa, &outer) };
                }
            }
        }
    }
}
