//! Convolutions on N D H W C tensors: no im2col copy, sums held in registers.
//!
//! - `word`: what is multiplied, an fp32 element or a pair of bfloat16 elements;
//! - `source`, `stage`: a slab of the input with its halo, zero-padded, in channel blocks, in the second-level cache;
//! - `pack`: filters in reading order; `tile`, `dot`, `tile_shapes`: the register tiles of fprop and dgrad; `correlate`,
//!   `correlate_task`: the way through the volume (dgrad is the same correlation with another view of the filter);
//! - `narrow`: the end of a tile with 16-bit results that it could not round itself;
//! - `interleave`, `outer`, `wgrad`, `wgrad_task`, `wgrad_sums`: filter gradients;
//! - `winograd`, `winograd_task`, `winograd_wgrad`, `winograd_wgrad_task`, `winograd_transform`: all three in fp32 with 4/9 of the products,
//!   by minimal filtering of 3x3 planes of taps, where that is faster. It is the shape that decides.
//!
//! Tensors that are activations, or their gradients, and filters have one [`Element`] type; biases and the gradients of filters and
//! biases are fp32. Sums are fp32 always and are rounded once, when they are stored.

mod correlate;
mod correlate_task;
mod dot;
mod interleave;
mod narrow;
mod operands;
mod outer;
mod pack;
mod source;
mod stage;
mod tile;
mod tile_shapes;
mod transposed;
mod wgrad;
mod wgrad_sums;
mod wgrad_task;
mod winograd;
mod winograd_task;
mod winograd_transform;
mod winograd_wgrad;
mod winograd_wgrad_task;
mod word;

pub use operands::{Epilogue, Gradient, Input};
pub use transposed::TransposedConvolution;

use std::ops::Range;

use self::{
    correlate::Target,
    pack::{Axis, FilterLayout},
    source::{PHASES, Segment, Source, dense_strides},
};
use super::{Element, reduce, threads::Threads};
use crate::tensor::DType;

/// A convolution with stride 1: `output[v][co] = bias[co] + sum over taps and ci of input[v + tap - pad_before][ci] *
/// filter[tap][ci][co]`, where the input is zero outside its extents.
///
/// Tensors: input `[N, D, H, W, ci]`, output `[N, D, H, W, co]`, filter `[kd, kh, kw, ci, co]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Convolution {
    /// Samples.
    pub batch: usize,
    /// Input planes, rows, voxels per row.
    pub input: [usize; 3],
    /// Output planes, rows, voxels per row.
    pub output: [usize; 3],
    /// Taps along each axis, at least 1.
    pub kernel: [usize; 3],
    /// Zeros before the first voxel of each axis, less than `kernel`.
    pub pad_before: [usize; 3],
    /// Input channels.
    pub channels_in: usize,
    /// Output channels.
    pub channels_out: usize,
}

impl Convolution {
    /// Elements of the input.
    pub fn input_len(&self) -> usize {
        self.batch * self.input.iter().product::<usize>() * self.channels_in
    }

    /// Elements of the output.
    pub fn output_len(&self) -> usize {
        self.batch * self.output.iter().product::<usize>() * self.channels_out
    }

    /// Elements of the filter.
    pub fn filter_len(&self) -> usize {
        self.taps() * self.channels_in * self.channels_out
    }

    /// Floating-point operations of one pass, two per multiply-add, taps in the zero padding included.
    pub fn flops(&self) -> usize {
        2 * self.output_len() * self.taps() * self.channels_in
    }

    fn taps(&self) -> usize {
        self.kernel.iter().product()
    }

    /// Workspace elements of [`Convolution::fprop`] of `dtype` on `threads` threads.
    pub fn fprop_workspace(&self, dtype: DType, threads: usize) -> usize {
        self.forward(dtype).workspace(threads)
    }

    /// Workspace elements of [`Convolution::dgrad`] of `dtype` on `threads` threads.
    pub fn dgrad_workspace(&self, dtype: DType, threads: usize) -> usize {
        self.dgrad_channels_workspace(self.channels_in, dtype, threads)
    }

    /// Workspace elements of [`Convolution::dgrad_fused`] of `dtype` for `channels` input channels on `threads` threads.
    pub fn dgrad_channels_workspace(&self, channels: usize, dtype: DType, threads: usize) -> usize {
        self.backward(channels, dtype).workspace(threads)
    }

    /// Workspace elements of [`Convolution::wgrad`] of `dtype` on `threads` threads.
    pub fn wgrad_workspace(&self, dtype: DType, threads: usize) -> usize {
        self.gradient(dtype).workspace(threads).max(reduce::sums_workspace(self.output_voxels(), self.channels_out))
    }

