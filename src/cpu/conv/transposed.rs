//! The transposed convolution 2x2x2 with stride 2, as convolutions 1x1x1: its output is eight interleaved coarse grids, each
//! with its own tap. The two taps along W write voxels side by side, so they count as one voxel with twice the channels,
//! which leaves four interleaved grids (phases).

use super::{
    Epilogue, Input,
    correlate::{self, Target},
    pack::{Axis, FilterLayout},
    source::{PHASES, Segment, Source, dense_strides, phase_offset, phase_strides},
    wgrad,
};
use crate::{
    cpu::{Element, threads::Threads},
    tensor::DType,
};

/// `output[2 v + phase][co] = bias[co] + sum over ci of input[v][ci] * filter[phase][ci][co]`: no two taps meet.
///
/// Tensors: input `[N, D, H, W, ci]`, output `[N, 2 D, 2 H, 2 W, co]`, filter `[2, 2, 2, ci, co]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TransposedConvolution {
    /// Samples.
    pub batch: usize,
    /// Input planes, rows, voxels per row.
    pub input: [usize; 3],
    /// Input channels.
    pub channels_in: usize,
    /// Output channels.
    pub channels_out: usize,
}

impl TransposedConvolution {
    /// Elements of the input.
    pub fn input_len(&self) -> usize {
        self.batch * self.input.iter().product::<usize>() * self.channels_in
    }

    /// Elements of the output.
    pub fn output_len(&self) -> usize {
        8 * self.batch * self.input.iter().product::<usize>() * self.channels_out
    }

    /// Elements of the filter.
    pub fn filter_len(&self) -> usize {
        8 * self.channels_in * self.channels_out
    }

    /// Floating-point operations of one pass, two per multiply-add.
    pub fn flops(&self) -> usize {
        2 * self.output_len() * self.channels_in
    }

    /// Workspace elements of [`TransposedConvolution::fprop`] of `dtype` on `threads` threads.
    pub fn fprop_workspace(&self, dtype: DType, threads: usize) -> usize {
        2 * self.channels_out + self.forward(dtype).workspace(threads)
    }

    /// Workspace elements of [`TransposedConvolution::dgrad`] of `dtype` on `threads` threads.
    pub fn dgrad_workspace(&self, dtype: DType, threads: usize) -> usize {
        self.backward(dtype).workspace(threads)
    }

    /// Workspace elements of [`TransposedConvolution::wgrad`] of `dtype` on `threads` threads.
    pub fn wgrad_workspace(&self, dtype: DType, threads: usize) -> usize {
        self.gradient(dtype).workspace(threads)
    }

    /// Output from input, filter and bias. `workspace` needs [`TransposedConvolution::fprop_workspace`] elements.
    ///
    /// # Panics
    /// If a slice does not have its tensor's length, or the workspace is too short.
    pub fn fprop<E: Element>(
        &self,
        threads: &Threads,
        input: &[E],
        filter: &[E],
        bias: Option<&[f32]>,
        output: &mut [E],
        workspace: &mut [f32],
    ) {
        let epilogue = Epilogue { bias, relu: false, statistics: None };
        self.fprop_fused(threads, Input::plain(input, self.channels_in), filter, epilogue, output, workspace);
    }

    /// fprop from an input that is normalised while it is loaded if asked, with an [`Epilogue`].
    /// `workspace` needs [`TransposedConvolution::fprop_workspace`] elements.
    ///
    /// # Panics
    /// If a slice does not have its tensor's length, or the workspace is too short.
    pub fn fprop_fused<E: Element>(
        &self,
        threads: &Threads,
        input: Input<'_, E>,
        filter: &[E],
        epilogue: Epilogue<'_>,
        output: &mut [E],
        workspace: &mut [f32],
    ) {
        epilogue.check(self.channels_out);
        let source = self.source(input, filter, output);
        let (pair, workspace) = workspace.split_at_mut(2 * self.channels_out);
        let bias = epilogue.bias.map(|bias| {
            pair.chunks_exact_mut(self.channels_out).for_each(|part| part.copy_from_slice(bias));
            &*pair
        });
        let target = Target {
            output,
            strides: phase_strides(self.input, self.channels_out),
            group_offsets: std::array::from_fn(|phase| phase_offset(self.input, self.channels_out, phase)),
            epilogue: Epilogue { bias, ..epilogue },
        };
        self.forward(E::DTYPE).run(threads, &source, (filter, &self.layout()), target, workspace);
    }

