//! Even, odd and real extents, scales of both signs, ties, and gradients that are added.

use super::{FusedMaxPool, FusedMaxPoolBackward};
use crate::{
    ops::{
        case::{Case, Fill, Operand},
        sources::Load,
    },
    tensor::{Shape, Volume},
};

/// All cases of both passes.
pub fn cases() -> Vec<Case> {
    let volumes = [
        (Volume { n: 1, extent: [2, 2, 2], c: 1 }, false),
        (Volume { n: 2, extent: [3, 5, 4], c: 3 }, false),
        (Volume { n: 1, extent: [4, 6, 7], c: 17 }, false),
        (Volume { n: 1, extent: [24, 32, 24], c: 32 }, true),
    ];
    let mut list = Vec::new();
    for (x, large) in volumes {
        list.extend(passes(x, Fill::Distinct).into_iter().map(|case| Case { large, ..case }));
    }
    // Equal values stay equal whatever the scale: the first of them gets the gradient.
    list.extend(passes(Volume { n: 1, extent: [4, 4, 4], c: 5 }, Fill::Constant(0.5)));
    list
}

fn passes(x: Volume, fill: Fill) -> Vec<Case> {
    let input = Operand::new(x.shape(), fill);
    let small = Volume { extent: x.extent.map(|extent| extent / 2), ..x };
    // Away from zero: a scale near it would make neighbours equal in single precision and not in double.
    let (scale, shift) = (Operand::new(Shape::vector(x.c), Fill::AwayFromZero), Fill::Uniform(-1.0, 1.0));
    let shift = Operand::new(Shape::vector(x.c), shift);
    let dy = Operand::new(small.shape(), Fill::Uniform(-1.0, 1.0));
    let addend = Operand::new(x.shape(), Fill::Uniform(-1.0, 1.0));
    let backward = |load, accumulate| FusedMaxPoolBackward { load, accumulate };
    [
        Case::new(FusedMaxPool, vec![input, scale, shift]),
        Case::new(backward(Load::Normalised, false), vec![input, scale, shift, dy]),
        Case::new(backward(Load::Normalised, true), vec![input, scale, shift, dy, addend]),
        Case::new(backward(Load::Plain, true), vec![input, dy, addend]),
    ]
    .map(Case::without_gradient)
    .into()
}
