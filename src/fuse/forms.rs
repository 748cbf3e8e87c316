//! The operations that others can be merged into, in one form for the plain and the fused ones.

use std::{any::Any, sync::Arc};

use crate::graph::{Op, ValueId};
use crate::ops::{
    batch_norm::BatchNormBackward,
    batch_norm_fused::FusedBatchNormBackward,
    conv_transpose3d::{ConvTranspose3d, ConvTranspose3dWgrad},
    conv_transpose3d_fused::{FusedConvTranspose3d, FusedConvTranspose3dWgrad},
    conv3d::{Conv3d, Conv3dDgrad, Conv3dWgrad},
    conv3d_fused::{FusedConv3d, FusedConv3dDgrad, FusedConv3dWgrad},
    max_pool::{MaxPool, MaxPoolBackward},
    max_pool_fused::{FusedMaxPool, FusedMaxPoolBackward},
    sources::{Load, Sources},
};

/// An operation with all that was merged into it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form {
    Conv(FusedConv3d),
    ConvWgrad(FusedConv3dWgrad),
    ConvDgrad(FusedConv3dDgrad),
    Up(FusedConvTranspose3d),
    UpWgrad(FusedConvTranspose3dWgrad),
    Pool(Load),
    PoolBackward(FusedMaxPoolBackward),
    NormBackward(FusedBatchNormBackward),
}

/// The operation as this type, if it is one.
pub(super) fn cast<T: Op + Copy>(op: &dyn Op) -> Option<T> {
    (op as &dyn Any).downcast_ref::<T>().copied()
}

impl Form {
    /// The form of an operation; none: nothing can be merged into it.
    pub(super) fn of(op: &dyn Op) -> Option<Self> {
        let one = Sources::one(Load::Plain);
        let plain_conv = |Conv3d { kernel, relu }| FusedConv3d { kernel, sources: one, relu, statistics: false };
        let plain_wgrad = |Conv3dWgrad { kernel }| FusedConv3dWgrad { kernel, sources: one, relu: false };
        let plain_dgrad = |Conv3dDgrad { kernel }| FusedConv3dDgrad { kernel, first: None, relu: false };
        let plain_up = |ConvTranspose3d| FusedConvTranspose3d { load: Load::Plain, statistics: false };
        let plain_up_wgrad = |ConvTranspose3dWgrad| FusedConvTranspose3dWgrad { load: Load::Plain };
        let plain_pool = |MaxPoolBackward| FusedMaxPoolBackward { load: Load::Plain, accumulate: false };
        let plain_norm =
            |BatchNormBackward { epsilon }| FusedBatchNormBackward { epsilon, accumulate: false, relu: false };
        None.or_else(|| cast(op).map(plain_conv).or_else(|| cast(op)).map(Self::Conv))
            .or_else(|| cast(op).map(plain_wgrad).or_else(|| cast(op)).map(Self::ConvWgrad))
            .or_else(|| cast(op).map(plain_dgrad).or_else(|| cast(op)).map(Self::ConvDgrad))
            .or_else(|| cast(op).map(plain_up).or_else(|| cast(op)).map(Self::Up))
            .or_else(|| cast(op).map(plain_up_wgrad).or_else(|| cast(op)).map(Self::UpWgrad))
            .or_else(|| cast(op).map(|MaxPool| Self::Pool(Load::Plain)))
            .or_else(|| cast(op).map(|FusedMaxPool| Self::Pool(Load::Normalised)))
            .or_else(|| cast(op).map(plain_pool).or_else(|| cast(op)).map(Self::PoolBackward))
            .or_else(|| cast(op).map(plain_norm).or_else(|| cast(op)).map(Self::NormBackward))
    }

    /// The operation of this form: the plain one if nothing is merged into it.
    pub(super) fn op(self) -> Arc<dyn Op> {
        let one = Sources::one(Load::Plain);
        match self {
            Self::Conv(FusedConv3d { kernel, sources, relu, statistics: false }) if sources == one => {
                Arc::new(Conv3d { kernel, relu })
            }
            Self::Conv(op) => Arc::new(op),
            Self::ConvWgrad(FusedConv3dWgrad { kernel, sources, relu: false }) if sources == one => {
                Arc::new(Conv3dWgrad { kernel })
            }
            Self::ConvWgrad(op) => Arc::new(op),
            Self::ConvDgrad(FusedConv3dDgrad { kernel, first: None, relu: false }) => Arc::new(Conv3dDgrad { kernel }),
            Self::ConvDgrad(op) => Arc::new(op),
            Self::Up(FusedConvTranspose3d { load: Load::Plain, statistics: false }) => Arc::new(ConvTranspose3d),
            Self::Up(op) => Arc::new(op),
            Self::UpWgrad(FusedConvTranspose3dWgrad { load: Load::Plain }) => Arc::new(ConvTranspose3dWgrad),
            Self::UpWgrad(op) => Arc::new(op),
            Self::Pool(Load::Plain) => Arc::new(MaxPool),
            Self::Pool(Load::Normalised) => Arc::new(FusedMaxPool),
            Self::PoolBackward(FusedMaxPoolBackward { load: Load::Plain, accumulate: false }) => {
                Arc::new(MaxPoolBackward)
            }
            Self::PoolBackward(op) => Arc::new(op),
            Self::NormBackward(FusedBatchNormBackward { epsilon, accumulate: false, relu: false }) => {
                Arc::new(BatchNormBackward { epsilon })
            }
            Self::NormBackward(op) => Arc::new(op),
        }
    }