    /// Gradient of the input: the four phases of `dy` side by side are the channels of one 1x1x1 convolution.
    /// `workspace` needs [`TransposedConvolution::dgrad_workspace`] elements.
    ///
    /// # Panics
    /// If a slice does not have its tensor's length, or the workspace is too short.
    pub fn dgrad<E: Element>(&self, threads: &Threads, dy: &[E], filter: &[E], dx: &mut [E], workspace: &mut [f32]) {
        self.check(dx, filter, dy);
        let phases = (0..PHASES).map(|phase| Segment::phase(dy, self.input, self.channels_out, phase));
        let source = Source::new(phases, self.input);
        let layout = self.layout();
        let layout = FilterLayout {
            group_stride: 0,
            input: Axis { inner: self.channels_out, outer_stride: layout.tap_stride, inner_stride: 1 },
            output: layout.input,
            ..layout
        };
        let strides = dense_strides(self.input, self.channels_in);
        let target = Target { output: dx, strides, group_offsets: [0; PHASES], epilogue: Epilogue::default() };
        self.backward(E::DTYPE).run(threads, &source, (filter, &layout), target, workspace);
    }

    /// Gradients of the filter and, if asked, of the bias. `workspace` needs [`TransposedConvolution::wgrad_workspace`] elements.
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
        self.wgrad_fused(threads, Input::plain(input, self.channels_in), dy, dfilter, dbias, workspace);
    }

    /// wgrad from an input that is normalised while it is loaded if asked.
    /// `workspace` needs [`TransposedConvolution::wgrad_workspace`] elements.
    ///
    /// # Panics
    /// If a slice does not have its tensor's length, or the workspace is too short.
    pub fn wgrad_fused<E: Element>(
        &self,
        threads: &Threads,
        input: Input<'_, E>,
        dy: &[E],
        dfilter: &mut [f32],
        dbias: Option<&mut [f32]>,
        workspace: &mut [f32],
    ) {
        let source = self.source(input, dfilter, dy);
        let gradients: [Source<'_, E>; PHASES] = std::array::from_fn(|phase| {
            Source::new([Segment::phase(dy, self.input, self.channels_out, phase)], self.input)
        });
        self.gradient(E::DTYPE).run(threads, &source, &gradients, dfilter, &self.layout(), dbias, workspace);
    }

    fn source<'a, E: Element, F>(&self, input: Input<'a, E>, filter: &[F], output: &[E]) -> Source<'a, E> {
        assert_eq!(input.channels, self.channels_in, "input channels of {self:?}");
        self.check(input.data, filter, output);
        let affine = input.scale_shift.map(|(scale, shift)| {
            assert!(scale.len() == input.channels && shift.len() == input.channels, "coefficients per channel");
            [scale, shift]
        });
        let segment = Segment { affine, ..Segment::dense(input.data, self.input, self.channels_in) };
        Source::new([segment], self.input)
    }

    fn check<E, F>(&self, input: &[E], filter: &[F], output: &[E]) {
        assert_eq!(input.len(), self.input_len(), "input length of {self:?}");
        assert_eq!(filter.len(), self.filter_len(), "filter length of {self:?}");
        assert_eq!(output.len(), self.output_len(), "output length of {self:?}");
    }

    /// Tap `2 phase + i` is half `i` of a phase's output channels.
    fn layout(&self) -> FilterLayout {
        let tap = self.channels_in * self.channels_out;
        FilterLayout {
            group_stride: 2 * tap,
            tap_stride: tap,
            flipped: false,
            taps: 1,
            input: Axis::strided(self.channels_out),
            output: Axis { inner: self.channels_out, outer_stride: tap, inner_stride: 1 },
        }
    }

    fn forward(&self, dtype: DType) -> correlate::Extents {
        correlate::Extents {
            dtype,
            batch: self.batch,
            output: self.input,
            kernel: [1; 3],
            pad_before: [0; 3],
            channels_in: self.channels_in,
            channels_out: 2 * self.channels_out,
            groups: PHASES,
        }
    }

    fn backward(&self, dtype: DType) -> correlate::Extents {
        correlate::Extents {
            channels_in: 2 * PHASES * self.channels_out,
            channels_out: self.channels_in,
            groups: 1,
            ..self.forward(dtype)
        }
    }

    fn gradient(&self, dtype: DType) -> wgrad::Extents {
        wgrad::Extents {
            dtype,
            batch: self.batch,
            input: self.input,
            output: self.input,
            kernel: [1; 3],
            pad_before: [0; 3],
            channels_in: self.channels_in,
            channels_out: 2 * self.channels_out,
            groups: PHASES,
            scattered: true,
        }
    }
}
