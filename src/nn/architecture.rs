//! Which U-Net: the four architectures of the reference, and their numbers of filters.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Precision;
use crate::{Error, Result};

/// The network's levels; extents are halved between them, so they must be multiples of 16.
pub const LEVELS: usize = 5;

/// The most channels of an image or of the head, and the most voxels of a batch: far beyond any machine, and small
/// enough that no sum of bytes or operations over a network overflows.
const MOST_CHANNELS: usize = 4096;
const MOST_VOXELS: usize = 1 << 32;

/// How the decoder enlarges, and how blocks are regularised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Architecture {
    /// Nearest upsampling with a 2x2x2 convolution; dropout behind levels 4 and 5.
    #[serde(rename = "upsampling_dropout")]
    UpsamplingDropout,
    /// Transposed convolution; dropout behind levels 4 and 5.
    #[serde(rename = "conv3dtranspose_dropout")]
    Conv3dTransposeDropout,
    /// Nearest upsampling with a 2x2x2 convolution; batch normalisation behind every activation.
    #[serde(rename = "upsampling_batchnormalization")]
    UpsamplingBatchNormalization,
    /// Transposed convolution; batch normalisation behind every activation.
    #[default]
    #[serde(rename = "conv3dtranspose_batchnormalization")]
    Conv3dTransposeBatchNormalization,
}

impl Architecture {
    /// All four.
    pub const ALL: [Self; 4] = [
        Self::UpsamplingDropout,
        Self::Conv3dTransposeDropout,
        Self::UpsamplingBatchNormalization,
        Self::Conv3dTransposeBatchNormalization,
    ];

    /// Whether the decoder enlarges by transposed convolution.
    pub fn is_transposed(self) -> bool {
        matches!(self, Self::Conv3dTransposeDropout | Self::Conv3dTransposeBatchNormalization)
    }

    /// Whether activations are normalised (else levels 4 and 5 have dropout).
    pub fn is_normalized(self) -> bool {
        matches!(self, Self::UpsamplingBatchNormalization | Self::Conv3dTransposeBatchNormalization)
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UpsamplingDropout => "upsampling_dropout",
            Self::Conv3dTransposeDropout => "conv3dtranspose_dropout",
            Self::UpsamplingBatchNormalization => "upsampling_batchnormalization",
            Self::Conv3dTransposeBatchNormalization => "conv3dtranspose_batchnormalization",
        })
    }
}

/// Everything that determines the network but its extents.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct UNetConfig {
    /// One of four.
    pub architecture: Architecture,
    /// Divides all numbers of filters but the head's.
    pub resize_factor: usize,
    /// Of the dropout architectures; above 0 and below 1 in a run.
    pub dropout_rate: f32,
    /// Channels of the images.
    pub channels: usize,
    /// Classes, background included; two classes are one sigmoid channel ("binary mode").
    pub classes: usize,
    /// Filters of the 3x3x3 convolution before the output; 0 leaves it out.
    pub head_filters: usize,
    /// What activations are stored in. Weights are the same in all formats, so a network can be used in another one than
    /// it was trained in.
    #[serde(default)]
    pub precision: Precision,
}

impl Default for UNetConfig {
    /// The reference's network, for images with four channels and four classes.
    fn default() -> Self {
        Self {
            architecture: Architecture::default(),
            resize_factor: 2,
            dropout_rate: 0.3,
            channels: 4,
            classes: 4,
            head_filters: 2,
            precision: Precision::default(),
        }
    }
}

impl UNetConfig {
    /// Channels of the logits.
    pub fn outputs(&self) -> usize {
        if self.classes == 2 { 1 } else { self.classes }
    }

    /// Filters of the encoder's levels and of the decoder's blocks.
    pub fn filters(&self) -> [usize; LEVELS] {
        [64, 128, 256, 512, 1024].map(|filters| filters / self.resize_factor)
    }

    /// Filters of the enlarging layer that ends at each of levels 1 to 4. Transposed convolutions narrow faster.
    pub fn up_filters(&self) -> [usize; LEVELS - 1] {
        let full = if self.architecture.is_transposed() { [32, 64, 128, 512] } else { [64, 128, 256, 512] };
        full.map(|filters| filters / self.resize_factor)
    }

