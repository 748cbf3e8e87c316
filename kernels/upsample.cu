// Nearest-neighbour upsampling by two: y[2i + t] = x[i] for t in {0, 1}^3; the gradient is the sum over each block.
//
// Forward: a thread per element of the large tensor. Backward: a thread per element of the small one, eight loads summed
// in scan order. Neighbouring lanes are neighbouring channels. Device memory bounds both.
//
// Targets: compute_75

#include "common/common.cuh"

struct UpsampleArguments {
    const float* from;
    float* to;
    int n, d, h, w, c;  // extents of the small tensor
    int unused;
};

extern "C" __global__ void __launch_bounds__(256) upsample(const __grid_constant__ UpsampleArguments g) {
    const long long count = 8LL * g.n * g.d * g.h * g.w * g.c;
    for (long long i = first_index(); i < count; i += index_stride()) {
        long long rest = i;
        const int c = take_axis(rest, g.c), x = take_axis(rest, 2 * g.w), y = take_axis(rest, 2 * g.h);
        const int z = take_axis(rest, 2 * g.d);
        g.to[i] = g.from[(((rest * g.d + z / 2) * g.h + y / 2) * g.w + x / 2) * g.c + c];
    }
}

extern "C" __global__ void __launch_bounds__(256) upsample_backward(const __grid_constant__ UpsampleArguments g) {
    const long long count = static_cast<long long>(g.n) * g.d * g.h * g.w * g.c;
    for (long long i = first_index(); i < count; i += index_stride()) {
        long long rest = i;
        const int c = take_axis(rest, g.c), x = take_axis(rest, g.w), y = take_axis(rest, g.h), z = take_axis(rest, g.d);
        float sum = 0.0f;
#pragma unroll
        for (int tap = 0; tap < 8; ++tap) {
            const int tz = tap / 4, ty = tap / 2 % 2, tx = tap % 2;
            const long long plane = (rest * 2 * g.d + 2 * z + tz) * 2 * g.h + 2 * y + ty;
            sum += g.from[(plane * 2 * g.w + 2 * x + tx) * g.c + c];
        }
        g.to[i] = sum;
    }
}
