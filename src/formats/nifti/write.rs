//! Writes NIfTI-1, little-endian.

use std::io::{self, Write};

use super::{codes, header::Geometry};
use crate::formats::{VoxelType, Writer};

/// A file whose header is made.
pub(super) struct NiftiWriter {
    pub start: [u8; 352],
}

impl Writer for NiftiWriter {
    fn begin(&mut self, file: &mut dyn Write) -> io::Result<()> {
        file.write_all(&self.start)
    }
}

/// The 348 bytes of the header and the four that say "no extensions"; none when an extent is too large. Offsets from
/// the format's definition (nifti1.h).
pub(super) fn header_bytes(
    geometry: &Geometry,
    extents: [usize; 3],
    channels: usize,
    voxel_type: VoxelType,
) -> Option<[u8; 352]> {
    let mut bytes = [0; 352];
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    let [x, y, z] = extents;
    let rank = if channels == 1 { 3 } else { 4 };
    put(0, &348i32.to_le_bytes());
    put(38, b"r"); // `regular`, which ANALYZE readers expect
    put(39, &[geometry.dim_info]);
    for (axis, extent) in [rank, x, y, z, channels, 1, 1, 1].into_iter().enumerate() {
        put(40 + 2 * axis, &i16::try_from(extent).ok()?.to_le_bytes());
    }
    put(70, &codes::code(voxel_type).to_le_bytes());
    put(72, &(8 * voxel_type.bytes() as i16).to_le_bytes());
    for (axis, value) in geometry.pixdim.into_iter().enumerate() {
        put(76 + 4 * axis, &(value as f32).to_le_bytes());
    }
    put(108, &352f32.to_le_bytes());
    put(112, &1f32.to_le_bytes()); // slope
    put(123, &[geometry.xyzt_units]);
    put(252, &geometry.qform_code.to_le_bytes());
    put(254, &geometry.sform_code.to_le_bytes());
    for (i, value) in geometry.quaternion.into_iter().chain(geometry.offset).enumerate() {
        put(256 + 4 * i, &(value as f32).to_le_bytes());
    }
    for (i, value) in geometry.srow.as_flattened().iter().enumerate() {
        put(280 + 4 * i, &(*value as f32).to_le_bytes());
    }
    put(344, b"n+1\0");
    Some(bytes)
}
