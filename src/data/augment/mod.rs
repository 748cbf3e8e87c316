//! Shows the network each case a little differently in each epoch.
//!
//! Drawing and applying are apart: a [`Recipe`] is plain numbers, drawn from a stream that is named by seed, epoch and
//! case, so it does not matter which worker, or which device, applies it. A worker calls [`Recipe::apply`]; a GPU gets the
//! recipe as [`numbers`] and runs [`crate::ops::augment`].

mod apply;
pub mod numbers;
mod recipe;

use serde::{Deserialize, Serialize};

pub(crate) use recipe::Changes;
pub use recipe::{PointWise, Recipe};

/// The presets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Augment {
    /// Every case as it is.
    None,
    /// Mirror each axis in half of the cases.
    Flip,
    /// Mirror the file's second axis in half of the cases: all that the reference does.
    Reference,
    /// Mirror, rotate, zoom, and change intensities.
    #[default]
    Full,
}

/// What may be changed, and how far; 0 or false switches a change off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Augmentation {
    /// Mirror D, H, W, each in half of the cases.
    pub flip: [bool; 3],
    /// Rotate about each axis by up to this many degrees, in half of the cases.
    pub rotation: f64,
    /// Zoom by a factor of up to `1 + zoom` in or out, in half of the cases.
    pub zoom: f64,
    /// Multiply each channel by `1 - scale ..= 1 + scale`.
    pub scale: f64,
    /// Add `-shift ..= shift` to each channel.
    pub shift: f64,
    /// Bend each channel's range by an exponent of up to `1 + gamma` or its inverse, in a third of the cases.
    pub gamma: f64,
    /// Add normal noise with a deviation of up to this, in a third of the cases.
    pub noise: f64,
}

impl Augment {
    /// The settings that the preset stands for. Intensities are meant in units of normalised images.
    pub fn settings(self) -> Augmentation {
        match self {
            Self::None => Augmentation::default(),
            Self::Flip => Augmentation { flip: [true; 3], ..Augmentation::default() },
            Self::Reference => Augmentation { flip: [false, true, false], ..Augmentation::default() },
            // About half of what nnU-Net draws by default: its ranges are made for a thousand epochs.
            Self::Full => Augmentation {
                flip: [true; 3],
                rotation: 15.0,
                zoom: 0.2,
                scale: 0.15,
                shift: 0.1,
                gamma: 0.3,
                noise: 0.1,
            },
        }
    }
}
