//! Lengths around the vectors of four and around a CTA.

use super::Copy;
use crate::{
    ops::case::{Case, Fill, Operand},
    tensor::Shape,
};

/// All cases.
pub fn cases() -> Vec<Case> {
    [1, 3, 4, 5, 1023, 1024, 1025, 4099, 1 << 22]
        .into_iter()
        .map(|count| {
            let x = Operand::new(Shape::vector(count), Fill::Uniform(-1.0, 1.0));
            Case { large: count > 1 << 20, ..Case::new(Copy, vec![x]).without_gradient() }
        })
        .collect()
}
