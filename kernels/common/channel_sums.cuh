// Sums per channel over the voxels of a slice. Lanes run along the channels and rows of the CTA along the voxels, so every
// request is a run of neighbouring words. A thread adds SUM_RUN terms in fp32 before double precision takes over: their
// rounding stays below that of the input, and double-precision units are scarce outside data centres.
#pragma once

#include "common.cuh"

constexpr int SUM_RUN = 32;
constexpr int SUM_THREADS = 256;

// [voxels, channels], cut into slices: CTA (s, t) takes slice s and the t-th tile of `width` channels.
struct SlicedVoxels {
    long long voxels;
    long long slice;  // voxels of a slice
    int channels;
    int width;  // a power of two up to 32
};

// `shift_of(voxel, channel)` is a constant of the slice, `term(element, shift, first, second)` adds an element's two terms,
// and `store(channel, first, second, shift)` is called once per channel.
template <typename Shift, typename Term, typename Store>
__device__ __forceinline__ void channel_sums(const SlicedVoxels& g, Shift shift_of, Term term, Store store) {
    __shared__ double rows[2][SUM_THREADS];
    const int lane = threadIdx.x % g.width, row = threadIdx.x / g.width, height = SUM_THREADS / g.width;
    const int channel = blockIdx.y * g.width + lane;
    const long long begin = blockIdx.x * g.slice, end = min(begin + g.slice, g.voxels);
    double first = 0.0, second = 0.0;
    float shift = 0.0f;
    if (channel < g.channels) {
        shift = shift_of(begin, channel);
        for (long long run = begin + row; run < end; run += static_cast<long long>(SUM_RUN) * height) {
            float run_first = 0.0f, run_second = 0.0f;
#pragma unroll 4
            for (int step = 0; step < SUM_RUN; ++step) {
                const long long voxel = run + static_cast<long long>(step) * height;
                if (voxel >= end) break;
                term(voxel * g.channels + channel, shift, run_first, run_second);
            }
            first += run_first;
            second += run_second;
        }
    }
    rows[0][threadIdx.x] = first;
    rows[1][threadIdx.x] = second;
    __syncthreads();
    for (int half = height / 2; half > 0; half /= 2) {
        if (row < half) {
            rows[0][threadIdx.x] += rows[0][threadIdx.x + half * g.width];
            rows[1][threadIdx.x] += rows[1][threadIdx.x + half * g.width];
        }
        __syncthreads();
    }
    if (row == 0 && channel < g.channels) store(channel, rows[0][lane], rows[1][lane], shift);
}
