//! The U-Net, recorded on a tape: five levels down, four up, a head.

use super::{UNetConfig, architecture::LEVELS};
use crate::{
    Result,
    graph::{Role, Tape, ValueId},
    ops::{
        batch_norm::{BatchNorm, BatchNormInference, BatchNormRunning},
        concat::Concat,
        conv_transpose3d::{self, ConvTranspose3d},
        conv3d::{self, Conv3d},
        dropout::Dropout,
        elementwise::Cast,
        max_pool::MaxPool,
        upsample::Upsample,
    },
    tensor::{DType, Shape, Spec},
};

/// Added to variances, as in Keras.
const EPSILON: f64 = 1e-3;
/// Share of the moving averages that stays at each step, as in Keras.
const MOMENTUM: f64 = 0.99;

/// Which statistics normalise, and whether elements are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The batch's statistics; dropout draws from this random-number state.
    Training {
        /// Four words, see [`crate::ops::dropout`].
        rng: ValueId,
    },
    /// The moving averages; no dropout.
    Inference,
}

/// Records the layers of one network.
#[derive(Debug)]
pub struct UNet<'a> {
    tape: &'a mut Tape,
    config: UNetConfig,
    mode: Mode,
    dropouts: u32,
}

/// What a block leaves: its second activation as it is, and normalised.
struct Block {
    activated: ValueId,
    normalized: ValueId,
}

impl<'a> UNet<'a> {
    /// A network on this tape.
    pub fn new(tape: &'a mut Tape, config: UNetConfig, mode: Mode) -> Self {
        Self { tape, config, mode, dropouts: 0 }
    }

    /// Records the network on `x` `[N, D, H, W, channels]` in fp32; returns the logits `[N, D, H, W, outputs]` in the
    /// network's precision.
    ///
    /// # Errors
    /// If the extents do not fit the network.
    pub fn record(mut self, x: ValueId) -> Result<ValueId> {
        let config = self.config;
        let normalized = config.architecture.is_normalized();
        let filters = config.filters();
        let mut skips = Vec::with_capacity(LEVELS - 1);
        let mut x = self.cast("images.cast", x)?;
        for (index, &channels) in filters.iter().enumerate() {
            let level = index + 1;
            let scope = format!("encoder.{level}");
            if index > 0 {
                x = self.tape.record1(format!("{scope}.pool"), MaxPool, &[x])?;
            }
            let block = self.block(&scope, x, channels)?;
            x = block.normalized;
            if !normalized && level >= 4 {
                x = self.dropout(&scope, x)?;
            }
            // Levels 1 to 3 of the normalised networks hand on what came before the last normalisation; level 4 what
            // came after it. So does the reference, and weights are only comparable if we do.
            skips.push(if normalized && level <= 3 { block.activated } else { x });
        }
        for index in (0..LEVELS - 1).rev() {
            let scope = format!("decoder.{}", index + 1);
            let up = self.enlarge(&scope, x, config.up_filters()[index])?;
            let joined = self.tape.record1(format!("{scope}.concat"), Concat, &[skips[index], up])?;
            x = self.block(&scope, joined, filters[index])?.normalized;
        }
        if config.head_filters > 0 {
            x = self.convolution("head.conv", x, [3; 3], config.head_filters, true)?;
            x = self.norm("head.norm", x)?;
        }
        self.convolution("head.output", x, [1; 3], config.outputs(), false)
    }

    fn block(&mut self, scope: &str, x: ValueId, channels: usize) -> Result<Block> {
        let x = self.convolution(&format!("{scope}.conv_a"), x, [3; 3], channels, true)?;
        let x = self.norm(&format!("{scope}.norm_a"), x)?;
        let activated = self.convolution(&format!("{scope}.conv_b"), x, [3; 3], channels, true)?;
        let normalized = self.norm(&format!("{scope}.norm_b"), activated)?;
        Ok(Block { activated, normalized })
    }

    fn enlarge(&mut self, scope: &str, x: ValueId, channels: usize) -> Result<ValueId> {
        let name = format!("{scope}.up");
        let y = if self.config.architecture.is_transposed() {
            let filter = conv_transpose3d::filter_shape(self.channels(x), channels);
            let operands = [x, self.filter(&name, filter)?, self.bias(&name, channels)];
            self.tape.record1(name, ConvTranspose3d, &operands)?
        } else {
            let x = self.tape.record1(format!("{scope}.upsample"), Upsample, &[x])?;
            self.convolution(&name, x, [2; 3], channels, true)?
        };
        self.norm(&format!("{scope}.up_norm"), y)
    }

    fn convolution(
        &mut self,
        name: &str,
        x: ValueId,
        kernel: [usize; 3],
        channels: usize,
        relu: bool,
    ) -> Result<ValueId> {
        let filter = conv3d::filter_shape(kernel, self.channels(x), channels);
        let operands = [x, self.filter(name, filter)?, self.bias(name, channels)];
        self.tape.record1(name, Conv3d { kernel, relu }, &operands)
    }

    /// Batch normalisation, in the architectures that have it.
    fn norm(&mut self, name: &str, x: ValueId) -> Result<ValueId> {
        if !self.config.architecture.is_normalized() {
            return Ok(x);
        }
        let spec = Spec::f32_vector(self.channels(x));
        let gamma = self.parameter(name, "weight", spec);
        let beta = self.parameter(name, "bias", spec);
        let mean = self.tape.source(format!("{name}.running_mean"), spec, Role::Running);
        let variance = self.tape.source(format!("{name}.running_var"), spec, Role::Running);
        match self.mode {
            Mode::Inference => {
                self.tape.record1(name, BatchNormInference { epsilon: EPSILON }, &[x, gamma, beta, mean, variance])
            }
            Mode::Training { .. } => {
                let results = self.tape.record(name, BatchNorm { epsilon: EPSILON }, &[x, gamma, beta])?;
                let operands = [mean, variance, results[1], results[2]];
                self.tape.record(format!("{name}.running"), BatchNormRunning { momentum: MOMENTUM }, &operands)?;
                Ok(results[0])
            }
        }
    }

    fn dropout(&mut self, scope: &str, x: ValueId) -> Result<ValueId> {
        let layer = self.dropouts;
        self.dropouts += 1;
        match self.mode {
            Mode::Training { rng } if self.config.dropout_rate > 0.0 => {
                let op = Dropout { rate: self.config.dropout_rate, layer };
                self.tape.record1(format!("{scope}.dropout"), op, &[x, rng])
            }
            _ => Ok(x),
        }
    }

    /// A convolution's filter, in the network's precision.
    fn filter(&mut self, layer: &str, shape: Shape) -> Result<ValueId> {
        let weight = self.parameter(layer, "weight", Spec::f32(shape));
        self.cast(&format!("{layer}.weight.cast"), weight)
    }

    /// The value in the network's precision: itself, or a copy.
    fn cast(&mut self, name: &str, x: ValueId) -> Result<ValueId> {
        match self.config.precision.activations() {
            DType::F32 => Ok(x),
            to => self.tape.record1(name, Cast { to }, &[x]),
        }
    }

    fn parameter(&mut self, layer: &str, kind: &str, spec: Spec) -> ValueId {
        self.tape.source(format!("{layer}.{kind}"), spec, Role::Parameter)
    }

    fn bias(&mut self, layer: &str, channels: usize) -> ValueId {
        self.parameter(layer, "bias", Spec::f32_vector(channels))
    }

    fn channels(&self, x: ValueId) -> usize {
        self.tape.graph().value(x).spec.shape.volume().expect("an activation has five axes").c
    }
}
