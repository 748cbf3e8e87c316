//! Launches of the tensor-core convolutions, plain, fused and transposed: the numbers that `kernels/common/correlate.cuh` and
//! `kernels/common/wgrad.cuh` take. Operands are 16-bit tensors in pieces of eight channels; see `kernels/common/pieces.cuh`.

mod correlate;
mod statistics;
mod wgrad;

pub(in crate::ops) use correlate::{Correlate, CorrelateArguments, Correlation, PackFilterArguments, Pass};
pub(in crate::ops) use statistics::{TileStatistics, TileSums};
pub(in crate::ops) use wgrad::{Wgrad, WgradArguments, WgradProblem};

use super::sources::{self, Load};
use crate::{
    Error, Result,
    machine::{
        arguments,
        lower::{Lower, Operand},
    },
    tensor::Volume,
};

/// Channels of a piece: sixteen bytes.
const PIECE: usize = 8;

arguments!(
    /// Extents of a volume.
    pub(in crate::ops) Extents { n: i32, d: i32, h: i32, w: i32 }
);
arguments!(
    /// A tensor that is read: with scale and shift per channel, or a mask, or none of them (zero).
    pub(in crate::ops) Source { data: u64, scale: u64, shift: u64, mask: u64, channels: i32, unused: i32 }
);
arguments!(
    /// One or two tensors side by side.
    pub(in crate::ops) Sources { first: Source, second: Source }
);
arguments!(
    /// A tensor that is written.
    pub(in crate::ops) Target { data: u64, channels: i32, unused: i32 }
);
arguments!(
    /// One or two tensors side by side.
    pub(in crate::ops) Targets { first: Target, second: Target }
);

/// How the channels of an operand are arranged: as those of tensors, or as the eight voxels of the doubled volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ops) enum Parts {
    Tensors,
    Taps,
}

impl Extents {
    pub(in crate::ops) fn of(volume: Volume) -> Self {
        let [d, h, w] = volume.extent.map(|extent| extent as i32);
        Self { n: volume.n as i32, d, h, w }
    }
}

impl Source {
    const NONE: Self = Self { data: 0, scale: 0, shift: 0, mask: 0, channels: 0, unused: 0 };

    /// A tensor as it is.
    pub(in crate::ops) fn plain(operand: Operand) -> Self {
        Self { data: operand.address, channels: channels(operand) as i32, ..Self::NONE }
    }

    /// A tensor as the operation reads it: its scale and shift are the operands behind it.
    fn read(cx: &Lower<'_>, source: sources::Source) -> Self {
        let plain = Self::plain(cx.input(source.tensor));
        match source.load {
            Load::Plain => plain,
            Load::Normalised => {
                let [scale, shift] = [1, 2].map(|behind| cx.input(source.tensor + behind).address);
                Self { scale, shift, ..plain }
            }
        }
    }
}

impl Sources {
    /// One tensor as it is.
    pub(in crate::ops) fn plain(operand: Operand) -> Self {
        Self { first: Source::plain(operand), second: Source::NONE }
    }

    /// The tensors as the operation reads them.
    pub(in crate::ops) fn read(cx: &Lower<'_>, sources: sources::Sources) -> Self {
        let mut list = sources.list().map(|source| Source::read(cx, source));
        Self { first: list.next().unwrap_or(Source::NONE), second: list.next().unwrap_or(Source::NONE) }
    }

    /// One gradient, zero where the ReLU's result is not positive, if there is one.
    pub(in crate::ops) fn masked(gradient: Operand, relu: Option<Operand>) -> Self {
        let mask = relu.map_or(0, |relu| relu.address);
        Self { first: Source { mask, ..Source::plain(gradient) }, second: Source::NONE }
    }

    fn channels(&self) -> [usize; 2] {
        [self.first.channels as usize, self.second.channels as usize]
    }
}

impl Targets {
    /// One tensor.
    pub(in crate::ops) fn one(operand: Operand) -> Self {
        Self { first: Target::of(operand), second: Target { data: 0, channels: 0, unused: 0 } }
    }

    /// Two tensors side by side.
    pub(in crate::ops) fn two(first: Operand, second: Operand) -> Self {
        Self { first: Target::of(first), second: Target::of(second) }
    }

    fn channels(&self) -> [usize; 2] {
        [self.first.channels as usize, self.second.channels as usize]
    }
}

impl Target {
    fn of(operand: Operand) -> Self {
        Self { data: operand.address, channels: channels(operand) as i32, unused: 0 }
    }
}

impl Parts {
    /// Pieces of one or two tensors with so many channels, or of eight taps with the first's.
    fn pieces(self, channels: [usize; 2]) -> usize {
        let [first, second] = channels.map(|count| count.div_ceil(PIECE));
        match self {
            Self::Tensors => first + second,
            Self::Taps => 8 * first,
        }
    }
}

/// Refuses sources whose planes have 2^31 elements or more: tiles count them in 32 bits, and their number in 64.
fn check_planes(cx: &Lower<'_>, volume: Volume, sources: &Sources, parts: Parts) -> Result<()> {
    let [_, h, w] = volume.extent;
    let doubled = if parts == Parts::Taps { 4 } else { 1 };
    let largest = sources.channels().map(|channels| doubled * h * w * channels).into_iter().max().unwrap_or(0);
    if i32::try_from(largest).is_ok() {
        return Ok(());
    }
    Err(Error::shape(cx.name(), format!("a plane of {largest} elements is too large for tensor cores (2^31)")))
}

fn channels(operand: Operand) -> usize {
    operand.spec.shape.volume().expect("checked when the operation was recorded").c
}

/// Tiles that cover a volume.
fn tiles(volume: Volume, tile: [usize; 3]) -> usize {
    volume.n * volume.extent.iter().zip(tile).map(|(extent, tile)| extent.div_ceil(tile)).product::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_begins_a_piece_of_its_own() {
        let cases = [([0, 0], 0, 0), ([1, 0], 1, 8), ([8, 0], 1, 8), ([9, 0], 2, 16), ([7, 9], 3, 8), ([17, 1], 4, 24)];
        for (channels, tensors, taps) in cases {
            assert_eq!(Parts::Tensors.pieces(channels), tensors, "{channels:?}");
            assert_eq!(Parts::Taps.pieces(channels), taps, "{channels:?}");
        }
    }
}
