// Sums per channel over the voxels of a slice. Lanes run along the channels, a run of them each, and rows of the CTA along the
// voxels, so every request is a run of neighbouring words. A thread adds SUM_RUN terms in fp32 before double precision takes over: their
// rounding stays below that of the input, and double-precision units are scarce outside data centres.
#pragma once

#include "element.cuh"

constexpr int SUM_RUN = 32;
constexpr int SUM_THREADS = 256;

// [voxels, channels], cut into slices: CTA (s, t) takes slice s and the t-th tile of `width * run` channels.
struct SlicedVoxels {
    long long voxels;
    long long slice;  // voxels of a slice
    int channels;
    int width;  // lanes along the channels: a power of two up to 32
    int run;    // channels of a lane: those of sixteen bytes, or one
    int unused;
};

// `shift_of(voxel, channel, shift[N])` are constants of the slice, `term(element, shift, first, second)` adds the two terms of
// N neighbouring elements, and `store(channel, first, second, shift)` is called once per channel.
template <int N, typename Shift, typename Term, typename Store>
__device__ __forceinline__ void channel_sums(const SlicedVoxels& g, Shift shift_of, Term term, Store store) {
    __shared__ double rows[2][SUM_THREADS];
    const int lane = threadIdx.x % g.width, row = threadIdx.x / g.width, height = SUM_THREADS / g.width;
    const int channel = (blockIdx.y * g.width + lane) * N;
    const long long begin = blockIdx.x * g.slice, end = min(begin + g.slice, g.voxels);
    double first[N] = {}, second[N] = {};
    float shift[N] = {};
    if (channel < g.channels) {
        shift_of(begin, channel, shift);
        for (long long run = begin + row; run < end; run += static_cast<long long>(SUM_RUN) * height) {
            float run_first[N] = {}, run_second[N] = {};
#pragma unroll(N == 1 ? 4 : 2)
            for (int step = 0; step < SUM_RUN; ++step) {
                const long long voxel = run + static_cast<long long>(step) * height;
                if (voxel >= end) break;
                term(voxel * g.channels + channel, shift, run_first, run_second);
            }
#pragma unroll
            for (int i = 0; i < N; ++i) {
                first[i] += run_first[i];
                second[i] += run_second[i];
            }
        }
    }
#pragma unroll
    for (int i = 0; i < N; ++i) {
        rows[0][threadIdx.x] = first[i];
        rows[1][threadIdx.x] = second[i];
        __syncthreads();
        for (int half = height / 2; half > 0; half /= 2) {
            if (row < half) {
                rows[0][threadIdx.x] += rows[0][threadIdx.x + half * g.width];
                rows[1][threadIdx.x] += rows[1][threadIdx.x + half * g.width];
            }
            __syncthreads();
        }
        if (row == 0 && channel < g.channels) store(channel + i, rows[0][lane], rows[1][lane], shift[i]);
        __syncthreads();  // the next of the run overwrites the rows
    }
}

// The same with as many channels per lane as the host has cut for.
template <typename T, typename Body>
__device__ __forceinline__ void by_run(const SlicedVoxels& g, Body body) {
    if (g.run == RUN<T>)
        body(Width<RUN<T>>{});
    else
        body(Width<1>{});
}
