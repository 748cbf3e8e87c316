// Max pooling, 2x2x2, stride 2; a last odd plane is dropped. The gradient goes to the first maximum of each block in scan
// order, found again from the input.
//
// Forward: a thread per element of the result. Backward: a thread per block of the input, blocks cut off by an odd extent
// included, because their elements need zeros. Neighbouring lanes are neighbouring channels. Device memory bounds both.
//
// Targets: compute_75

#include "common/common.cuh"

struct MaxPoolArguments {
    const float* x;   // [n, d, h, w, c]
    float* y;         // [n, d / 2, h / 2, w / 2, c]
    int n, d, h, w, c;
    int unused;
};

extern "C" __global__ void __launch_bounds__(256) max_pool(const __grid_constant__ MaxPoolArguments g) {
    const int small_d = g.d / 2, small_h = g.h / 2, small_w = g.w / 2;
    const long long count = static_cast<long long>(g.n) * small_d * small_h * small_w * g.c;
    for (long long i = first_index(); i < count; i += index_stride()) {
        long long rest = i;
        const int c = take_axis(rest, g.c), x = take_axis(rest, small_w), y = take_axis(rest, small_h);
        const int z = take_axis(rest, small_d);
        float best = -INFINITY;
#pragma unroll
        for (int tap = 0; tap < 8; ++tap) {
            const long long row = (rest * g.d + 2 * z + tap / 4) * g.h + 2 * y + tap / 2 % 2;
            const float value = g.x[(row * g.w + 2 * x + tap % 2) * g.c + c];
            best = value > best ? value : best;
        }
        g.y[i] = best;
    }
}

struct MaxPoolBackwardArguments {
    const float* x;   // [n, d, h, w, c]
    const float* dy;  // [n, d / 2, h / 2, w / 2, c]
    float* dx;        // [n, d, h, w, c]
    int n, d, h, w, c;
    int unused;
};

extern "C" __global__ void __launch_bounds__(256) max_pool_backward(const __grid_constant__ MaxPoolBackwardArguments g) {
    const int blocks_d = (g.d + 1) / 2, blocks_h = (g.h + 1) / 2, blocks_w = (g.w + 1) / 2;
    const long long count = static_cast<long long>(g.n) * blocks_d * blocks_h * blocks_w * g.c;
    for (long long i = first_index(); i < count; i += index_stride()) {
        long long n = i;
        const int c = take_axis(n, g.c), x = take_axis(n, blocks_w), y = take_axis(n, blocks_h);
        const int z = take_axis(n, blocks_d);
        const bool is_whole = 2 * z + 1 < g.d && 2 * y + 1 < g.h && 2 * x + 1 < g.w;
        auto element = [&](int tap) {
            const long long row = (n * g.d + 2 * z + tap / 4) * g.h + 2 * y + tap / 2 % 2;
            return (row * g.w + 2 * x + tap % 2) * g.c + c;
        };
        int at = -1;
        float gradient = 0.0f;
        if (is_whole) {
            at = 0;
            float best = g.x[element(0)];
#pragma unroll
            for (int tap = 1; tap < 8; ++tap) {
                const float value = g.x[element(tap)];
                if (value > best) {
                    best = value;
                    at = tap;
                }
            }
            gradient = g.dy[(((n * (g.d / 2) + z) * (g.h / 2) + y) * (g.w / 2) + x) * g.c + c];
        }
#pragma unroll
        for (int tap = 0; tap < 8; ++tap) {
            const bool exists = 2 * z + tap / 4 < g.d && 2 * y + tap / 2 % 2 < g.h && 2 * x + tap % 2 < g.w;
            if (exists) g.dx[element(tap)] = tap == at ? gradient : 0.0f;
        }
    }
}
