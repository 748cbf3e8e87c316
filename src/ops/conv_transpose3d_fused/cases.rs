//! Awkward shapes and decoder levels, plain and normalised, with and without statistics.

use super::{FusedConvTranspose3d, FusedConvTranspose3dWgrad};
use crate::{
    ops::{
        case::{Case, Fill, Operand},
        conv_transpose3d::filter_shape,
        sources::Load,
    },
    tensor::{Shape, Volume},
};

/// All cases of both passes.
pub fn cases() -> Vec<Case> {
    let small = [
        (1, [1, 1, 1], 1, 1),
        (2, [3, 1, 2], 3, 5),
        (1, [2, 3, 5], 17, 15),
        (1, [1, 2, 7], 16, 16),
        (1, [2, 2, 3], 33, 2),
    ];
    let real = [(1, [3, 4, 3], 256, 128), (1, [12, 8, 12], 32, 8)];
    let volume = |(n, extent, c, k)| (Volume { n, extent, c }, k);
    let mut list: Vec<Case> = small.into_iter().flat_map(|each| passes(volume(each))).collect();
    list.extend(real.into_iter().flat_map(|each| passes(volume(each))).map(Case::large));
    list
}

fn passes((x, k): (Volume, usize)) -> Vec<Case> {
    let operand = |shape: Shape| Operand::new(shape, Fill::Uniform(-1.0, 1.0));
    let y = Volume { extent: x.extent.map(|extent| 2 * extent), c: k, ..x };
    let (input, vector) = (operand(x.shape()), operand(Shape::vector(x.c)));
    let (filter, bias, dy) = (operand(filter_shape(x.c, k)), operand(Shape::vector(k)), operand(y.shape()));
    let (plain, normalised) = (Load::Plain, Load::Normalised);
    let fprop = |load, statistics| FusedConvTranspose3d { load, statistics };
    [
        Case::new(fprop(plain, true), vec![input, filter, bias]),
        Case::new(fprop(normalised, false), vec![input, vector, vector, filter, bias]),
        Case::new(fprop(normalised, true), vec![input, vector, vector, filter, bias]),
        Case::new(FusedConvTranspose3dWgrad { load: normalised }, vec![input, vector, vector, dy]),
    ]
    .map(|case| case.named_by_all_operands().without_gradient())
    .into()
}
