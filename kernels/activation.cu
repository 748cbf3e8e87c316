// Probabilities from logits, for prediction: softmax over the channels of a voxel, or the logistic function.
//
// A thread per voxel for softmax: three passes over its channels, which stay in the first-level cache. Device memory
// bounds both. May run in place.
//
// Targets: compute_75

#include "common/common.cuh"

struct SoftmaxArguments {
    const float* x;  // [voxels, channels]
    float* y;        // [voxels, channels]
    long long voxels;
    int channels;
    int unused;
};

extern "C" __global__ void __launch_bounds__(256) softmax(const __grid_constant__ SoftmaxArguments g) {
    for (long long voxel = first_index(); voxel < g.voxels; voxel += index_stride()) {
        const float* x = g.x + voxel * g.channels;
        float* y = g.y + voxel * g.channels;
        float largest = x[0];
        for (int c = 1; c < g.channels; ++c) largest = fmaxf(largest, x[c]);
        float sum = 0.0f;
        for (int c = 0; c < g.channels; ++c) {
            const float exponential = expf(x[c] - largest);
            y[c] = exponential;
            sum += exponential;
        }
        for (int c = 0; c < g.channels; ++c) y[c] = y[c] / sum;
    }
}

struct SigmoidArguments {
    const float* x;  // [count]
    float* y;        // [count]
    long long count;
};

extern "C" __global__ void __launch_bounds__(256) sigmoid(const __grid_constant__ SigmoidArguments g) {
    for (long long i = first_index(); i < g.count; i += index_stride()) g.y[i] = 1.0f / (1.0f + expf(-g.x[i]));
}
