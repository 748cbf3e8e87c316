// ReLU: y = max(x, 0), and its gradient dx = dy where y > 0, else 0. Only y is kept for the backward pass.
//
// Grid-stride over elements; device memory bounds both. Either may run in place.
//
// Targets: compute_75

#include "common/common.cuh"

struct ReluArguments {
    const float* x;  // [count]
    float* y;        // [count]
    long long count;
};

extern "C" __global__ void __launch_bounds__(256) relu(const __grid_constant__ ReluArguments g) {
#pragma unroll 4
    for (long long i = first_index(); i < g.count; i += index_stride()) g.y[i] = fmaxf(g.x[i], 0.0f);
}

struct ReluBackwardArguments {
    const float* y;   // [count]
    const float* dy;  // [count]
    float* dx;        // [count]
    long long count;
};

extern "C" __global__ void __launch_bounds__(256) relu_backward(const __grid_constant__ ReluBackwardArguments g) {
#pragma unroll 4
    for (long long i = first_index(); i < g.count; i += index_stride()) g.dx[i] = g.y[i] > 0.0f ? g.dy[i] : 0.0f;
}
