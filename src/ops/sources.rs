//! How fused operations read: one tensor or two side by side, each as it is or normalised while it is loaded.
//!
//! A batch norm whose numbers are known is two numbers per channel: `x * scale + shift`. Who reads its result can apply them
//! to what it loads, and a tensor of full resolution is neither written nor read. The same goes for a concatenation: who
//! reads two tensors side by side needs no third one that holds both.

use super::{activation, vector};
use crate::{
    cpu::{CpuCall, Element, Input},
    graph::reference::{Dense, Precision},
    tensor::{DType, Spec, Volume},
};

/// How a tensor is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Load {
    /// As it is: one operand, the tensor.
    Plain,
    /// As `x * scale + shift` per channel: three operands, the tensor and two fp32 vectors. Voxels outside the volume are
    /// zero after it, not before. In a 16-bit type the sum may be rounded as if it had been stored.
    Normalised,
}

/// One tensor, or two of the same extents whose channels count as those of one, the first's before the second's.
/// Their operands come one source after the other: `x`, or `x, scale, shift`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sources {
    /// The tensor with the first channels.
    pub first: Load,
    /// The tensor with the other channels, if there are two.
    pub second: Option<Load>,
}

/// Where a source stands among the operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// The operand that is the tensor.
    pub tensor: usize,
    /// Whether scale and shift are the two operands behind it.
    pub load: Load,
}

impl Load {
    /// Number of operands.
    pub fn operands(self) -> usize {
        match self {
            Self::Plain => 1,
            Self::Normalised => 3,
        }
    }

    /// Checks the operands of a tensor that is read so: the first of these, and what is behind them.
    pub(crate) fn check<'a>(self, inputs: &'a [Spec], what: &str) -> Result<(Spec, &'a [Spec]), String> {
        if inputs.len() < self.operands() {
            return Err(format!("{} operands, {what} alone has {}", inputs.len(), self.operands()));
        }
        let x = activation(&inputs[0], what)?;
        if self == Self::Normalised {
            vector(&inputs[1], x.c, "the scale")?;
            vector(&inputs[2], x.c, "the shift")?;
        }
        Ok((inputs[0], &inputs[self.operands()..]))
    }

    /// The tensor as it is read, by definition, and the operands behind it. Stored as elements of `dtype`, as it would be if
    /// it existed.
    pub(crate) fn apply<T: Precision>(self, inputs: &[Dense<T>], dtype: DType) -> (Dense<T>, &[Dense<T>]) {
        let (own, rest) = inputs.split_at(self.operands());
        let mut x = own[0].clone();
        if let [_, scale, shift] = own {
            let c = scale.data.len();
            x.data
                .iter_mut()
                .enumerate()
                .for_each(|(i, x)| *x = (*x * scale.data[i % c] + shift.data[i % c]).stored(dtype));
        }
        (x, rest)
    }
}

impl Sources {
    /// One tensor.
    pub fn one(first: Load) -> Self {
        Self { first, second: None }
    }

    /// Two tensors side by side.
    pub fn two(first: Load, second: Load) -> Self {
        Self { first, second: Some(second) }
    }

    /// Number of operands.
    pub fn operands(self) -> usize {
        self.first.operands() + self.second.map_or(0, Load::operands)
    }

    /// Each source's place among the operands.
    pub fn list(self) -> impl Iterator<Item = Source> {
        let first = Source { tensor: 0, load: self.first };
        let second = self.second.map(|load| Source { tensor: self.first.operands(), load });
        std::iter::once(first).chain(second)
    }

    /// The spec of the tensors side by side, and the operands behind them.
    pub(crate) fn check(self, inputs: &[Spec]) -> Result<(Spec, &[Spec]), String> {
        let Some(second) = self.second else { return self.first.check(inputs, "the input") };
        let (a, rest) = self.first.check(inputs, "the first input")?;
        let (b, rest) = second.check(rest, "the second input")?;
        let (volume, other) = (volume(&a), volume(&b));
        if volume.with_channels(0) != other.with_channels(0) || a.dtype != b.dtype {
            return Err(format!("inputs {a} and {b} differ in more than channels"));
        }
        Ok((Spec::new(volume.with_channels(volume.c + other.c).shape(), a.dtype), rest))
    }

    /// What [`Self::check`] has accepted before.
    pub(crate) fn joined(self, inputs: &[Spec]) -> (Spec, &[Spec]) {
        self.check(inputs).expect("checked when the operation was recorded")
    }

    /// The tensors side by side as they are read, by definition, and the operands behind them.
    pub(crate) fn join<T: Precision>(self, inputs: &[Dense<T>], dtype: DType) -> (Dense<T>, &[Dense<T>]) {
        let (a, rest) = self.first.apply(inputs, dtype);
        let Some(second) = self.second else { return (a, rest) };
        let (b, rest) = second.apply(rest, dtype);
        let (channels, other) = (a.volume().c, b.volume().c);
        let voxels = a.data.chunks_exact(channels).zip(b.data.chunks_exact(other));
        let data = voxels.flat_map(|(a, b)| a.iter().chain(b)).copied().collect();
        (Dense { shape: a.volume().with_channels(channels + other).shape(), data }, rest)
    }

    /// The sources for the CPU's convolutions: the first `count` of the array.
    pub(crate) fn on_cpu<'a, E: Element>(self, call: &CpuCall<'a>) -> ([Input<'a, E>; 2], usize) {
        let mut inputs = [Input::plain(&[], 0); 2];
        let mut count = 0;
        for source in self.list() {
            inputs[count] = source.on_cpu(call);
            count += 1;
        }
        (inputs, count)
    }
}

impl Source {
    /// This source for the CPU's convolutions.
    pub(crate) fn on_cpu<'a, E: Element>(self, call: &CpuCall<'a>) -> Input<'a, E> {
        let scale_shift = match self.load {
            Load::Plain => None,
            Load::Normalised => Some((call.f32(self.tensor + 1), call.f32(self.tensor + 2))),
        };
        let channels = volume(&call.input_spec(self.tensor)).c;
        Input { data: call.elements(self.tensor), channels, scale_shift }
    }
}

fn volume(spec: &Spec) -> Volume {
    spec.shape.volume().expect("checked when the operation was recorded")
}
