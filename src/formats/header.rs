//! What a file says about its volume, whatever its format.

use serde::{Deserialize, Serialize};

use super::{Refusal, voxels::VoxelType};
use crate::volume::Grid;

/// Stored value to meaning: `slope * stored + intercept`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scaling {
    /// Factor.
    pub slope: f64,
    /// Summand.
    pub intercept: f64,
}

impl Scaling {
    /// The meaning of a stored value, in double precision.
    pub fn apply(self, stored: f64) -> f64 {
        self.slope * stored + self.intercept
    }
}

/// How voxels are stored.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Encoding {
    /// The numbers' type.
    pub voxel_type: VoxelType,
    /// Whether numbers start with their most significant byte.
    pub is_big_endian: bool,
    /// What they mean; none: themselves.
    pub scaling: Option<Scaling>,
}

/// A header in its file's own words. Only its format reads it; everybody else hands it on, so that a file on the same grid
/// can say the same, bit for bit.
#[derive(Clone, Debug, PartialEq)]
pub struct Native {
    /// The format's name.
    pub format: &'static str,
    /// The format's version.
    pub version: &'static str,
    /// The words.
    pub bytes: Vec<u8>,
}

/// What a file says about its volume. One that was read has been checked: extents are positive and their product fits,
/// spacing is positive, places are numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    /// Where voxels lie.
    pub grid: Grid,
    /// Volumes in the file.
    pub channels: usize,
    /// How voxels are stored.
    pub encoding: Encoding,
    /// The file's own words; none: there is no file yet.
    pub native: Option<Native>,
}

impl Header {
    /// A header for voxels of our own making: f32, one channel, axes along the body's, spacing along x, y, z in mm.
    pub fn new(extents: [usize; 3], spacing: [f64; 3]) -> Self {
        Self::on(Grid::spaced(extents, spacing))
    }

    /// A header for voxels of our own making: f32, one channel.
    pub fn on(grid: Grid) -> Self {
        let encoding = Encoding { voxel_type: VoxelType::F32, is_big_endian: false, scaling: None };
        Self { grid, channels: 1, encoding, native: None }
    }

    /// Voxels of one channel.
    pub fn voxels(&self) -> usize {
        self.grid.voxels()
    }

    /// Bytes that the stored voxels of one channel take.
    pub fn channel_bytes(&self) -> u64 {
        self.voxels() as u64 * self.encoding.voxel_type.bytes() as u64
    }

    /// Bytes that the stored voxels of all channels take.
    pub fn voxel_bytes(&self) -> u64 {
        self.channel_bytes() * self.channels as u64
    }

    /// What keeps a header from being believed, whoever read it.
    pub(super) fn check(&self) -> Result<(), Refusal> {
        let Grid { extents: [x, y, z], spacing, affine } = self.grid;
        let damaged = |what: String| Err((format!("damaged header: {what}"), "export the file again"));
        let factors = [x, y, z, self.channels, self.encoding.voxel_type.bytes().max(size_of::<f32>())];
        let bytes = factors.into_iter().try_fold(1usize, usize::checked_mul);
        if bytes.is_none_or(|bytes| bytes == 0 || isize::try_from(bytes).is_err()) {
            return damaged(format!("{x} x {y} x {z} x {} voxels", self.channels));
        }
        if !spacing.iter().all(|length| *length > 0.0 && length.is_finite()) {
            return damaged(format!("voxel spacing {spacing:?}"));
        }
        if !affine.as_flattened().iter().all(|value| value.is_finite()) {
            return damaged("its affine holds what is no number".to_owned());
        }
        Ok(())
    }
}
