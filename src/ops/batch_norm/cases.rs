//! Few and many voxels per channel, and inputs far from zero, where one-pass variances cancel.

use super::{BatchNorm, BatchNormBackward, BatchNormInference, BatchNormRunning};
use crate::{
    ops::case::{Case, Fill, Operand},
    tensor::{Shape, Volume},
};

const EPSILON: f64 = 1e-3;

/// All cases of training, backward, moving averages and inference.
pub fn cases() -> Vec<Case> {
    let uniform = Fill::Uniform(-1.0, 1.0);
    let volumes = [
        (Volume { n: 1, extent: [1, 1, 2], c: 1 }, uniform, false),
        (Volume { n: 2, extent: [3, 1, 5], c: 3 }, uniform, false),
        (Volume { n: 1, extent: [7, 5, 3], c: 17 }, uniform, false),
        (Volume { n: 1, extent: [5, 7, 9], c: 2 }, Fill::Uniform(9.0, 11.0), false),
        (Volume { n: 1, extent: [24, 32, 24], c: 16 }, Fill::Uniform(0.0, 2.0), true),
    ];
    let mut list = Vec::new();
    for (x, fill, large) in volumes {
        let vector = |fill| Operand::new(Shape::vector(x.c), fill);
        let input = Operand::new(x.shape(), fill);
        let (gamma, beta) = (vector(Fill::Uniform(0.5, 1.5)), vector(uniform));
        let (mean, variance) = (vector(fill), vector(Fill::Uniform(0.3, 1.3)));
        let dy = Operand::new(x.shape(), uniform);
        for case in [
            Case::new(BatchNorm { epsilon: EPSILON }, vec![input, gamma, beta]),
            Case::new(BatchNormBackward { epsilon: EPSILON }, vec![input, gamma, mean, variance, dy])
                .without_gradient(),
            Case::new(BatchNormInference { epsilon: EPSILON }, vec![input, gamma, beta, mean, variance])
                .without_gradient(),
        ] {
            list.push(Case { large, ..case });
        }
        let running = vec![mean, variance, vector(fill), vector(Fill::Uniform(0.3, 1.3))];
        list.push(Case::new(BatchNormRunning { momentum: 0.99 }, running).without_gradient());
    }
    // Cases that share channels would share names too: moving averages only depend on the channels.
    list.dedup_by(|a, b| a.name == b.name);
    list
}
