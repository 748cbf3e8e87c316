//! Direct convolutions on N D H W C fp32 tensors: no im2col copy, sums held in registers.
//!
//! - `stage`: a slab of the input with its halo, zero-padded, in channel blocks, in the second-level cache;
//! - `pack`: filters in reading order; `tile`, `correlate`: fprop and dgrad (the same correlation with another filter view);
//! - `outer`, `wgrad`: filter gradients.

mod correlate;
mod outer;
mod pack;
mod stage;
mod tile;
mod transposed;
mod wgrad;

pub use transposed::TransposedConvolution;

use self::{
    correlate::Target,
    pack::{Axis, FilterLayout},
    stage::{PHASES, Segment, Source, dense_strides},
};
use super::{reduce, threads::Threads};

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

    /// Workspace elements of [`Convolution::fprop`] on `threads` threads.
    pub fn fprop_workspace(&self, threads: usize) -> usize {
        self.forward().workspace(threads)
    }

    /// Workspace elements of [`Convolution::dgrad`] on `threads` threads.
    pub fn dgrad_workspace(&self, threads: usize) -> usize {
        self.backward().workspace(threads)
    }

    /// Workspace elements of [`Convolution::wgrad`] on `threads` threads.
    pub fn wgrad_workspace(&self, threads: usize) -> usize {
        self.gradient().workspace(threads).max(reduce::sums_workspace(self.output_voxels(), self.channels_out))
    }

    /// Output from input, filter and bias, with ReLU if asked. `workspace` needs [`Convolution::fprop_workspace`] elements.
    ///
    /// # Panics
    /// If a slice does not have its tensor's length, or the workspace is too short.
    #[expect(clippy::too_many_arguments, reason = "the operation's tensors")]
    pub fn fprop(
        &self,
        threads: &Threads,
        input: &[f32],
        filter: &[f32],
        bias: Option<&[f32]>,
        relu: bool,
        output: &mut [f32],
        workspace: &mut [f32],
    ) {
        self.check(input, filter, output);
        assert!(bias.is_none_or(|bias| bias.len() == self.channels_out), "bias length");
        let source = Source::new([Segment::dense(input, self.input, self.channels_in)], self.input);
        let layout = self.layout();
        let strides = dense_strides(self.output, self.channels_out);
        let target = Target { output, strides, group_offsets: [0; PHASES], bias, relu };
        self.forward().run(threads, &source, (filter, &layout), target, workspace);
    }

    /// Gradient of the input from the gradient of the output. `workspace` needs [`Convolution::dgrad_workspace`] elements.
    ///
    /// # Panics
    /// If a slice does not have its tensor's length, or the workspace is too short.
    pub fn dgrad(&self, threads: &Threads, dy: &[f32], filter: &[f32], dx: &mut [f32], workspace: &mut [f32]) {
        self.check(dx, filter, dy);
        let source = Source::new([Segment::dense(dy, self.output, self.channels_out)], self.output);
        let layout = self.exchanged_layout();
        let strides = dense_strides(self.input, self.channels_in);
        let target = Target { output: dx, strides, group_offsets: [0; PHASES], bias: None, relu: false };
        self.backward().run(threads, &source, (filter, &layout), target, workspace);
    }

    /// Gradients of the filter and, if asked, of the bias. `workspace` needs [`Convolution::wgrad_workspace`] elements.
    ///
    /// # Panics
    /// If a slice does not have its tensor's length, or the workspace is too short.
    pub fn wgrad(
        &self,
        threads: &Threads,
        input: &[f32],
        dy: &[f32],
        dfilter: &mut [f32],
        dbias: Option<&mut [f32]>,
        workspace: &mut [f32],
    ) {
        self.check(input, dfilter, dy);
        let source = Source::new([Segment::dense(input, self.input, self.channels_in)], self.input);
        let gradient = Source::new([Segment::dense(dy, self.output, self.channels_out)], self.output);
        if self.exchanges_wgrad() {
            let layout = self.exchanged_layout();
            self.gradient().run(threads, &gradient, &[source], dfilter, &layout, workspace);
        } else {
            self.gradient().run(threads, &source, &[gradient], dfilter, &self.layout(), workspace);
        }
        if let Some(dbias) = dbias {
            reduce::sum(threads, dy, self.channels_out, dbias, workspace);
        }
    }

    fn output_voxels(&self) -> usize {
        self.batch * self.output.iter().product::<usize>()
    }

    fn check(&self, input: &[f32], filter: &[f32], output: &[f32]) {
        assert_eq!(input.len(), self.input_len(), "input length of {self:?}");
        assert_eq!(filter.len(), self.filter_len(), "filter length of {self:?}");
        assert_eq!(output.len(), self.output_len(), "output length of {self:?}");
        assert!(
            (0..3).all(|axis| self.pad_before[axis] < self.kernel[axis]),
            "padding wider than the kernel: {self:?}"
        );
    }

    fn forward(&self) -> correlate::Extents {
        correlate::Extents {
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
    fn backward(&self) -> correlate::Extents {
        correlate::Extents {
            batch: self.batch,
            output: self.input,
            kernel: self.kernel,
            pad_before: self.pad_after(),
            channels_in: self.channels_out,
            channels_out: self.channels_in,
            groups: 1,
        }
    }

    fn gradient(&self) -> wgrad::Extents {
        let plain = wgrad::Extents {
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
