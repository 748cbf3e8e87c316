// Transposed 3-D convolution, kernel 2x2x2, stride 2, on tensor cores, for one 16-bit element type: the formulas of
// conv_transpose3d.cu with sums in fp32 and one rounding when a result is stored.
//
// No two taps meet, so each pass is a convolution of one tap over the small volume whose channels are (tap, channel) on the
// side of the large one: those eight parts of a voxel's channels lie in eight voxels of the doubled volume, and only loads
// and stores know it (Parts::TAPS in pieces.cuh).
//
//   fprop   [voxels, in]       x [in, (tap, out)]       correlate.cuh, results in parts
//   dgrad   [voxels, (tap, out)] x [(tap, out), in]     correlate.cuh, sources in parts
//   wgrad   [in, voxels]       x [voxels, (tap, out)]   wgrad.cuh, dy in parts; the bias's partials come per tap, too
//
// Device memory bounds fprop and dgrad up to about 64 channels.
#pragma once

#include "correlate.cuh"
#include "pack_filter.cuh"
#include "slices.cuh"
#include "tile_statistics.cuh"
#include "wgrad.cuh"

#define CONV_TRANSPOSE3D_FPROP(TYPE, WIDTH)                                                               \
    extern "C" __global__ void                                                                            \
        __launch_bounds__(Warps<WIDTH>::THREADS, (CorrelateShared<TYPE, 1, WIDTH, Parts::TENSORS>::RESIDENT_CTAS)) \
        conv_transpose3d_fprop_k##WIDTH##_##TYPE(const __grid_constant__ CorrelateArguments g) {          \
        correlate<TYPE, 1, WIDTH, Parts::TENSORS, Parts::TAPS>(g);                                        \
    }
#define CONV_TRANSPOSE3D_DGRAD(TYPE, WIDTH)                                                               \
    extern "C" __global__ void                                                                            \
        __launch_bounds__(Warps<WIDTH>::THREADS, (CorrelateShared<TYPE, 1, WIDTH, Parts::TAPS>::RESIDENT_CTAS)) \
        conv_transpose3d_dgrad_k##WIDTH##_##TYPE(const __grid_constant__ CorrelateArguments g) {          \
        correlate<TYPE, 1, WIDTH, Parts::TAPS, Parts::TENSORS>(g);                                        \
    }
#define CONV_TRANSPOSE3D_TENSOR(TYPE)                                                                         \
    extern "C" __global__ void __launch_bounds__(256)                                                         \
        conv_transpose3d_pack_fprop_filter_##TYPE(const __grid_constant__ PackFilterArguments g) {            \
        pack_filter<Parts::TENSORS, Parts::TAPS>(g);                                                          \
    }                                                                                                         \
    extern "C" __global__ void __launch_bounds__(256)                                                         \
        conv_transpose3d_pack_dgrad_filter_##TYPE(const __grid_constant__ PackFilterArguments g) {            \
        pack_filter<Parts::TAPS, Parts::TENSORS>(g);                                                          \
    }                                                                                                         \
    extern "C" __global__ void                                                                            \
        __launch_bounds__(WgradWarps<1>::THREADS, (WgradShared<TYPE, 1, Parts::TAPS>::RESIDENT_CTAS))             \
        conv_transpose3d_wgrad_##TYPE(const __grid_constant__ WgradArguments g) {                             \
        wgrad<TYPE, 1, Parts::TAPS>(g);                                                                       \
    }                                                                                                         \
    extern "C" __global__ void __launch_bounds__(256)                                                         \
        conv_transpose3d_slice_sum_##TYPE(const __grid_constant__ SliceSumArguments g) {                      \
        slice_sum(g);                                                                                         \
    }                                                                                                         \
    TILE_STATISTICS(conv_transpose3d, TYPE)                                                                    \
    CONV_TRANSPOSE3D_FPROP(TYPE, 64)                                                                           \
    CONV_TRANSPOSE3D_DGRAD(TYPE, 32)                                                                           \
    CONV_TRANSPOSE3D_DGRAD(TYPE, 64)
