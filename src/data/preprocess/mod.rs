//! From a file's voxels to what the network sees: normalised intensities on a grid of fixed extents.
//!
//! Statistics are taken over the whole image, before fitting, so they do not depend on the network's extents.

mod normalize;
mod pending;
mod place;

use std::path::Path;

use serde::{Deserialize, Serialize};

pub use normalize::{CtStatistics, Normalization, Score, Scores, Visit, normalize};
pub use pending::Pending;
pub use place::{Fit, Placement, Way};

use super::fingerprint::Fingerprint;
use crate::{
    Error, Result,
    formats::{Image, Labels},
    volume::Grid,
};

/// Everything that turns an image into the network's input; kept in checkpoints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Preprocessing {
    /// The network's extents D, H, W: a volume's axes z, y, x.
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
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn new(extent: [usize; 3], normalization: Normalization, fit: Fit, training: &Fingerprint) -> Result<Self> {
        let ct = training.channels.iter().map(|channel| CtStatistics::of(&channel.foreground)).collect();
        let made = Self { extent, channels: training.channels.len(), normalization, fit, ct };
        made.check()?;
        Ok(made)
    }

    /// Whether it can be used. To be asked of one that comes from a file before anything else is done with it.
    ///
    /// # Errors
    /// An extent or a number of channels of 0; `ct` without a channel's statistics, or with ones without contrast.
    pub fn check(&self) -> Result<()> {
        if self.channels == 0 || self.extent.contains(&0) {
            let cause = format!("{} channels of {:?} voxels", self.channels, self.extent);
            return Err(Error::usage("preprocessing", cause, "there must be at least one of everything"));
        }
        let is_usable = |ct: &CtStatistics| {
            ct.low <= ct.high && ct.low.is_finite() && ct.high.is_finite() && ct.mean.is_finite() && ct.deviation > 0.0
        };
        let is_known = self.ct.len() == self.channels && self.ct.iter().all(is_usable);
        if self.normalization == Normalization::Ct && !is_known {
            let cause = "ct needs a foreground with contrast in every channel of the training set";
            return Err(Error::usage("normalization", cause, "choose volume"));
        }
        Ok(())
    }

    /// Where a whole image comes to lie.
    pub fn placement(&self, grid: &Grid) -> Placement {
        Placement::whole(grid.shape(), self.extent, self.fit)
    }

    /// Normalises the image in place.
    ///
    /// # Errors
    /// The image has another number of channels, or voxels that are not finite.
    pub fn normalize(&self, image: &mut Image, path: &Path) -> Result<()> {
        self.check_image(image, path)?;
        normalize(&mut image.voxels, image.header.grid.shape(), self.normalization, &self.ct);
        Ok(())
    }

    /// Normalises the image in place and writes it, fitted, as `[D, H, W, C]` into `out`.
    ///
    /// # Errors
    /// As [`Self::normalize`].
    ///
    /// # Panics
    /// When `out` does not have the network's extents times the channels.
    pub fn image(&self, image: &mut Image, path: &Path, out: &mut [f32]) -> Result<Placement> {
        self.normalize(image, path)?;
        let placement = self.placement(&image.header.grid);
        placement.fit_planar(&image.voxels, self.channels, out);
        Ok(placement)
    }

    /// Whether the image has the channels expected, all of them finite.
    fn check_image(&self, image: &Image, path: &Path) -> Result<()> {
        let found = image.header.channels;
        if found != self.channels {
            let cause = format!("{found} channels, where {} are expected", self.channels);
            return Err(Error::input(path, cause, "give images like those of the training set"));
        }
        if image.voxels.iter().any(|value| !value.is_finite()) {
            return Err(Error::input(path, "voxels that are not finite", "replace them, for example by 0"));
        }
        Ok(())
    }

    /// Writes labels, fitted, as `[D, H, W]` into `out`.
    ///
    /// # Errors
    /// A label that is not below `classes`.
    ///
    /// # Panics
    /// When `out` does not have the network's extents.
    pub fn labels(&self, labels: &Labels, classes: usize, path: &Path, out: &mut [u8]) -> Result<Placement> {
        self.check_labels(labels, classes, path)?;
        let placement = self.placement(&labels.header.grid);
        placement.fit_labels(&labels.voxels, out);
        Ok(placement)
    }

    /// Whether all labels are below `classes`, and bytes.
    ///
    /// # Errors
    /// The first that is not.
    pub fn check_labels(&self, labels: &Labels, classes: usize, path: &Path) -> Result<()> {
        if let Some(stray) = labels.voxels.iter().find(|label| usize::from(**label) >= classes.min(256)) {
            let cause = format!("label {stray}, where {classes} classes are expected");
            return Err(Error::input(path, cause, "correct the labels or `num_classes`"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::fingerprint::{ChannelFingerprint, Intensity};

    fn training(foreground: Intensity) -> Fingerprint {
        let channel = ChannelFingerprint { nonzero: Intensity::default(), foreground, histogram: vec![] };
        Fingerprint { cases: vec![], channels: vec![channel], label_voxels: vec![] }
    }

    #[test]
    fn ct_without_a_foreground_is_refused_instead_of_blanking_images() {
        let new = |foreground| Preprocessing::new([16; 3], Normalization::Ct, Fit::Pad, &training(foreground));
        assert!(new(Intensity::default()).unwrap_err().to_string().contains("foreground with contrast"));
        let percentiles = [-100.0, 0.0, 0.0, 50.0, 60.0, 70.0, 200.0];
        let good =
            new(Intensity { count: 9, mean: 40.0, deviation: 20.0, percentiles, ..Intensity::default() }).unwrap();
        assert_eq!(good.ct, [CtStatistics { low: -100.0, high: 200.0, mean: 40.0, deviation: 20.0 }]);
        let two_channels = Preprocessing { channels: 2, ..good.clone() };
        assert!(two_channels.check().is_err() && Preprocessing { extent: [16, 0, 16], ..good }.check().is_err());
    }
}
