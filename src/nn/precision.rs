//! Number formats of a network: what its activations are stored in.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::tensor::DType;

/// The format of activations and of their gradients. Parameters and their gradients, optimizer state, statistics and the
/// loss are fp32 always, and so is every sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// Single precision.
    #[default]
    Fp32,
    /// bfloat16: the range of single precision with 8 bits of accuracy.
    Bf16,
    /// IEEE half: 11 bits of accuracy in a small range, so the loss is scaled ([`crate::train::loss_scale`]).
    Fp16,
}

impl Precision {
    /// The element type of activations.
    pub fn activations(self) -> DType {
        match self {
            Self::Fp32 => DType::F32,
            Self::Bf16 => DType::Bf16,
            Self::Fp16 => DType::F16,
        }
    }

    /// Whether the loss is scaled, and steps are skipped whose gradients leave the range.
    pub fn scales_loss(self) -> bool {
        self == Self::Fp16
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.activations().fmt(f)
    }
}
