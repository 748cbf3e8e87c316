//! NIfTI's codes of voxel types.

use nifti::{NiftiHeader, NiftiType};

use crate::formats::{Refusal, VoxelType};

/// The type of a code.
pub(super) fn voxel_type(code: i16) -> Result<VoxelType, Refusal> {
    let known = NiftiHeader { datatype: code, ..NiftiHeader::default() }.data_type().ok();
    let refused = |cause: String| Err((cause, "convert it to an integer or float type"));
    Ok(match known {
        Some(NiftiType::Uint8) => VoxelType::U8,
        Some(NiftiType::Int8) => VoxelType::I8,
        Some(NiftiType::Uint16) => VoxelType::U16,
        Some(NiftiType::Int16) => VoxelType::I16,
        Some(NiftiType::Uint32) => VoxelType::U32,
        Some(NiftiType::Int32) => VoxelType::I32,
        Some(NiftiType::Uint64) => VoxelType::U64,
        Some(NiftiType::Int64) => VoxelType::I64,
        Some(NiftiType::Float32) => VoxelType::F32,
        Some(NiftiType::Float64) => VoxelType::F64,
        Some(other) => {
            let name = match other {
                NiftiType::Complex64 => "complex64",
                NiftiType::Complex128 => "complex128",
                NiftiType::Complex256 => "complex256",
                NiftiType::Rgb24 => "rgb24",
                NiftiType::Rgba32 => "rgba32",
                _ => "float128",
            };
            return refused(format!("voxels of type {name} (code {code})"));
        }
        None => return refused(format!("unknown voxel type code {code}")),
    })
}

/// The code of a type.
pub(super) fn code(voxel_type: VoxelType) -> i16 {
    (match voxel_type {
        VoxelType::U8 => NiftiType::Uint8,
        VoxelType::I8 => NiftiType::Int8,
        VoxelType::U16 => NiftiType::Uint16,
        VoxelType::I16 => NiftiType::Int16,
        VoxelType::U32 => NiftiType::Uint32,
        VoxelType::I32 => NiftiType::Int32,
        VoxelType::U64 => NiftiType::Uint64,
        VoxelType::I64 => NiftiType::Int64,
        VoxelType::F32 => NiftiType::Float32,
        VoxelType::F64 => NiftiType::Float64,
    }) as i16
}
