//! Few and many voxels per channel, inputs far from zero, and every combination behind the backward pass.

use super::{BatchNormFinish, BatchNormStatistics, FusedBatchNormBackward, PooledBatchNormBackward};
use crate::{
    ops::case::{Case, Fill, Operand},
    tensor::{Shape, Volume},
};

const EPSILON: f64 = 1e-3;

/// All cases of statistics, finish and backward.
pub fn cases() -> Vec<Case> {
    let uniform = Fill::Uniform(-1.0, 1.0);
    let volumes = [
        (Volume { n: 1, extent: [1, 1, 2], c: 1 }, uniform, false),
        (Volume { n: 2, extent: [3, 1, 5], c: 3 }, uniform, false),
        (Volume { n: 1, extent: [7, 5, 3], c: 17 }, uniform, false),
        (Volume { n: 1, extent: [5, 7, 9], c: 2 }, Fill::Uniform(9.0, 11.0), false),
        (Volume { n: 1, extent: [24, 32, 24], c: 16 }, uniform, true),
    ];
    let mut list = Vec::new();
    for (x, fill, large) in volumes {
        let vector = |fill| Operand::new(Shape::vector(x.c), fill);
        let (input, gradient) = (Operand::new(x.shape(), fill), Operand::new(x.shape(), uniform));
        let (gamma, beta) = (vector(Fill::Uniform(-1.5, 1.5)), vector(uniform));
        let (mean, variance) = (vector(fill), vector(Fill::Uniform(0.3, 1.3)));
        let mut push = |case: Case| list.push(Case { large, ..case.without_gradient() });
        push(Case::new(BatchNormStatistics, vec![input]));
        push(Case::new(BatchNormFinish { epsilon: EPSILON }, vec![gamma, beta, mean, variance]));
        for (accumulate, relu) in [(false, true), (true, false), (true, true)] {
            let mut operands = vec![input, gamma, mean, variance, gradient];
            operands.extend(accumulate.then_some(gradient));
            push(Case::new(FusedBatchNormBackward { epsilon: EPSILON, accumulate, relu }, operands));
        }
    }
    for (x, large) in [
        (Volume { n: 1, extent: [2, 2, 2], c: 1 }, false),
        (Volume { n: 2, extent: [4, 2, 6], c: 3 }, false),
        (Volume { n: 1, extent: [4, 6, 8], c: 17 }, false),
        (Volume { n: 1, extent: [24, 32, 24], c: 16 }, true),
    ] {
        list.extend(pooled(x).into_iter().map(|case| Case { large, ..case }));
    }
    list
}

fn pooled(x: Volume) -> [Case; 3] {
    let uniform = Fill::Uniform(-1.0, 1.0);
    let vector = |fill| Operand::new(Shape::vector(x.c), fill);
    let small = Volume { extent: x.extent.map(|extent| extent / 2), ..x };
    let tensor = |volume: Volume, fill| Operand::new(volume.shape(), fill);
    let (gamma, variance) = (vector(Fill::Uniform(-1.5, 1.5)), vector(Fill::Uniform(0.3, 1.3)));
    // As for the pool itself: distinct values, and scales away from zero, so that no two become equal by rounding.
    let (input, scale) = (tensor(x, Fill::Distinct), vector(Fill::AwayFromZero));
    [(false, false), (true, false), (true, true)].map(|(accumulate, relu)| {
        let norm = FusedBatchNormBackward { epsilon: EPSILON, accumulate, relu };
        let mut operands =
            vec![input, gamma, vector(uniform), variance, scale, vector(uniform), tensor(small, uniform)];
        operands.extend(accumulate.then_some(tensor(x, uniform)));
        Case::new(PooledBatchNormBackward { norm }, operands).without_gradient()
    })
}
