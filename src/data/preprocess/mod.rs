//! From a file's voxels to what the network sees: normalised intensities on a grid of fixed extents.
//!
//! Statistics are taken over the whole image, before fitting, so they do not depend on the network's extents.

mod normalize;
mod place;

use serde::{Deserialize, Serialize};

pub use normalize::{CtStatistics, Normalization, normalize};
pub use place::{Fit, Placement};

use super::{
    fingerprint::Fingerprint,
    nifti::{Header, Image, Labels},
};
use crate::{Error, Result};

/// Everything that turns an image into the network's input; kept in checkpoints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Preprocessing {
    /// The network's extents D, H, W: the file's axes z, y, x.
    pub extent: [usize; 3],
    /// Channels of every image.
    pub channels: usize,
    /// How intensities are made comparable.
    pub normalization: Normalization,
    /// How an image comes to these extents.
    pub fit: Fit,
    /// The training set's foreground per channel; used by [`Normalization::Ct`] only.
    pub ct: Vec<CtStatistics>,
}

impl Preprocessing {
    /// Preprocessing for a training set.
    pub fn new(extent: [usize; 3], normalization: Normalization, fit: Fit, training: &Fingerprint) -> Self {
        let ct = training.channels.iter().map(|channel| CtStatistics::of(&channel.foreground)).collect();
        Self { extent, channels: training.channels.len(), normalization, fit, ct }
    }

    /// Where an image comes to lie.
    pub fn placement(&self, header: &Header) -> Placement {
        let [x, y, z] = header.extents;
        Placement { source: [z, y, x], target: self.extent, fit: self.fit }
    }

    /// Normalises the image in place and writes it, fitted, as `[D, H, W, C]` into `out`.
    ///
    /// # Errors
    /// The image has another number of channels, or voxels that are not finite.
    ///
    /// # Panics
    /// When `out` does not have the network's extents times the channels.
    pub fn image(&self, image: &mut Image, path: &std::path::Path, out: &mut [f32]) -> Result<Placement> {
        let found = image.header.channels;
        if found != self.channels {
            let cause = format!("{found} channels, where {} are expected", self.channels);
            return Err(Error::input(path, cause, "give images like those of the training set"));
        }
        if image.voxels.iter().any(|value| !value.is_finite()) {
            return Err(Error::input(path, "voxels that are not finite", "replace them, for example by 0"));
        }
        let placement = self.placement(&image.header);
        normalize(&mut image.voxels, placement.source, self.normalization, &self.ct);
        placement.fit_planar(&image.voxels, self.channels, out);
        Ok(placement)
    }

    /// Writes labels, fitted, as `[D, H, W]` into `out`.
    ///
    /// # Errors
    /// A label that is not below `classes`.
    ///
    /// # Panics
    /// When `out` does not have the network's extents.
    pub fn labels(&self, labels: &Labels, classes: usize, path: &std::path::Path, out: &mut [u8]) -> Result<Placement> {
        if let Some(stray) = labels.voxels.iter().find(|label| usize::from(**label) >= classes.min(256)) {
            let cause = format!("label {stray}, where {classes} classes are expected");
            return Err(Error::input(path, cause, "correct the labels or the number of classes"));
        }
        let placement = self.placement(&labels.header);
        placement.fit_labels(&labels.voxels, out);
        Ok(placement)
    }
}
