//! Awkward shapes and the four decoder levels.

use super::{ConvTranspose3d, ConvTranspose3dDgrad, ConvTranspose3dWgrad, doubled, filter_shape};
use crate::{
    ops::case::{Case, Fill, Operand},
    tensor::{Shape, Volume},
};

/// All cases of the three passes.
pub fn cases() -> Vec<Case> {
    let small = [
        (1, [1, 1, 1], 1, 1),
        (2, [3, 1, 2], 3, 5),
        (1, [2, 3, 5], 17, 15),
        (1, [1, 2, 7], 16, 16),
        (1, [2, 2, 3], 33, 2),
    ];
    let real = [(1, [3, 4, 3], 256, 128), (1, [6, 8, 6], 128, 32), (1, [12, 8, 12], 32, 8)];
    let mut list = Vec::new();
    for (n, extent, c, k) in small {
        list.extend(passes(Volume { n, extent, c }, k));
    }
    for (n, extent, c, k) in real {
        list.extend(passes(Volume { n, extent, c }, k).into_iter().map(Case::large));
    }
    list
}

fn passes(x: Volume, k: usize) -> Vec<Case> {
    let (filter, y) = (filter_shape(x.c, k), doubled(x, k).shape());
    let operand = |shape: Shape| Operand::new(shape, Fill::Uniform(-1.0, 1.0));
    vec![
        Case::new(ConvTranspose3d, vec![operand(x.shape()), operand(filter), operand(Shape::vector(k))]),
        Case::new(ConvTranspose3dDgrad, vec![operand(y), operand(filter)]).without_gradient(),
        Case::new(ConvTranspose3dWgrad, vec![operand(x.shape()), operand(y)]).without_gradient(),
    ]
}
