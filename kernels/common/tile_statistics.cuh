// Mean and variance per channel from what the tiles of a correlation leave: for every tile and channel the sum and the sum of
// squares of the distances from a shift, and the shift. Tiles are cut into slices, a CTA per slice and 32 channels, lanes along
// the channels; a warp per channel merges the slices. Both in a fixed order and in double precision.
#pragma once

#include "store_results.cuh"

constexpr int STATISTICS_THREADS = 256;

struct TileStatisticsArguments {
    const float* partials;  // [tiles, parts, 3, channels]: two sums and the shift
    double* slices;         // [slices, 4, channels]: two sums, their shift, number of voxels
    Volume volume;
    int parts;  // 8 after a transposed convolution: the voxels of the doubled volume
    int channels;
};

struct MergeStatisticsArguments {
    const double* slices;  // [slices, 4, channels]
    float* mean;           // [channels]
    float* variance;       // [channels], biased
    int count;             // of slices
    int channels;
};

__device__ __forceinline__ void tile_statistics(const TileStatisticsArguments& g) {
    constexpr int HEIGHT = STATISTICS_THREADS / WARP;
    __shared__ double rows[3][HEIGHT][WARP];
    const int lane = threadIdx.x % WARP, height = threadIdx.x / WARP, channel = blockIdx.y * WARP + lane;
    const long long tiles = tile_count<TILE_D, TILE_H, TILE_W>(g.volume);
    const long long begin = tiles * blockIdx.x / gridDim.x, end = tiles * (blockIdx.x + 1) / gridDim.x;
    double sum = 0.0, squares = 0.0, shift = 0.0, voxels = 0.0;
    if (channel < g.channels) {
        shift = g.partials[(begin * g.parts * 3 + 2) * g.channels + channel];
        for (long long tile = begin + height; tile < end; tile += HEIGHT) {
            const TilePosition at = tile_position<TILE_D, TILE_H, TILE_W>(g.volume, tile);
            const int count = min(TILE_D, g.volume.d - at.d) * min(TILE_H, g.volume.h - at.h) * min(TILE_W, g.volume.w - at.w);
            for (int part = 0; part < g.parts; ++part) {
                const float* partial = g.partials + (tile * g.parts + part) * 3 * g.channels + channel;
                const double first = partial[0], second = partial[g.channels];
                const double offset = partial[2 * static_cast<long long>(g.channels)] - shift;
                sum += first + count * offset;
                squares += second + offset * (2.0 * first + count * offset);
                voxels += count;
            }
        }
    }
    rows[0][height][lane] = sum;
    rows[1][height][lane] = squares;
    rows[2][height][lane] = voxels;
    __syncthreads();
    if (height > 0 || channel >= g.channels) return;
    for (int row = 1; row < HEIGHT; ++row) {
        sum += rows[0][row][lane];
        squares += rows[1][row][lane];
        voxels += rows[2][row][lane];
    }
    double* slice = g.slices + static_cast<long long>(blockIdx.x) * 4 * g.channels + channel;
    slice[0] = sum;
    slice[g.channels] = squares;
    slice[2 * static_cast<long long>(g.channels)] = shift;
    slice[3 * static_cast<long long>(g.channels)] = voxels;
}

// With shift s, count n and sums a, q, a slice has the mean s + a / n and the squared distances q - a^2 / n around it.
__device__ __forceinline__ void merge_statistics(const MergeStatisticsArguments& g) {
    const int channel = blockIdx.x;
    const long long stride = g.channels;
    double total = 0.0, count = 0.0;
    for (int i = threadIdx.x; i < g.count; i += WARP) {
        const double* slice = g.slices + i * 4 * stride + channel;
        total += slice[0] + slice[3 * stride] * slice[2 * stride];
        count += slice[3 * stride];
    }
    count = warp_sum(count);
    const double mean = warp_sum(total) / count;
    double squares = 0.0;
    for (int i = threadIdx.x; i < g.count; i += WARP) {
        const double* slice = g.slices + i * 4 * stride + channel;
        const double a = slice[0], n = slice[3 * stride], offset = slice[2 * stride] + a / n - mean;
        squares += slice[stride] - a * a / n + n * offset * offset;
    }
    squares = warp_sum(squares);
    if (threadIdx.x == 0) {
        g.mean[channel] = static_cast<float>(mean);
        g.variance[channel] = static_cast<float>(fmax(squares / count, 0.0));
    }
}

#define TILE_STATISTICS(FAMILY, TYPE)                                                            \
    extern "C" __global__ void __launch_bounds__(STATISTICS_THREADS)                             \
        FAMILY##_tile_statistics_##TYPE(const __grid_constant__ TileStatisticsArguments g) {     \
        tile_statistics(g);                                                                      \
    }                                                                                            \
    extern "C" __global__ void __launch_bounds__(WARP)                                           \
        FAMILY##_merge_statistics_##TYPE(const __grid_constant__ MergeStatisticsArguments g) {   \
        merge_statistics(g);                                                                     \
    }
