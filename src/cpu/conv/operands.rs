//! What a fused convolution reads, and what it does with its sums.

/// One of the tensors that a convolution reads side by side: their concatenation along the channels is never made.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a, E> {
    /// `[N, D, H, W, channels]`.
    pub data: &'a [E],
    /// Its channels.
    pub channels: usize,
    /// Batch norm, applied while loading: `x * scale + shift` per channel, in fp32, and rounded as if it had been stored where the
    /// arithmetic is in bfloat16. The zero padding around the volume stays zero.
    pub scale_shift: Option<(&'a [f32], &'a [f32])>,
}

impl<'a, E> Input<'a, E> {
    /// A tensor as it is.
    pub fn plain(data: &'a [E], channels: usize) -> Self {
        Self { data, channels, scale_shift: None }
    }
}

/// The gradient of a convolution's output.
#[derive(Clone, Copy, Debug)]
pub struct Gradient<'a, E> {
    /// `[N, D, H, W, channels_out]`.
    pub data: &'a [E],
    /// The result of the ReLU behind the convolution, if the gradient is that ReLU's: elements count as zero where the result is not
    /// positive.
    pub relu: Option<&'a [E]>,
}

impl<'a, E> Gradient<'a, E> {
    /// A gradient as it is.
    pub fn plain(data: &'a [E]) -> Self {
        Self { data, relu: None }
    }
}

/// What fprop does with its sums before it stores them.
#[derive(Debug, Default)]
pub struct Epilogue<'a> {
    /// Added, one element per output channel.
    pub bias: Option<&'a [f32]>,
    /// Negative results become 0.
    pub relu: bool,
    /// Receive, per output channel, the sums of the stored results and of their squares: batch norm's statistics.
    pub statistics: Option<[&'a mut [f64]; 2]>,
}

impl Epilogue<'_> {
    /// Checks the lengths against the number of output channels.
    ///
    /// # Panics
    /// If one does not fit.
    pub(super) fn check(&self, channels: usize) {
        assert!(self.bias.is_none_or(|bias| bias.len() == channels), "bias length");
        let lengths_fit = |both: &[&mut [f64]; 2]| both.iter().all(|sums| sums.len() == channels);
        assert!(self.statistics.as_ref().is_none_or(lengths_fit), "statistics lengths");
    }
}
