// Clipping and the weight update, element by element (Keras semantics; the formulas stand in src/ops/optimizer).
//
// Parameters, gradients and each kind of state are contiguous in memory in the same order, so one launch runs over all of
// them: element i of each array belongs together. Device memory bounds it: one read of four to five arrays, a write of
// two to four. A step that is lost changes nothing. `hyper` changes from step to step and lives on the device, so that a captured step never goes stale.
//
// Targets: compute_75

#include "common/common.cuh"

struct OptimizerArguments {
    const float* hyper;     // learning rate, factor of g, factor of m, factor of the raw gradient
    const unsigned* flag;   // [1] or null: whether this step is lost, because a gradient was not finite
    float* parameter;       // [count]
    const float* gradient;  // [count]
    float* first;           // [count]: velocity, or first moment
    float* second;          // [count]: second moment
    float* largest;         // [count]: its maximum so far
    long long count;
    float clip;  // 0: none
    float momentum;
    float new1;  // 1 - beta1: how much of the gradient goes into the first moment; rounded once, on the host
    float new2;  // 1 - beta2
    float epsilon;
    int unused;
};

__device__ __forceinline__ bool is_lost(const OptimizerArguments& g) { return g.flag != nullptr && g.flag[0] != 0; }

__device__ __forceinline__ float clipped_gradient(const OptimizerArguments& g, long long i) {
    const float gradient = g.gradient[i] * g.hyper[3];
    // The bounds are ordered so that NaN stays NaN: a lost step must be seen, not clipped away.
    return g.clip == 0.0f ? gradient : gradient > g.clip ? g.clip : gradient < -g.clip ? -g.clip : gradient;
}

template <bool NESTEROV>
__device__ __forceinline__ void sgd(const OptimizerArguments& g) {
    if (is_lost(g)) return;
    const float rate = g.hyper[0];
#pragma unroll 1  // four iterations at once would spill: each needs five addresses
    for (long long i = first_index(); i < g.count; i += index_stride()) {
        const float gradient = clipped_gradient(g, i);
        const float velocity = g.momentum * g.first[i] - rate * gradient;
        g.first[i] = velocity;
        g.parameter[i] += NESTEROV ? g.momentum * velocity - rate * gradient : velocity;
    }
}

extern "C" __global__ void __launch_bounds__(256) optimizer_sgd(const __grid_constant__ OptimizerArguments g) {
    sgd<false>(g);
}
extern "C" __global__ void __launch_bounds__(256) optimizer_nesterov(const __grid_constant__ OptimizerArguments g) {
    sgd<true>(g);
}

enum class Moments { ADAM, AMSGRAD, NADAM };

template <Moments KIND>
__device__ __forceinline__ void moments(const OptimizerArguments& g) {
    if (is_lost(g)) return;
    const float rate = g.hyper[0], of_gradient = g.hyper[1], of_moment = g.hyper[2];
#pragma unroll 1
    for (long long i = first_index(); i < g.count; i += index_stride()) {
        const float gradient = clipped_gradient(g, i);
        const float m = g.first[i] + (gradient - g.first[i]) * g.new1;
        float v = g.second[i] + (gradient * gradient - g.second[i]) * g.new2;
        g.first[i] = m;
        g.second[i] = v;
        if (KIND == Moments::AMSGRAD) {
            v = fmaxf(g.largest[i], v);
            g.largest[i] = v;
        }
        const float direction = KIND == Moments::NADAM ? of_gradient * gradient + of_moment * m : m;
        g.parameter[i] -= rate * direction / (sqrtf(v) + g.epsilon);
    }
}

extern "C" __global__ void __launch_bounds__(256) optimizer_adam(const __grid_constant__ OptimizerArguments g) {
    moments<Moments::ADAM>(g);
}
extern "C" __global__ void __launch_bounds__(256) optimizer_amsgrad(const __grid_constant__ OptimizerArguments g) {
    moments<Moments::AMSGRAD>(g);
}
extern "C" __global__ void __launch_bounds__(256) optimizer_nadam(const __grid_constant__ OptimizerArguments g) {
    moments<Moments::NADAM>(g);
}
