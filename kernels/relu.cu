// ReLU: y = max(x, 0), and its gradient dx = dy where y > 0, else 0. Only y is kept for the backward pass.
//
// Threads stride over runs of sixteen bytes; device memory bounds both. Either may run in place.
//
// Targets: compute_75, compute_80

#include "common/element.cuh"

struct ReluArguments {
    const void* x;  // [count]
    void* y;        // [count]
    long long count;
};

template <typename T>
__device__ __forceinline__ void relu(const ReluArguments& g) {
    for_each_run<T>(g.count, [&](auto width, long long i) {
        float values[width.COUNT];
        load_run<T>(static_cast<const T*>(g.x) + i, values);
#pragma unroll
        for (float& value : values) value = fmaxf(value, 0.0f);
        store_run<T>(static_cast<T*>(g.y) + i, values);
    });
}

struct ReluBackwardArguments {
    const void* y;   // [count]
    const void* dy;  // [count]
    void* dx;        // [count]
    long long count;
};

template <typename T>
__device__ __forceinline__ void relu_backward(const ReluBackwardArguments& g) {
    for_each_run<T>(g.count, [&](auto width, long long i) {
        float y[width.COUNT], gradient[width.COUNT];
        load_run<T>(static_cast<const T*>(g.y) + i, y);
        load_run<T>(static_cast<const T*>(g.dy) + i, gradient);
#pragma unroll
        for (int lane = 0; lane < width.COUNT; ++lane) gradient[lane] = y[lane] > 0.0f ? gradient[lane] : 0.0f;
        store_run<T>(static_cast<T*>(g.dx) + i, gradient);
    });
}

#define RELU(TYPE, NAME)                                                                                                \
    extern "C" __global__ void __launch_bounds__(256) relu##NAME(const __grid_constant__ ReluArguments g) {             \
        relu<TYPE>(g);                                                                                                  \
    }                                                                                                                   \
    extern "C" __global__ void __launch_bounds__(256) relu_backward##NAME(const __grid_constant__ ReluBackwardArguments g) { \
        relu_backward<TYPE>(g);                                                                                         \
    }
FOR_EACH_TYPE(RELU)
