//! Awkward shapes, every kernel, and the layers of the default network.

use super::{Conv3d, Conv3dDgrad, Conv3dWgrad, filter_shape};
use crate::{
    ops::case::{Case, Fill, Operand},
    tensor::{Shape, Volume},
};

const CUBE: [usize; 3] = [3, 3, 3];

/// All cases of the three passes.
pub fn cases() -> Vec<Case> {
    // (kernel, N, extents, in, out): one voxel, primes, thinner than the kernel, one above and below vector widths.
    let small = [
        (CUBE, 1, [1, 1, 1], 1, 1),
        (CUBE, 2, [3, 5, 7], 3, 2),
        (CUBE, 1, [2, 1, 17], 5, 17),
        (CUBE, 1, [4, 4, 15], 16, 16),
        (CUBE, 1, [3, 4, 6], 31, 33),
        ([2, 2, 2], 1, [1, 1, 1], 2, 3),
        ([2, 2, 2], 2, [3, 5, 4], 7, 5),
        ([2, 2, 2], 1, [4, 6, 9], 16, 8),
        ([1, 1, 1], 2, [3, 2, 5], 2, 4),
        ([1, 1, 1], 1, [1, 7, 11], 19, 3),
        // Between the widths of the GPU's tiles.
        ([1, 1, 1], 1, [2, 3, 4], 12, 20),
        ([1, 1, 1], 1, [2, 3, 4], 20, 12),
        ([1, 1, 1], 1, [5, 3, 9], 40, 33),
        ([2, 2, 2], 1, [2, 3, 9], 12, 12),
        // Not a cube: what no network here has, and the general code must do.
        ([1, 3, 2], 2, [3, 4, 5], 3, 4),
    ];
    // Layers of the default network at resize factor 4 and of its head.
    let real = [
        (CUBE, 1, [24, 16, 24], 1, 16),
        (CUBE, 1, [12, 16, 12], 32, 32),
        (CUBE, 1, [3, 4, 3], 128, 256),
        (CUBE, 1, [16, 16, 16], 24, 16),
        (CUBE, 1, [16, 16, 16], 16, 2),
        ([1, 1, 1], 1, [16, 16, 16], 2, 3),
        ([2, 2, 2], 1, [8, 8, 8], 64, 32),
    ];
    let mut list = Vec::new();
    for (kernel, n, extent, c, k) in small {
        list.extend(passes(kernel, Volume { n, extent, c }, k));
    }
    for (kernel, n, extent, c, k) in real {
        list.extend(passes(kernel, Volume { n, extent, c }, k).into_iter().map(Case::large));
    }
    list
}

fn passes(kernel: [usize; 3], x: Volume, channels_out: usize) -> Vec<Case> {
    let filter = filter_shape(kernel, x.c, channels_out);
    let y = x.with_channels(channels_out).shape();
    let [uniform, bias] = [Fill::Uniform(-1.0, 1.0); 2];
    let fprop = |relu| {
        Case::new(
            Conv3d { kernel, relu },
            vec![
                Operand::new(x.shape(), uniform),
                Operand::new(filter, uniform),
                Operand::new(Shape::vector(channels_out), bias),
            ],
        )
    };
    let dgrad = Case::new(Conv3dDgrad { kernel }, vec![Operand::new(y, uniform), Operand::new(filter, uniform)]);
    let wgrad = Case::new(Conv3dWgrad { kernel }, vec![Operand::new(x.shape(), uniform), Operand::new(y, uniform)]);
    // With ReLU only forward parity is meaningful: a sum of random products can lie arbitrarily close to the kink.
    vec![fprop(false), fprop(true).without_gradient(), dgrad.without_gradient(), wgrad.without_gradient()]
}
