//! Voxel indices to millimetres: sform, qform, or the spacing alone.

use super::header::Geometry;
use crate::volume::{Affine, column_lengths};

/// The affine that the geometry fields state, by the standard's order of trust: sform when its code is set and it can
/// be inverted, else qform when its code is set, else the spacing alone (the standard's "method 1": no rotation, origin
/// at the first voxel). In the file's own unit of length.
pub(super) fn affine(geometry: &Geometry, spacing: [f64; 3]) -> Affine {
    if geometry.sform_code > 0 && is_invertible(&geometry.srow) {
        return geometry.srow;
    }
    if geometry.qform_code > 0 {
        let affine = quaternion_affine(geometry, spacing);
        if is_invertible(&affine) {
            return affine;
        }
    }
    let [x, y, z] = spacing;
    [[x, 0.0, 0.0, 0.0], [0.0, y, 0.0, 0.0], [0.0, 0.0, z, 0.0]]
}

/// The spacing in the file's unit: `pixdim` without signs; where that is no length, the sform's column lengths.
pub(super) fn spacing(geometry: &Geometry) -> Option<[f64; 3]> {
    let is_length = |lengths: &[f64; 3]| lengths.iter().all(|length| *length > 0.0 && length.is_finite());
    let [_, x, y, z, ..] = geometry.pixdim;
    let stated = [x.abs(), y.abs(), z.abs()];
    if is_length(&stated) {
        return Some(stated);
    }
    let columns = column_lengths(&geometry.srow);
    (geometry.sform_code > 0 && is_length(&columns)).then_some(columns)
}

/// The standard's "method 2". A quaternion slightly longer than 1 (rounding) is normalised, with no real part.
fn quaternion_affine(geometry: &Geometry, spacing: [f64; 3]) -> Affine {
    let [mut b, mut c, mut d] = geometry.quaternion;
    let square = b * b + c * c + d * d;
    let mut a = 0.0;
    if square <= 1.0 {
        a = (1.0 - square).sqrt();
    } else {
        let length = square.sqrt();
        (b, c, d) = (b / length, c / length, d / length);
    }
    let rotation = [
        [a * a + b * b - c * c - d * d, 2.0 * (b * c - a * d), 2.0 * (b * d + a * c)],
        [2.0 * (b * c + a * d), a * a + c * c - b * b - d * d, 2.0 * (c * d - a * b)],
        [2.0 * (b * d - a * c), 2.0 * (c * d + a * b), a * a + d * d - b * b - c * c],
    ];
    // pixdim[0] is the handedness of the third axis; everything but -1 means +1.
    let handedness = if geometry.pixdim[0] < 0.0 { -1.0 } else { 1.0 };
    let [x, y, z] = spacing;
    let mut affine = [[0.0; 4]; 3];
    for (row, rotated) in rotation.iter().enumerate() {
        affine[row] = [rotated[0] * x, rotated[1] * y, rotated[2] * z * handedness, geometry.offset[row]];
    }
    affine
}

fn is_invertible(affine: &Affine) -> bool {
    let [[a, b, c, _], [d, e, f, _], [g, h, i, _]] = *affine;
    let determinant = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g);
    affine.as_flattened().iter().all(|value| value.is_finite()) && determinant.is_normal()
}
