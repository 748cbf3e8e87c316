//! What a convolution reads: tensors side by side in the channel direction, and a window over them.

use std::ops::Range;

use crate::cpu::{Element, simd::prefetch};

/// Consecutive channels that lie in one tensor.
#[derive(Clone, Copy)]
pub(super) struct Segment<'a, E> {
    pub data: &'a [E],
    /// Element of voxel (0, 0, 0, 0).
    pub offset: usize,
    /// Elements from one sample, plane, row and voxel to the next.
    pub strides: [usize; 4],
    pub channels: usize,
    /// `x * scale + shift` per channel, applied inside the volume only: the padding stays zero.
    pub affine: Option<[&'a [f32]; 2]>,
    /// A tensor of the same layout: elements count as zero where it is not positive (the backward pass of a ReLU).
    pub mask: Option<&'a [E]>,
}

impl<'a, E> Segment<'a, E> {
    /// A dense N D H W C tensor.
    pub(super) fn dense(data: &'a [E], extents: [usize; 3], channels: usize) -> Self {
        Self { data, offset: 0, strides: dense_strides(extents, channels), channels, affine: None, mask: None }
    }

    /// The voxel pairs `(2 d + pd, 2 h + ph, 2 w)` and `(.., 2 w + 1)` of a dense tensor of twice the `extents`, as one
    /// voxel of `2 * channels` channels each: the two lie side by side. `phase = 2 pd + ph`.
    pub(super) fn phase(data: &'a [E], extents: [usize; 3], channels: usize, phase: usize) -> Self {
        Self {
            data,
            offset: phase_offset(extents, channels, phase),
            strides: phase_strides(extents, channels),
            channels: 2 * channels,
            affine: None,
            mask: None,
        }
    }
}

/// The most tensors that one source can be made of: the phases of a 2x2x2 stride-2 grid.
pub(super) const PHASES: usize = 4;

/// Elements from one sample, plane, row and voxel pair of a phase to the next.
pub(super) fn phase_strides(extents: [usize; 3], channels: usize) -> [usize; 4] {
    let [n, d, h, w] = dense_strides(extents.map(|extent| 2 * extent), channels);
    [n, 2 * d, 2 * h, 2 * w]
}

/// First element of phase `2 pd + ph` in a dense tensor of twice the `extents`.
pub(super) fn phase_offset(extents: [usize; 3], channels: usize, phase: usize) -> usize {
    let [_, d, h, _] = dense_strides(extents.map(|extent| 2 * extent), channels);
    phase / 2 * d + phase % 2 * h
}

/// Elements from one sample, plane, row and voxel to the next in a dense tensor.
pub(super) fn dense_strides([d, h, w]: [usize; 3], channels: usize) -> [usize; 4] {
    [d * h * w * channels, h * w * channels, w * channels, channels]
}

/// What a convolution reads: segments side by side in the channel direction.
#[derive(Clone, Copy)]
pub(super) struct Source<'a, E> {
    segments: [Option<Segment<'a, E>>; PHASES],
    pub extents: [usize; 3],
}

/// Where a staged buffer lies in the volume; voxels outside are zero.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub sample: usize,
    /// First plane, row and voxel; may be negative.
    pub start: [isize; 3],
    /// Planes, rows and voxels.
    pub extents: [usize; 3],
}

impl Window {
    /// Some of its planes.
    pub(super) fn planes(&self, planes: Range<usize>) -> Self {
        let ([d, h, w], [_, rows, voxels]) = (self.start, self.extents);
        Self { start: [d + planes.start as isize, h, w], extents: [planes.len(), rows, voxels], ..*self }
    }
}

/// A row of a window.
pub(super) struct Row {
    /// The voxels of it that lie inside the volume, counted from the window's first; none if the row lies outside.
    pub inside: Range<usize>,
    /// Sample, plane, row and voxel in the volume of the first of these.
    pub at: [usize; 4],
}

/// Channels of one segment that lie in one staged block.
pub(super) struct Piece<'a, E> {
    pub segment: &'a Segment<'a, E>,
    /// The first of them, in the segment.
    pub channel: usize,
    /// The first of them, in the staged channels.
    pub place: usize,
    pub count: usize,
}

impl<E> Piece<'_, E> {
    /// Element of the piece's first channel in a row's first voxel.
    #[inline(always)]
    pub(super) fn element(&self, row: &Row) -> usize {
        let offset: usize = (0..4).map(|axis| row.at[axis] * self.segment.strides[axis]).sum();
        self.segment.offset + offset + self.channel
    }
}

impl<'a, E: Element> Source<'a, E> {
    pub(super) fn new(segments: impl IntoIterator<Item = Segment<'a, E>>, extents: [usize; 3]) -> Self {
        let mut source = Self { segments: [None; PHASES], extents };
        for (slot, segment) in source.segments.iter_mut().zip(segments) {
            *slot = Some(segment);
        }
        source
    }

    /// A row of a window.
    #[inline(always)]
    pub(super) fn row(&self, window: &Window, plane: usize, row: usize) -> Row {
        let width = window.extents[2] as isize;
        let inside = |index: isize, extent: usize| usize::try_from(index).ok().filter(|&index| index < extent);
        let d = inside(window.start[0] + plane as isize, self.extents[0]);
        let h = inside(window.start[1] + row as isize, self.extents[1]);
        let begin = (-window.start[2]).clamp(0, width);
        let end = (self.extents[2] as isize - window.start[2]).clamp(begin, width);
        let x = (window.start[2] + begin).max(0) as usize;
        match (d, h) {
            (Some(d), Some(h)) => Row { inside: begin as usize..end as usize, at: [window.sample, d, h, x] },
            _ => Row { inside: 0..0, at: [0; 4] },
        }
    }

    /// Asks for the elements of some rows of a window, numbered through its planes, where these are contiguous.
    pub(super) fn prefetch(&self, window: &Window, rows: Range<usize>, channels: &Range<usize>) {
        for index in rows {
            let row = self.row(window, index / window.extents[1], index % window.extents[1]);
            for piece in self.pieces(channels, usize::MAX) {
                if row.inside.is_empty() || piece.count != piece.segment.strides[3] {
                    continue;
                }
                let elements = piece.element(&row)..piece.element(&row) + row.inside.len() * piece.count;
                prefetch::<E, false>(&piece.segment.data[elements.clone()]);
                if let Some(mask) = piece.segment.mask {
                    prefetch::<E, false>(&mask[elements]);
                }
            }
        }
    }

    /// The pieces of `channels`, which are staged in blocks of `block`. An iterator and no visitor: a closure that grows is
    /// compiled apart from its caller, without the instruction set of its surroundings.
    pub(super) fn pieces(&self, channels: &Range<usize>, block: usize) -> impl Iterator<Item = Piece<'_, E>> {
        let Range { start, end } = *channels;
        let mut segments = self.segments.iter().flatten();
        let (mut current, mut first, mut channel) = (segments.next(), 0, start);
        std::iter::from_fn(move || {
            loop {
                let segment = current?;
                let last = first + segment.channels;
                if channel < end.min(last) {
                    let place = channel - start;
                    let count = (block - place % block).min(end.min(last) - channel);
                    let piece = Piece { segment, channel: channel - first, place, count };
                    channel += count;
                    return Some(piece);
                }
                (current, first) = (segments.next(), last);
            }
        })
    }
}
