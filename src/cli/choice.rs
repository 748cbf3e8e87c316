//! Settings that have few values, as options: the names that are typed and what help says about each.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

use super::preset::PresetName;
use crate::{
    data::{
        augment::Augment,
        preprocess::{Fit, Normalization},
    },
    fuse::Fuse,
    nn::{Architecture, Precision},
    ops::dice::LossKind,
    plan::budget::Offload,
    run::{LearningRate, OptimizerName},
};

/// A type with few values.
pub trait Choice: Copy + Send + Sync + 'static {
    /// Every value, the name that is typed, and what it means.
    const VALUES: &'static [(Self, &'static str, &'static str)];
}

/// Parses one of the values.
pub fn choice<T: Choice>() -> impl TypedValueParser<Value = T> {
    let values = T::VALUES.iter().map(|&(_, name, help)| PossibleValue::new(name).help(help));
    PossibleValuesParser::new(values).map(|typed| {
        let (value, ..) =
            T::VALUES.iter().find(|(_, name, _)| *name == typed).expect("clap lets no other name through");
        *value
    })
}

/// Lists the values of a type. A value that is left out does not compile.
macro_rules! choices {
    ($type:ident { $($value:ident = $name:literal: $help:literal,)+ }) => {
        impl Choice for $type {
            const VALUES: &'static [(Self, &'static str, &'static str)] = {
                const fn _every_value_is_listed(value: $type) {
                    match value { $($type::$value => {})+ }
                }
                &[$(($type::$value, $name, $help)),+]
            };
        }
    };
}

choices!(Architecture {
    UpsamplingDropout = "upsampling_dropout":
        "Nearest upsampling with a 2x2x2 convolution; dropout behind levels 4 and 5",
    Conv3dTransposeDropout = "conv3dtranspose_dropout": "Transposed convolution; dropout behind levels 4 and 5",
    UpsamplingBatchNormalization = "upsampling_batchnormalization":
        "Nearest upsampling with a 2x2x2 convolution; batch normalisation behind every activation",
    Conv3dTransposeBatchNormalization = "conv3dtranspose_batchnormalization":
        "Transposed convolution; batch normalisation behind every activation",
});

choices!(Precision {
    Fp32 = "fp32": "Single precision",
    Bf16 = "bf16": "bfloat16: the range of single precision with 8 bits of accuracy",
    Fp16 = "fp16": "IEEE half: 11 bits of accuracy in a small range, so the loss is scaled",
});

choices!(Fuse {
    Auto = "auto": "Wherever the processor can run the merged form",
    None = "none": "Nowhere",
});

choices!(Offload {
    Auto = "auto": "Optimizer state, if that is faster than computing again what would not fit beside it. Never on the CPU",
    None = "none": "Nothing",
    Optimizer = "optimizer": "Optimizer state",
});

choices!(Augment {
    None = "none": "Every case as it is",
    Flip = "flip": "Mirror each axis in half of the cases",
    Full = "full": "Mirror, rotate, zoom, and change intensities",
    Reference = "reference": "Mirror the file's second axis in half of the cases: all that the reference does",
});

choices!(Normalization {
    Volume = "volume": "Z-score of each channel over its non-zero voxels; zeros (background) stay zero",
    Slice = "slice": "Z-score of each axial slice of each channel over all its voxels",
    Ct = "ct": "Clip to the training set's 0.5 and 99.5 foreground percentiles, then z-score with the foreground's mean and \
                deviation: for images whose values have a unit",
    None = "none": "Values as they are",
});

choices!(Fit {
    Pad = "pad": "Keep the voxels; pad with zeros, or crop, on both sides alike",
    Resize = "resize": "Stretch each axis: images by trilinear interpolation, labels by the nearest voxel",
});

choices!(LossKind {
    Dice = "dice": "1 - D, D being the mean soft Dice coefficient",
    LogDice = "log_dice": "log(cosh(1 - D))",
});

choices!(OptimizerName {
    Sgd = "sgd": "Stochastic gradient descent with momentum",
    Adam = "adam": "Adam",
    Nadam = "nadam": "Adam with Nesterov momentum",
});

choices!(LearningRate {
    Plateau = "plateau": "To a tenth after 20 epochs without improvement, not below 1e-6",
    Cosine = "cosine": "Half a cosine to zero over the whole run",
    Polynomial = "polynomial": "(1 - share of the run)^0.9, as nnU-Net does",
    Constant = "constant": "Not at all",
});

choices!(PresetName {
    Reference = "reference": "What the Keras script does that this program replaces (docs/reference.md)",
});

#[cfg(test)]
mod tests {
    use serde::Serialize;

    use super::*;

    fn names_are_those_of_recipes<T: Choice + Serialize>() {
        for (value, name, _) in T::VALUES {
            assert_eq!(serde_json::to_value(value).unwrap(), serde_json::json!(name));
        }
    }

    #[test]
    fn a_value_has_one_name_on_the_command_line_and_in_a_recipe() {
        names_are_those_of_recipes::<Architecture>();
        names_are_those_of_recipes::<Precision>();
        names_are_those_of_recipes::<Fuse>();
        names_are_those_of_recipes::<Offload>();
        names_are_those_of_recipes::<Normalization>();
        names_are_those_of_recipes::<Fit>();
        names_are_those_of_recipes::<LossKind>();
        names_are_those_of_recipes::<OptimizerName>();
        names_are_those_of_recipes::<LearningRate>();
    }
}
