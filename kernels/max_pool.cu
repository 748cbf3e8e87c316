// Max pooling, 2x2x2, stride 2; a last odd plane is dropped. The gradient goes to the first maximum of each block in scan
// order, found again from the input. The input may be normalised on the way in, and another gradient of it added on the way
// out.
//
// A thread owns sixteen bytes of a voxel's channels, or one element where they do not come in whole runs: forward of the
// result, backward of a block of the input, blocks cut off by an odd extent included, because their elements need zeros.
// Neighbouring lanes are neighbouring channels. Device memory bounds both.
//
// Targets: compute_75, compute_80

#include "common/element.cuh"

struct MaxPoolArguments {
    const void* x;       // [n, d, h, w, c]
    const float* scale;  // [c] or null: scale * x + shift is pooled
    const float* shift;  // [c]
    void* y;             // [n, d / 2, h / 2, w / 2, c]
    int n, d, h, w, c;
    int unused;
};

// N channels of a voxel as they are pooled.
template <typename T, int N>
__device__ __forceinline__ void load_pooled(const T* from, const float* scale, const float* shift, int channel, float (&values)[N]) {
    load_run<T>(from, values);
    if (scale == nullptr) return;
#pragma unroll
    for (int lane = 0; lane < N; ++lane) values[lane] = fmaf(values[lane], scale[channel + lane], shift[channel + lane]);
}

template <typename T, int N>
__device__ __forceinline__ void max_pool(const MaxPoolArguments& g) {
    const int small_d = g.d / 2, small_h = g.h / 2, small_w = g.w / 2, runs = g.c / N;
    const long long count = static_cast<long long>(g.n) * small_d * small_h * small_w * runs;
    for (long long i = first_index(); i < count; i += index_stride()) {
        long long rest = i;
        const int c = take_axis(rest, runs), x = take_axis(rest, small_w), y = take_axis(rest, small_h);
        const int z = take_axis(rest, small_d);
        float best[N];
#pragma unroll
        for (int lane = 0; lane < N; ++lane) best[lane] = -INFINITY;
#pragma unroll
        for (int tap = 0; tap < 8; ++tap) {
            const long long row = (rest * g.d + 2 * z + tap / 4) * g.h + 2 * y + tap / 2 % 2;
            float values[N];
            load_pooled<T>(static_cast<const T*>(g.x) + ((row * g.w + 2 * x + tap % 2) * runs + c) * N, g.scale, g.shift, c * N,
                           values);
#pragma unroll
            for (int lane = 0; lane < N; ++lane) best[lane] = values[lane] > best[lane] ? values[lane] : best[lane];
        }
        store_run<T>(static_cast<T*>(g.y) + i * N, best);
    }
}

struct MaxPoolBackwardArguments {
    const void* x;       // [n, d, h, w, c]
    const float* scale;  // [c] or null: scale * x + shift was pooled
    const float* shift;  // [c]
    const void* dy;      // [n, d / 2, h / 2, w / 2, c]
    const void* addend;  // [n, d, h, w, c] or null: another gradient of what was pooled; may be dx
    void* dx;            // [n, d, h, w, c]
    int n, d, h, w, c;
    int unused;
};

template <typename T, int N>
__device__ __forceinline__ void max_pool_backward(const MaxPoolBackwardArguments& g) {
    const int blocks_d = (g.d + 1) / 2, blocks_h = (g.h + 1) / 2, blocks_w = (g.w + 1) / 2, runs = g.c / N;
    const long long count = static_cast<long long>(g.n) * blocks_d * blocks_h * blocks_w * runs;
    for (long long i = first_index(); i < count; i += index_stride()) {
        long long n = i;
        const int c = take_axis(n, runs), x = take_axis(n, blocks_w), y = take_axis(n, blocks_h);
        const int z = take_axis(n, blocks_d);
        const bool is_whole = 2 * z + 1 < g.d && 2 * y + 1 < g.h && 2 * x + 1 < g.w;
        auto element = [&](int tap) {
            const long long row = (n * g.d + 2 * z + tap / 4) * g.h + 2 * y + tap / 2 % 2;
            return ((row * g.w + 2 * x + tap % 2) * runs + c) * N;
        };
        int at[N];
        float gradient[N];
#pragma unroll
        for (int lane = 0; lane < N; ++lane) at[lane] = -1, gradient[lane] = 0.0f;
        if (is_whole) {
            float best[N];
#pragma unroll
            for (int tap = 0; tap < 8; ++tap) {
                float values[N];
                load_pooled<T>(static_cast<const T*>(g.x) + element(tap), g.scale, g.shift, c * N, values);
#pragma unroll
                for (int lane = 0; lane < N; ++lane) {
                    if (tap == 0 || values[lane] > best[lane]) {
                        best[lane] = values[lane];
                        at[lane] = tap;
                    }
                }
            }
            const long long small = ((n * (g.d / 2) + z) * (g.h / 2) + y) * (g.w / 2) + x;
            load_run<T>(static_cast<const T*>(g.dy) + (small * runs + c) * N, gradient);
        }
#pragma unroll
        for (int tap = 0; tap < 8; ++tap) {
            const bool exists = 2 * z + tap / 4 < g.d && 2 * y + tap / 2 % 2 < g.h && 2 * x + tap % 2 < g.w;
            if (!exists) continue;
            float values[N] = {};
            if (g.addend != nullptr) load_run<T>(static_cast<const T*>(g.addend) + element(tap), values);
#pragma unroll
            for (int lane = 0; lane < N; ++lane) values[lane] += tap == at[lane] ? gradient[lane] : 0.0f;
            store_run<T>(static_cast<T*>(g.dx) + element(tap), values);
        }
    }
}

#define MAX_POOL(TYPE, NAME)                                                                                        \
    extern "C" __global__ void __launch_bounds__(256) max_pool##NAME(const __grid_constant__ MaxPoolArguments g) {  \
        by_channels<TYPE>(g.c, [&](auto width) { max_pool<TYPE, width.COUNT>(g); });                                \
    }                                                                                                               \
    extern "C" __global__ void __launch_bounds__(256)                                                               \
        max_pool_backward##NAME(const __grid_constant__ MaxPoolBackwardArguments g) {                               \
        by_channels<TYPE>(g.c, [&](auto width) { max_pool_backward<TYPE, width.COUNT>(g); });                       \
    }
FOR_EACH_TYPE(MAX_POOL)
