// 3-D convolution on tensor cores, for one 16-bit element type: the formulas of conv3d.cu with sums in fp32 and one rounding
// when a result is stored.
//
//   conv3d_pack_filter_*  brings the filter into the order in which it is streamed              (pack_filter.cuh)
//   conv3d_correlate_*    fprop; and dgrad, the correlation of dy with the mirrored filter      (correlate.cuh; on compute_90a
//                         correlate_warpgroup.cuh)
//   conv3d_wgrad_*        partial gradients by filter and bias per slice of the volume          (wgrad.cuh)
//   conv3d_slice_sum_*    adds them in order
//   conv3d_*_statistics_* mean and variance of a result from what its tiles leave                (tile_statistics.cuh)
//
// One or two sources side by side stand in for a concatenation, one or two targets for its inverse. A source may carry a
// scale and a shift per channel (batch normalisation, applied once per element of a tile) or a mask (ReLU's gradient); the
// epilogue adds the bias, clamps, and may leave sums per channel for the next batch normalisation.
#pragma once

#include "conv3d_analytic.cuh"
#include "correlate.cuh"
#include "correlate_warpgroup.cuh"
#include "pack_filter.cuh"
#include "slices.cuh"
#include "tile_statistics.cuh"
#include "wgrad.cuh"

#define CONV3D_CORRELATE(TYPE, EXTENT, WIDTH)                                                        \
    extern "C" __global__ void                                                                       \
        __launch_bounds__(Warps<WIDTH>::THREADS, (CorrelateShared<TYPE, EXTENT, WIDTH, Parts::TENSORS>::RESIDENT_CTAS)) \
        conv3d_correlate_##EXTENT##x##EXTENT##x##EXTENT##_k##WIDTH##_##TYPE(                         \
            const __grid_constant__ CorrelateArguments g) {                                          \
        CORRELATE<TYPE, EXTENT, WIDTH, Parts::TENSORS, Parts::TENSORS>(g);                           \
    }
#define CONV3D_EXTENT(TYPE, EXTENT)                                                                                  \
    CONV3D_CORRELATE(TYPE, EXTENT, 8)                                                                                \
    CONV3D_CORRELATE(TYPE, EXTENT, 16)                                                                               \
    CONV3D_CORRELATE(TYPE, EXTENT, 32)                                                                               \
    CONV3D_CORRELATE(TYPE, EXTENT, 64)                                                                               \
    extern "C" __global__ void                                                                                       \
        __launch_bounds__(WgradWarps<EXTENT>::THREADS, (WgradShared<TYPE, EXTENT, Parts::TENSORS>::RESIDENT_CTAS))   \
        conv3d_wgrad_##EXTENT##x##EXTENT##x##EXTENT##_##TYPE(const __grid_constant__ WgradArguments g) {             \
        wgrad<TYPE, EXTENT, Parts::TENSORS>(g);                                                                      \
    }
#define CONV3D_TENSOR(TYPE)                                                                                               \
    extern "C" __global__ void __launch_bounds__(256)                                                                     \
        conv3d_pack_filter_##TYPE(const __grid_constant__ PackFilterArguments g) {                                        \
        pack_filter<Parts::TENSORS, Parts::TENSORS>(g);                                                                   \
    }                                                                                                                     \
    extern "C" __global__ void __launch_bounds__(256) conv3d_slice_sum_##TYPE(const __grid_constant__ SliceSumArguments g) { \
        slice_sum(g);                                                                                                     \
    }                                                                                                                     \
    TILE_STATISTICS(conv3d, TYPE)                                                                                         \
    CONV3D_ANALYTIC(TYPE, _##TYPE)                                                                                        \
    CONV3D_EXTENT(TYPE, 1)                                                                                                \
    CONV3D_EXTENT(TYPE, 2)                                                                                                \
    CONV3D_EXTENT(TYPE, 3)