    /// Output from input, filter and bias, with ReLU if asked. `workspace` needs [`Convolution::fprop_workspace`] elements.
    ///
    /// # Panics
    /// If a slice does not have its tensor's length, or the workspace is too short.
    #[expect(clippy::too_many_arguments, reason = "the operation's tensors")]
    pub fn fprop<E: Element>(
        &self,
        threads: &Threads,
        input: &[E],
        filter: &[E],
        bias: Option<&[f32]>,
        relu: bool,
        output: &mut [E],
        workspace: &mut [f32],
    ) {
        let epilogue = Epilogue { bias, relu, statistics: None };
        self.fprop_fused(threads, &[Input::plain(input, self.channels_in)], filter, epilogue, output, workspace);
    }

    /// fprop from inputs side by side, each normalised while it is loaded if asked, with an [`Epilogue`].
    /// `workspace` needs [`Convolution::fprop_workspace`] elements.
    ///
    /// # Panics
    /// If a slice does not have its tensor's length, the inputs' channels do not add up, there are more than four, or the
    /// workspace is too short.
    pub fn fprop_fused<E: Element>(
        &self,
        threads: &Threads,
        inputs: &[Input<'_, E>],
        filter: &[E],
        epilogue: Epilogue<'_>,
        output: &mut [E],
        workspace: &mut [f32],
    ) {
        self.check(filter, output);
        epilogue.check(self.channels_out);
        let target = Target {
            output,
            strides: dense_strides(self.output, self.channels_out),
            group_offsets: [0; PHASES],
            epilogue,
        };
        self.forward(E::DTYPE).run(threads, &self.source(inputs), (filter, &self.layout()), target, workspace);
    }

    /// Gradient of the input from the gradient of the output. `workspace` needs [`Convolution::dgrad_workspace`] elements.
    ///
    /// # Panics
    /// If a slice does not have its tensor's length, or the workspace is too short.
    pub fn dgrad<E: Element>(&self, threads: &Threads, dy: &[E], filter: &[E], dx: &mut [E], workspace: &mut [f32]) {
        self.dgrad_fused(threads, Gradient::plain(dy), filter, 0..self.channels_in, dx, workspace);
    }

    /// dgrad of some input channels only, as for one of the inputs side by side: `dx` is dense with `channels.len()` channels.
    /// `workspace` needs [`Convolution::dgrad_channels_workspace`] elements.
    ///
    /// # Panics
    /// If a slice does not have its tensor's length, the channels lie outside, or the workspace is too short.
    pub fn dgrad_fused<E: Element>(
        &self,
        threads: &Threads,
        dy: Gradient<'_, E>,
        filter: &[E],
        channels: Range<usize>,
        dx: &mut [E],
        workspace: &mut [f32],
    ) {
        self.check(filter, dy.data);
        assert!(channels.start < channels.end && channels.end <= self.channels_in, "channels {channels:?} of {self:?}");
        let voxels = self.batch * self.input.iter().product::<usize>();
        assert_eq!(dx.len(), voxels * channels.len(), "gradient length of {self:?}");
        let target = Target {
            output: dx,
            strides: dense_strides(self.input, channels.len()),
            group_offsets: [0; PHASES],
            epilogue: Epilogue::default(),
        };
        let filter = (&filter[channels.start * self.channels_out..], &self.exchanged_layout());
        self.backward(channels.len(), E::DTYPE).run(threads, &self.gradient_source(dy), filter, target, workspace);
    }

    /// Gradients of the filter and, if asked, of the bias. `workspace` needs [`Convolution::wgrad_workspace`] elements.
    ///
    /// # Panics
    /// If a slice does not have its tensor's length, or the workspace is too short.
    pub fn wgrad<E: Element>(
        &self,
        threads: &Threads,
        input: &[E],
        dy: &[E],
        dfilter: &mut [f32],
        dbias: Option<&mut [f32]>,
        workspace: &mut [f32],
    ) {
        let inputs = [Input::plain(input, self.channels_in)];
        self.wgrad_fused(threads, &inputs, Gradient::plain(dy), dfilter, dbias, workspace);
    }

    /// wgrad from inputs side by side, each normalised while it is loaded if asked, and a gradient that may still have to pass a
    /// ReLU. `workspace` needs [`Convolution::wgrad_workspace`] elements.
    ///
    /// # Panics
    /// As for [`Convolution::fprop_fused`].
    pub fn wgrad_fused<E: Element>(
        &self,
        threads: &Threads,
        inputs: &[Input<'_, E>],
        dy: Gradient<'_, E>,
        dfilter: &mut [f32],
        dbias: Option<&mut [f32]>,
        workspace: &mut [f32],
    ) {
        self.check(dfilter, dy.data);
        let (source, gradient) = (self.source(inputs), self.gradient_source(dy));
        assert!(dbias.as_ref().is_none_or(|dbias| dbias.len() == self.channels_out), "bias gradient length");
        if !self.exchanges_wgrad() && self.input[2] == self.output[2] {
            // The gradient's sums come from its staged copy.
            self.gradient(E::DTYPE).run(threads, &source, &[gradient], dfilter, &self.layout(), dbias, workspace);
            return;
        }
        if self.exchanges_wgrad() {
            let layout = self.exchanged_layout();
            self.gradient(E::DTYPE).run(threads, &gradient, &[source], dfilter, &layout, None, workspace);
        } else {
            self.gradient(E::DTYPE).run(threads, &source, &[gradient], dfilter, &self.layout(), None, workspace);
        }
        if let Some(dbias) = dbias {
            reduce::masked_sum(threads, dy.data, dy.relu, dbias, workspace);
        }
    }

    /// The inputs side by side.
    fn source<'a, E: Element>(&self, inputs: &[Input<'a, E>]) -> Source<'a, E> {
        let channels = inputs.iter().map(|input| input.channels).sum::<usize>();
        assert!(inputs.len() <= PHASES && channels == self.channels_in, "{channels} input channels for {self:?}");
        let voxels = self.batch * self.input.iter().product::<usize>();
        let segments = inputs.iter().map(|input| {
            assert_eq!(input.data.len(), voxels * input.channels, "input length of {self:?}");
            let affine = input.scale_shift.map(|(scale, shift)| {
                assert!(scale.len() == input.channels && shift.len() == input.channels, "coefficients per channel");
                [scale, shift]
            });
            Segment { affine, ..Segment::dense(input.data, self.input, input.channels) }
        });
        Source::new(segments, self.input)
    }

    fn gradient_source<'a, E: Element>(&self, dy: Gradient<'a, E>) -> Source<'a, E> {
        assert!(dy.relu.is_none_or(|y| y.len() == dy.data.len()), "lengths of the gradient and the ReLU's result");
        let segment = Segment { mask: dy.relu, ..Segment::dense(dy.data, self.output, self.channels_out) };
        Source::new([segment], self.output)
    }

    fn output_voxels(&self) -> usize {
        self.batch * self.output.iter().product::<usize>()
    }

    fn check<F, E>(&self, filter: &[F], output: &[E]) {
        assert_eq!(filter.len(), self.filter_len(), "filter length of {self:?}");
        assert_eq!(output.len(), self.output_len(), "output length of {self:?}");
        assert!(
            (0..3).all(|axis| self.pad_before[axis] < self.kernel[axis]),
            "padding wider than the kernel: {self:?}"
        );
    }

    fn forward(&self, dtype: DType) -> correlate::Extents {
        correlate::Extents {
            dtype,
            batch: self.batch,
            output: self.output,
            kernel: self.kernel,
            pad_before: self.pad_before,
            channels_in: self.channels_in,
            channels_out: self.channels_out,
            groups: 1,
        }
    }

    fn layout(&self) -> FilterLayout {
        FilterLayout {
            group_stride: 0,
            tap_stride: self.channels_in * self.channels_out,
            flipped: false,
            taps: self.taps(),
            input: Axis::strided(self.channels_out),
            output: Axis::strided(1),
        }
    }

    /// The flipped filter with its channels exchanged.
    fn exchanged_layout(&self) -> FilterLayout {
        let layout = self.layout();
        FilterLayout { flipped: true, input: layout.output, output: layout.input, ..layout }
    }

    /// The opposite padding: that of the flipped filter.
    fn pad_after(&self) -> [usize; 3] {
        std::array::from_fn(|axis| self.kernel[axis] - 1 - self.pad_before[axis])
    }

    /// With few filters, wgrad takes the input channels as vectors instead: `dfilter[tap]` is also the sum over input voxels v
    /// of `dy[v - tap + pad_before]` times `input[v]`, the same sum with the tensors exchanged and the taps flipped.
    fn exchanges_wgrad(&self) -> bool {
        self.channels_out < 16 && self.channels_in > self.channels_out
    }

    /// dgrad is the correlation of `dy` with the flipped filter, its channels exchanged.
    fn backward(&self, channels_in: usize, dtype: DType) -> correlate::Extents {
        correlate::Extents {
            dtype,
            batch: self.batch,
            output: self.input,
            kernel: self.kernel,
            pad_before: self.pad_after(),
            channels_in: self.channels_out,
            channels_out: channels_in,
            groups: 1,
        }
    }

    fn gradient(&self, dtype: DType) -> wgrad::Extents {
        let plain = wgrad::Extents {
            dtype,
            batch: self.batch,
            input: self.input,
            output: self.output,
            kernel: self.kernel,
            pad_before: self.pad_before,
            channels_in: self.channels_in,
            channels_out: self.channels_out,
            groups: 1,
            scattered: false,
        };
        if !self.exchanges_wgrad() {
            return plain;
        }
        wgrad::Extents {
            input: self.output,
            output: self.input,
            pad_before: self.pad_after(),
            channels_in: self.channels_out,
            channels_out: self.channels_in,
            scattered: true,
            ..plain
        }
    }
}

#[cfg(test)]
mod tests;
