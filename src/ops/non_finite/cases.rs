//! One bad element among few and many, in the first and in the last tensor, and none.

use super::NonFinite;
use crate::{
    ops::case::{Case, Fill, Operand},
    tensor::Shape,
};

/// All cases.
pub fn cases() -> Vec<Case> {
    let good = Fill::Uniform(-1.0, 1.0);
    // The largest numbers are still numbers.
    let large = Fill::Constant(f64::from(f32::MAX));
    let lists = [
        (vec![(1, Fill::OneNotFinite)], false),
        (vec![(1, large), (1023, good), (17, large)], false),
        (vec![(1, good), (1023, good), (17, Fill::OneNotFinite)], false),
        (vec![(16, Fill::OneNotFinite), (70_001, good)], false),
        (vec![(16, good), (70_001, Fill::OneNotFinite)], false),
        (vec![(1 << 20, good)], true),
    ];
    lists
        .into_iter()
        .map(|(tensors, large)| {
            let operands = tensors.iter().map(|&(length, fill)| Operand::fixed(Shape::vector(length), fill)).collect();
            let case = Case::new(NonFinite, operands).without_gradient();
            let bad = tensors.iter().position(|&(_, fill)| fill == Fill::OneNotFinite);
            let name = format!("{} bad: {bad:?}", case.name);
            Case { large, name, ..case }
        })
        .collect()
}
