//! One task of wgrad: some input and output channels of some slabs.
//!
//! It stages a slab of the input with its halo and of the gradient with its margins; both stay in the second-level cache while every row
//! of taps walks them.

#![allow(unsafe_code)]

use std::ops::Range;

use super::{
    interleave::Begin,
    outer::{Outer, OuterShape},
    source::{Source, Window},
    wgrad::{Blocking, Extents},
    wgrad_sums::SumRows,
    word::Word,
};
use crate::cpu::{
    Element, Isa,
    simd::{dispatch, dispatch_pairs},
};

/// Some input and output channels of one slice's partial sums.
pub(super) struct Task<'a> {
    pub extents: &'a Extents,
    pub blocking: &'a Blocking,
    pub isa: Isa,
    pub channels_in: Range<usize>,
    pub channels_out: Range<usize>,
    /// First element of the slice's sums.
    pub sums: *mut f32,
    /// First element of the slice's sums of the output gradient; null if nobody asked or another task adds them.
    pub bias_sums: *mut f32,
}

impl Task<'_> {
    fn address(&self, group: usize, tap: usize, channel_in: usize, channel_out: usize) -> *mut f32 {
        let extents = self.extents;
        let row = (group * extents.taps() + tap) * extents.channels_in + channel_in;
        self.sums.wrapping_add(row * extents.channels_out + channel_out)
    }

    /// Zeros the sums of some rows of taps.
    fn clear_taps(&self, [group, d]: [usize; 2], rows: Range<usize>) {
        let kernel = self.extents.kernel;
        for tap in rows.start * kernel[2]..rows.end * kernel[2] {
            for channel in self.channels_in.clone() {
                let row = self.address(group, d * kernel[1] * kernel[2] + tap, channel, self.channels_out.start);
                // SAFETY: the row lies inside this slice's filter, and no other task has these channels of this slice.
                unsafe { std::ptr::write_bytes(row, 0, self.channels_out.len()) };
            }
        }
    }

    /// What a slab reads: of the input, and of the gradients.
    fn windows(&self, slab: usize) -> [Window; 2] {
        let (extents, blocking) = (self.extents, self.blocking);
        let [_, nd, nh, nw] = extents.slabs(blocking);
        let sample = slab / (nd * nh * nw);
        let index = [slab / (nh * nw) % nd, slab / nw % nh, slab % nw];
        let [d, h, w]: [isize; 3] = std::array::from_fn(|axis| (index[axis] * blocking.slab[axis]) as isize);
        let [pd, ph, _] = extents.pad_before.map(|pad| pad as isize);
        let [input, dy] = extents.staged_extents(blocking);
        // Input voxels at the ragged end count as zeros, and so do gradients outside the volume.
        [
            Window { sample, start: [d - pd, h - ph, w], extents: input },
            Window { sample, start: [d, h, w - self.margin() as isize], extents: dy },
        ]
    }

    /// Voxels of a gradient's window before the input's first.
    fn margin(&self) -> usize {
        self.extents.kernel[2] - 1 - self.extents.pad_before[2]
    }

    /// Adds the sums of some slabs; the task's sums start with the first one.
    pub(super) fn add_slabs<E: Element>(
        &self,
        slabs: Range<usize>,
        input: &Source<'_, E>,
        dy: &[Source<'_, E>],
        [staged_input, staged_dy]: [&mut [f32]; 2],
    ) {
        let (extents, blocking) = (self.extents, self.blocking);
        for slab in slabs.clone() {
            let is_first = slab == slabs.start;
            let [window, dy_window] = self.windows(slab);
            let next = slabs.contains(&(slab + 1)).then(|| self.windows(slab + 1));
            let block = blocking.shape.staged_block();
            self.stage(input, (Begin::Second, is_first), window, self.channels_in.clone(), block, staged_input);
            for (group, gradient) in dy.iter().enumerate() {
                let how = (Begin::Every, is_first);
                self.stage(gradient, how, dy_window, self.channels_out.clone(), blocking.width, staged_dy);
                self.add_to_bias(group, dy_window, staged_dy, is_first);
                // Rows of taps, or as many of them as are walked at once.
                let at_once = if blocking.shape.stacked { extents.kernel[1] } else { 1 };
                let walks = extents.kernel[0] * extents.kernel[1] / at_once;
                for walk in 0..walks {
                    let (d, h) = (walk * at_once / extents.kernel[1], walk * at_once % extents.kernel[1]);
                    if let Some([window, dy_window]) = &next {
                        // Meanwhile a share of what will be staged next is fetched.
                        let share = |window: &Window| {
                            let rows = |walk: usize| walk * window.extents[0] * window.extents[1] / walks;
                            rows(walk)..rows(walk + 1)
                        };
                        if group == 0 {
                            input.prefetch(window, share(window), &self.channels_in);
                        }
                        gradient.prefetch(dy_window, share(dy_window), &self.channels_out);
                    }
                    let start = [0, 1].map(|axis| window.start[axis] + extents.pad_before[axis] as isize);
                    let planes = self.valid(0, start[0], d);
                    // The rows of different taps differ; where they are walked at once, those outside the volume count as zeros.
                    let rows = match blocking.shape.stacked {
                        true => 0..blocking.slab[1].min(extents.output[1] - start[1] as usize),
                        false => self.valid(1, start[1], h),
                    };
                    if !planes.is_empty() && !rows.is_empty() {
                        let staged = [&*staged_input, &*staged_dy];
                        self.add_taps([group, d, h], [planes, rows], staged, is_first);
                    } else if is_first {
                        self.clear_taps([group, d], h..h + at_once);
                    }
                }
            }
        }
    }

    /// Adds a staged gradient to the sums of the bias gradient, if this task has any.
    fn add_to_bias(&self, group: usize, window: Window, staged: &[f32], is_first: bool) {
        if self.bias_sums.is_null() {
            return;
        }
        let sums = self.bias_sums.wrapping_add(group * self.extents.channels_out + self.channels_out.start);
        // SAFETY: these sums exist, and of the tasks of this slice and these output channels only one has them.
        let sums = unsafe {
            if is_first {
                std::ptr::write_bytes(sums, 0, self.channels_out.len());
            }
            std::slice::from_raw_parts_mut(sums, self.channels_out.len())
        };
        let sum = SumRows {
            staged,
            rows: window.extents[0] * window.extents[1],
            row: [window.extents[2], self.blocking.width],
            own: self.margin()..self.margin() + self.blocking.slab[2],
            sums,
        };
        match self.blocking.word {
            Word::Single => dispatch(self.isa, sum),
            Word::Pair => dispatch_pairs(self.isa, sum),
        }
    }

    /// Stages a window in blocks of `block` channels: voxel by voxel, or in pairs of them. Of a task's first slab, which nothing has
    /// fetched, each plane is fetched while the one before it is staged.
    fn stage<E: Element>(
        &self,
        source: &Source<'_, E>,
        (begin, is_first): (Begin, bool),
        window: Window,
        channels: Range<usize>,
        block: usize,
        staged: &mut [f32],
    ) {
        let [planes, rows, voxels] = window.extents;
        let words = match self.blocking.word {
            Word::Pair if begin == Begin::Second => voxels / 2,
            _ => voxels,
        };
        let plane_len = rows * channels.len().div_ceil(block) * block * words;
        let at_once = if is_first { 1 } else { planes };
        for d in (0..planes).step_by(at_once) {
            if is_first && d + 1 < planes {
                source.prefetch(&window.planes(d + 1..d + 2), 0..rows, &channels);
            }
            let (window, staged) = (window.planes(d..d + at_once), &mut staged[d * plane_len..]);
            match self.blocking.word {
                // Channels that do not exist are never stored, so they need not be zeros.
                Word::Single => source.stage((self.isa, Word::Single), window, channels.clone(), block, 0, staged),
                Word::Pair => source.interleave(self.isa, begin, window, channels.clone(), block, staged),
            }
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

    /// All register blocks of one (group, kd, kh), or of all kh from this one on.
    fn add_taps(
        &self,
        [group, d, h]: [usize; 3],
        [planes, rows]: [Range<usize>; 2],
        [staged_input, staged_dy]: [&[f32]; 2],
        is_first: bool,
    ) {
        let (extents, blocking) = (self.extents, self.blocking);
        let OuterShape { taps, channels, stacked, .. } = blocking.shape;
        let block = blocking.shape.staged_block();
        let [[_, input_rows, voxels], [_, dy_rows, dy_voxels]] = extents.staged_extents(blocking);
        let words = voxels / blocking.word.elements();
        let input_row = self.channels_in.len().div_ceil(block) * words * block;
        let dy_row = self.channels_out.len().div_ceil(blocking.width) * dy_voxels * blocking.width;
        let input = &staged_input[((planes.start + d) * input_rows + rows.start + h) * input_row..];
        let dy = &staged_dy[(planes.start * dy_rows + rows.start) * dy_row..];
        let tap_stride = extents.channels_in * extents.channels_out;
        // What takes the place of channels, and the way from one's sums to the next's.
        let (channels_in, channel_stride) = match stacked {
            true => (extents.kernel[1], extents.kernel[2] * tap_stride),
            false => (self.channels_in.len(), extents.channels_out),
        };
        for out in (0..self.channels_out.len()).step_by(blocking.width) {
            for channel in (0..channels_in).step_by(channels) {
                for w in (0..extents.kernel[2]).step_by(taps) {
                    let first_dy = (out / blocking.width * dy_voxels + extents.kernel[2] - 1 - w) * blocking.width;
                    let tap = (d * extents.kernel[1] + h) * extents.kernel[2] + w;
                    let sums = self.address(group, tap, self.channels_in.start, self.channels_out.start + out);
                    let outer = Outer {
                        word: blocking.word,
                        input: input[channel / block * words * block + channel % block..].as_ptr(),
                        input_plane_stride: input_rows * input_row,
                        input_row_stride: input_row,
                        dy: dy[first_dy..].as_ptr(),
                        dy_plane_stride: dy_rows * dy_row,
                        dy_row_stride: dy_row,
                        extents: [planes.len(), rows.len(), words],
                        sums: sums.wrapping_add(channel * channel_stride),
                        tap_stride,
                        channel_stride,
                        channels_in: channels.min(channels_in - channel),
                        channels_out: blocking.width.min(self.channels_out.len() - out),
                        accumulate: !is_first,
                    };
                    // SAFETY: `Threads` checked the instruction set. The staged slabs hold whole register blocks, of single words
                    // if stacked: planes and rows lie inside both, halo included, and gradients reach `taps - 1 <= kernel - 1`
                    // voxels before `first_dy`, which starts that far behind the row's margin. The sums of these channels, taps
                    // and this slice belong to this task alone.
                    unsafe { (blocking.function)(self.isa, &outer) };
                }
            }
        }
    }
}
