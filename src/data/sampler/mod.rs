//! Between cases and batches: which part of a case a sample shows.
//!
//! [`Sampler::Whole`] shows each case as a whole. [`Sampler::Patch`] cuts patches of the network's extents at the volume's own
//! resolution, as nnU-Net does: some of a batch around foreground, which may be rare, the others anywhere. What is drawn is a
//! function of seed, epoch and place in the epoch, whoever draws it and whatever it is cut from.

mod census;
mod patch;

use serde::{Deserialize, Serialize};

pub use census::Census;

use super::preprocess::{Fit, Placement, Way};
use crate::{Error, Result, random::Stream};

/// nnU-Net's share of samples around foreground.
pub const FOREGROUND_SHARE: f64 = 0.33;

/// Which part of a case a sample shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Sampler {
    /// All of it, as [`Fit`] says.
    #[default]
    Whole,
    /// A patch of the network's extents. Where the volume is smaller, it lies in the middle of the patch.
    Patch {
        /// The share of the samples of a batch that hold a voxel of the foreground: each class that the case shows is as
        /// likely as the others, and so is each of its voxels. The patch lies around it, as far inside the volume as it can.
        /// In batches of several, the last ones have it (at .33 the second of two); alone, a sample has it by chance.
        foreground_share: f64,
    },
}

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The epoch.
    pub epoch: usize,
    /// The sample's place in the epoch.
    pub position: usize,
    /// Samples of a batch.
    pub batch: usize,
}

impl Sampler {
    /// Whether it can work.
    ///
    /// # Errors
    /// A share outside 0..=1; patches of stretched volumes.
    pub fn check(&self, fit: Fit) -> Result<()> {
        let Self::Patch { foreground_share } = *self else { return Ok(()) };
        if !(0.0..=1.0).contains(&foreground_share) {
            return Err(Error::usage("foreground_share", foreground_share, "give a number from 0 to 1"));
        }
        if fit == Fit::Resize {
            let cause = "patches are cut from volumes that are not stretched";
            return Err(Error::usage("fit", cause, "choose pad, or samples of whole cases"));
        }
        Ok(())
    }

    /// Where the sample lies, given where the whole case would lie and its census. `find` gives the place of the n-th voxel of
    /// a class in an axial slice, row by row from 0; it is asked at most once.
    ///
    /// # Errors
    /// What `find` returns.
    pub fn place<E>(
        &self,
        whole: Placement,
        census: &Census,
        seed: u64,
        turn: Turn,
        find: impl FnOnce(Spot) -> Result<usize, E>,
    ) -> Result<Placement, E> {
        let Self::Patch { foreground_share } = *self else { return Ok(whole) };
        let Placement { source, target, .. } = whole;
        let mut stream = Stream::new(seed, &format!("patch {} {}", turn.epoch, turn.position));
        let is_around = patch::is_around_foreground(foreground_share, turn, &mut stream);
        let spot = is_around.then(|| census.draw(&mut stream)).flatten();
        let start = match spot {
            None => patch::anywhere(source, target, &mut stream),
            Some(spot) => {
                let at = find(spot)?;
                patch::around([spot.slice, at / source[2], at % source[2]], source, target)
            }
        };
        Ok(Placement { way: Way::Region(start), ..whole })
    }
}

/// A voxel, by its rank among those of its class in its slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot {
    /// The axial slice.
    pub slice: usize,
    /// The class.
    pub class: u16,
    /// Voxels of the class before it in the slice, row by row.
    pub rank: usize,
}

impl Spot {
    /// Its place in its slice.
    pub fn find(&self, slice: &[u16]) -> Option<usize> {
        slice.iter().enumerate().filter(|(_, label)| **label == self.class).nth(self.rank).map(|(at, _)| at)
    }
}

#[cfg(test)]
mod tests;
