//! Binary and several classes, both losses, weights, a class that is absent.

use super::{DiceLoss, DiceLossBackward, LossKind, sums_spec};
use crate::{
    ops::case::{Case, Fill, Operand},
    tensor::{DType, Shape, Volume},
};

/// All cases of both passes.
pub fn cases() -> Vec<Case> {
    let volumes = [
        (Volume { n: 1, extent: [1, 1, 1], c: 1 }, 2, false),
        (Volume { n: 2, extent: [3, 5, 7], c: 1 }, 2, false),
        (Volume { n: 1, extent: [2, 3, 5], c: 3 }, 3, false),
        // No voxel carries the last of five classes.
        (Volume { n: 2, extent: [7, 5, 3], c: 5 }, 4, false),
        (Volume { n: 1, extent: [24, 32, 24], c: 3 }, 3, true),
    ];
    let mut list = Vec::new();
    for (x, labels, large) in volumes {
        for kind in [LossKind::Dice, LossKind::LogDice] {
            let logits = Operand::new(x.shape(), Fill::Uniform(-3.0, 3.0));
            let truth = Operand::integers(x.with_channels(1).shape(), DType::U8, labels);
            let weights = Operand::fixed(Shape::vector(x.c), Fill::Uniform(0.2, 3.0));
            let sums = Operand::fixed(sums_spec(x).shape, Fill::Uniform(1.0, 9.0));
            let dloss = Operand::fixed(Shape::vector(1), Fill::Constant(0.7));
            for case in [
                Case::new(DiceLoss { kind }, vec![logits, truth, weights]),
                Case::new(DiceLossBackward { kind }, vec![logits, truth, weights, sums, dloss]).without_gradient(),
            ] {
                list.push(Case { large, ..case });
            }
        }
    }
    list
}
