// Nearest-neighbour upsampling by two: y[2i + t] = x[i] for t in {0, 1}^3; the gradient is the sum over each block.
//
// A thread per sixteen bytes, or per element where a voxel's channels do not come in whole runs: of the large tensor in the
// forward pass, of the small one in the backward pass, eight loads summed in scan order. Neighbouring lanes are neighbouring
// channels. Device memory bounds both.
//
// Targets: compute_75, compute_80

#include "common/element.cuh"

struct UpsampleArguments {
    const void* from;
    void* to;
    int n, d, h, w, c;  // extents of the small tensor
    int unused;
};

template <typename T, int N>
__device__ __forceinline__ void upsample(const UpsampleArguments& g) {
    const int runs = g.c / N;
    const long long count = 8LL * g.n * g.d * g.h * g.w * runs;
    for (long long i = first_index(); i < count; i += index_stride()) {
        long long rest = i;
        const int c = take_axis(rest, runs), x = take_axis(rest, 2 * g.w), y = take_axis(rest, 2 * g.h);
        const int z = take_axis(rest, 2 * g.d);
        const long long voxel = ((rest * g.d + z / 2) * g.h + y / 2) * g.w + x / 2;
        move_run<N>(static_cast<T*>(g.to) + i * N, static_cast<const T*>(g.from) + (voxel * runs + c) * N);
    }
}

template <typename T, int N>
__device__ __forceinline__ void upsample_backward(const UpsampleArguments& g) {
    const int runs = g.c / N;
    const long long count = static_cast<long long>(g.n) * g.d * g.h * g.w * runs;
    for (long long i = first_index(); i < count; i += index_stride()) {
        long long rest = i;
        const int c = take_axis(rest, runs), x = take_axis(rest, g.w), y = take_axis(rest, g.h), z = take_axis(rest, g.d);
        float sums[N] = {};
#pragma unroll
        for (int tap = 0; tap < 8; ++tap) {
            const int tz = tap / 4, ty = tap / 2 % 2, tx = tap % 2;
            const long long plane = (rest * 2 * g.d + 2 * z + tz) * 2 * g.h + 2 * y + ty;
            float values[N];
            load_run<T>(static_cast<const T*>(g.from) + ((plane * 2 * g.w + 2 * x + tx) * runs + c) * N, values);
#pragma unroll
            for (int lane = 0; lane < N; ++lane) sums[lane] += values[lane];
        }
        store_run<T>(static_cast<T*>(g.to) + i * N, sums);
    }
}

#define UPSAMPLE(TYPE, NAME)                                                                                         \
    extern "C" __global__ void __launch_bounds__(256) upsample##NAME(const __grid_constant__ UpsampleArguments g) {  \
        by_channels<TYPE>(g.c, [&](auto width) { upsample<TYPE, width.COUNT>(g); });                                 \
    }                                                                                                                \
    extern "C" __global__ void __launch_bounds__(256)                                                                \
        upsample_backward##NAME(const __grid_constant__ UpsampleArguments g) {                                       \
        by_channels<TYPE>(g.c, [&](auto width) { upsample_backward<TYPE, width.COUNT>(g); });                        \
    }
FOR_EACH_TYPE(UPSAMPLE)