    /// The operands with `x * scale + shift` in place of the tensor at `operand`, if it is one that is read plain now.
    pub(super) fn normalise(
        &mut self,
        operand: usize,
        normalised: [ValueId; 3],
        inputs: &[ValueId],
    ) -> Option<Vec<ValueId>> {
        let load = match self {
            Self::Conv(FusedConv3d { sources, .. }) | Self::ConvWgrad(FusedConv3dWgrad { sources, .. }) => {
                source_at(sources, operand)?
            }
            Self::Up(FusedConvTranspose3d { load, .. })
            | Self::UpWgrad(FusedConvTranspose3dWgrad { load })
            | Self::Pool(load)
            | Self::PoolBackward(FusedMaxPoolBackward { load, .. })
                if operand == 0 =>
            {
                load
            }
            _ => return None,
        };
        if *load != Load::Plain {
            return None;
        }
        *load = Load::Normalised;
        Some(with(inputs, operand, &normalised))
    }

    /// The operands with two tensors side by side in place of the only one.
    pub(super) fn join(&mut self, operand: usize, parts: [ValueId; 2], inputs: &[ValueId]) -> Option<Vec<ValueId>> {
        let (Self::Conv(FusedConv3d { sources, .. }) | Self::ConvWgrad(FusedConv3dWgrad { sources, .. })) = self else {
            return None;
        };
        if operand != 0 || *sources != Sources::one(Load::Plain) {
            return None;
        }
        *sources = Sources::two(Load::Plain, Load::Plain);
        Some(with(inputs, operand, &parts))
    }

    /// The operands with a gradient that has yet to pass the ReLU whose result is `y`, in place of the one at `operand`.
    pub(super) fn mask(&mut self, operand: usize, masked: [ValueId; 2], inputs: &[ValueId]) -> Option<Vec<ValueId>> {
        let (relu, dy) = match self {
            Self::ConvWgrad(FusedConv3dWgrad { relu, sources, .. }) => (relu, sources.operands()),
            Self::ConvDgrad(FusedConv3dDgrad { relu, .. }) => (relu, 0),
            _ => return None,
        };
        if *relu || operand != dy {
            return None;
        }
        *relu = true;
        Some(with(inputs, operand, &masked))
    }

    /// The operands with another gradient that is added to the first result.
    pub(super) fn accumulate(&mut self, addend: ValueId, inputs: &[ValueId]) -> Option<Vec<ValueId>> {
        let accumulate = match self {
            Self::PoolBackward(FusedMaxPoolBackward { accumulate, .. })
            | Self::NormBackward(FusedBatchNormBackward { accumulate, relu: false, .. }) => accumulate,
            _ => return None,
        };
        if *accumulate {
            return None;
        }
        *accumulate = true;
        Some(inputs.iter().copied().chain([addend]).collect())
    }

    /// Takes the statistics of the result as well.
    pub(super) fn take_statistics(&mut self) -> Option<()> {
        let (Self::Conv(FusedConv3d { statistics, .. }) | Self::Up(FusedConvTranspose3d { statistics, .. })) = self
        else {
            return None;
        };
        (!std::mem::replace(statistics, true)).then_some(())
    }
}

/// How the source at this operand is read.
fn source_at(sources: &mut Sources, operand: usize) -> Option<&mut Load> {
    let index = sources.list().position(|source| source.tensor == operand)?;
    if index == 0 { Some(&mut sources.first) } else { sources.second.as_mut() }
}

/// The operands with others in place of one.
fn with(inputs: &[ValueId], operand: usize, others: &[ValueId]) -> Vec<ValueId> {
    let (before, after) = inputs.split_at(operand);
    before.iter().chain(others).chain(&after[1..]).copied().collect()
}
