// Probabilities in fp32 from logits, for prediction: softmax over the channels of a voxel, or the logistic function.
//
// A thread per voxel for softmax: three passes over its channels, which stay in the first-level cache. Device memory
// bounds both. May run in place on fp32.
//
// Targets: compute_75, compute_80

#include "common/element.cuh"

struct SoftmaxArguments {
    const void* x;  // [voxels, channels]
    float* y;       // [voxels, channels]
    long long voxels;
    int channels;
    int unused;
};

template <typename T>
__device__ __forceinline__ void softmax(const SoftmaxArguments& g) {
    for (long long voxel = first_index(); voxel < g.voxels; voxel += index_stride()) {
        const T* x = static_cast<const T*>(g.x) + voxel * g.channels;
        float* y = g.y + voxel * g.channels;
        float largest = widen(x[0]);
        for (int c = 1; c < g.channels; ++c) largest = fmaxf(largest, widen(x[c]));
        float sum = 0.0f;
        for (int c = 0; c < g.channels; ++c) {
            const float exponential = expf(widen(x[c]) - largest);
            y[c] = exponential;
            sum += exponential;
        }
        for (int c = 0; c < g.channels; ++c) y[c] = y[c] / sum;
    }
}

struct SigmoidArguments {
    const void* x;  // [count]
    float* y;       // [count]
    long long count;
};

template <typename T>
__device__ __forceinline__ void sigmoid(const SigmoidArguments& g) {
    const T* x = static_cast<const T*>(g.x);
    for (long long i = first_index(); i < g.count; i += index_stride()) g.y[i] = 1.0f / (1.0f + expf(-widen(x[i])));
}

#define ACTIVATION(TYPE, NAME)                                                                                    \
    extern "C" __global__ void __launch_bounds__(256) softmax##NAME(const __grid_constant__ SoftmaxArguments g) { \
        softmax<TYPE>(g);                                                                                         \
    }                                                                                                             \
    extern "C" __global__ void __launch_bounds__(256) sigmoid##NAME(const __grid_constant__ SigmoidArguments g) { \
        sigmoid<TYPE>(g);                                                                                         \
    }
FOR_EACH_TYPE(ACTIVATION)