    /// Checks the numbers, and the extents [D, H, W] of the volumes.
    ///
    /// # Errors
    /// Naming the option that does not work.
    pub fn check(&self, extent: [usize; 3]) -> Result<()> {
        // Asked in this order: numbers of filters are quotients.
        let is_empty = || self.up_filters().into_iter().chain(self.filters()).any(|filters| filters == 0);
        if self.resize_factor == 0 || is_empty() {
            let cause = format!("{} leaves layers without filters", self.resize_factor);
            return Err(Error::usage("unet_resize_factor", cause, "choose 1 to 32"));
        }
        if !(1..=MOST_CHANNELS).contains(&self.channels) {
            let cause = format!("{} channels", self.channels);
            return Err(Error::usage("num_channels", cause, format!("give 1 to {MOST_CHANNELS}")));
        }
        if self.head_filters > MOST_CHANNELS {
            let cause = format!("{} filters", self.head_filters);
            return Err(Error::usage("head_filters", cause, format!("give at most {MOST_CHANNELS}")));
        }
        if !(2..=256).contains(&self.classes) {
            let cause = format!("{} classes", self.classes);
            return Err(Error::usage("num_classes", cause, "give 2 to 256, background included"));
        }
        if !(0.0..1.0).contains(&self.dropout_rate) {
            let cause = format!("{} is no share between 0 and 1", self.dropout_rate);
            return Err(Error::usage("unet_dropout_rate", cause, "give a number above 0 and below 1"));
        }
        for (extent, option) in extent.into_iter().zip(["mri_depth", "mri_width", "mri_height"]) {
            if extent == 0 || extent % 16 != 0 {
                let (below, above) = (extent / 16 * 16, (extent / 16).saturating_add(1).saturating_mul(16));
                let advice = if below == 0 { format!("try {above}") } else { format!("try {below} or {above}") };
                return Err(Error::usage(option, format!("{extent} is no multiple of 16"), advice));
            }
        }
        check_voxels("mri_depth, mri_width, mri_height", 1, extent)
    }

    /// Checks a number of samples of these extents.
    ///
    /// # Errors
    /// Naming the option that says how many.
    pub fn check_batch(&self, option: &str, batch: usize, extent: [usize; 3]) -> Result<()> {
        if batch == 0 {
            return Err(Error::usage(option, "0 samples", "give at least 1"));
        }
        check_voxels(option, batch, extent)
    }
}

fn check_voxels(option: &str, batch: usize, [depth, width, height]: [usize; 3]) -> Result<()> {
    let voxels = [depth, width, height].into_iter().try_fold(batch, usize::checked_mul);
    if voxels.is_none_or(|voxels| voxels > MOST_VOXELS) {
        let cause = format!("{batch} x {depth} x {width} x {height} voxels exceed {MOST_VOXELS}");
        return Err(Error::usage(option, cause, "choose smaller extents or batches"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents_that_cannot_be_halved_four_times_are_refused_with_the_nearest() {
        let config = UNetConfig::default();
        assert!(config.check([160, 240, 240]).is_ok());
        let error = config.check([155, 240, 240]).unwrap_err().to_string();
        assert_eq!(error, "mri_depth: 155 is no multiple of 16 (try 144 or 160)");
        assert!(UNetConfig { resize_factor: 64, ..config }.check([16; 3]).is_err());
    }

    #[test]
    fn numbers_whose_products_would_overflow_are_refused() {
        let (channels, head_filters) = (MOST_CHANNELS, MOST_CHANNELS);
        let config = UNetConfig { resize_factor: 1, channels, classes: 256, head_filters, ..UNetConfig::default() };
        let largest = [1024, 2048, 2048];
        config.check(largest).unwrap();
        config.check_batch("train_batch_size", 1, largest).unwrap();
        let huge = usize::MAX / 16 * 16;
        for extent in [[huge; 3], [huge, 16, 16], [usize::MAX; 3], [2048; 3]] {
            assert_eq!(config.check(extent).unwrap_err().exit_code(), 2, "{extent:?}");
        }
        for batch in [0, 2, usize::MAX] {
            assert!(config.check_batch("train_batch_size", batch, largest).is_err(), "{batch}");
        }
        assert!(UNetConfig { channels: usize::MAX, ..config }.check([16; 3]).is_err());
        assert!(UNetConfig { head_filters: usize::MAX, ..config }.check([16; 3]).is_err());
        assert!(UNetConfig { resize_factor: usize::MAX, ..config }.check([16; 3]).is_err());
        assert!(UNetConfig { resize_factor: 0, ..config }.check([16; 3]).is_err());
    }
}
