//! NIfTI: a reader that trusts nothing it has not checked, and a writer.
//!
//! Read: NIfTI-1 and -2, either byte order, every integer and float type. Written: NIfTI-1, little-endian. The NIfTI-1
//! header's field layout and the type codes come from the `nifti` crate; offsets, scaling and voxels are ours, because a
//! stranger's file must end in an image or in one line that says what is wrong with it.
//!
//! A file knows where its voxels lie in up to three ways (sform, qform, pixdim), in one of three units. All of that stays
//! here: outside there is a grid in mm, and the header's bytes, which go into files on the same grid as they are.

mod affine;
mod codes;
mod header;
mod write;

use self::{
    header::{Geometry, Header as Fields, Version, not_nifti},
    write::{NiftiWriter, header_bytes},
};
use super::{Format, Header, Native, RawReader, Reader, Refusal, Source, VoxelType, Writer};
use crate::Result;

/// The format.
pub(super) struct Nifti;

impl Format for Nifti {
    fn name(&self) -> &'static str {
        "NIfTI"
    }

    fn ending(&self) -> &'static str {
        ".nii"
    }

    fn recognises(&self, start: &[u8]) -> bool {
        start.first_chunk().is_some_and(|start| Fields::announced(*start).is_some())
    }

    fn reader<'a>(&self, mut source: Source<'a>) -> Result<Box<dyn Reader + 'a>> {
        let mut bytes = vec![0; Fields::BYTES_1];
        let refused = |source: &Source<'_>, (cause, advice): Refusal| source.bad(cause, advice);
        if !source.read_header(&mut bytes)? {
            return Err(refused(&source, not_nifti()));
        }
        if matches!(bytes.first_chunk().and_then(|start| Fields::announced(*start)), Some((Version::Nifti2, _))) {
            bytes.resize(Fields::BYTES_2, 0);
            if !source.read_header(&mut bytes[Fields::BYTES_1..])? {
                return Err(refused(&source, not_nifti()));
            }
        }
        let fields = Fields::parse(&bytes).map_err(|refusal| refused(&source, refusal))?;
        let version = match fields.version {
            Version::Nifti1 => "Nifti1",
            Version::Nifti2 => "Nifti2",
        };
        let Fields { grid, channels, encoding, .. } = fields;
        let native = Some(Native { format: self.name(), version, bytes });
        Ok(Box::new(RawReader::new(source, Header { grid, channels, encoding, native }, fields.voxel_offset)?))
    }

    fn writer(&self, like: &Header, channels: usize, voxel_type: VoxelType) -> Result<Box<dyn Writer>, Refusal> {
        let extents = like.grid.extents;
        let Some(start) = header_bytes(&self.geometry(like), extents, channels, voxel_type) else {
            let [x, y, z] = extents;
            let cause = format!("{x} x {y} x {z} x {channels} voxels exceed NIfTI-1's 32767 per axis");
            return Err((cause, "crop the image"));
        };
        Ok(Box::new(NiftiWriter { start }))
    }
}

impl Nifti {
    /// The fields about space of the file that a header came from, if it still has that file's grid; else made of the grid.
    fn geometry(&self, like: &Header) -> Geometry {
        let native = like.native.as_ref().filter(|native| native.format == self.name());
        let fields = native.and_then(|native| Fields::parse(&native.bytes).ok());
        let same =
            fields.filter(|fields| (fields.grid.spacing, fields.grid.affine) == (like.grid.spacing, like.grid.affine));
        same.map_or_else(|| Geometry::of(&like.grid), |fields| fields.geometry)
    }
}

#[cfg(test)]
mod tests;
