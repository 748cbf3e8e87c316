// Dropout: y[i] = x[i] * (0 or 1 / (1 - rate)), the mask a pure function of (seed, step, layer, element).
//
// Four neighbouring elements share a Philox call, counter [i / 4, layer, step low, step high]. The mask is
// drawn again in the backward pass, with the same bits as on the CPU. Device memory bounds it. May run in place.
//
// Targets: compute_75, compute_80

#include "common/element.cuh"
#include "common/philox.cuh"

struct DropoutArguments {
    const void* x;        // [count]
    const unsigned* rng;  // seed low, seed high, step low, step high
    void* y;              // [count]
    long long count;
    unsigned layer;
    float rate;
    float scale;  // 1 / (1 - rate)
    int unused;
};

// A thread owns a run of sixteen bytes: one or two Philox calls.
template <typename T>
__device__ __forceinline__ void dropout(const DropoutArguments& g) {
    const uint2 key = make_uint2(g.rng[0], g.rng[1]);
    const unsigned step_low = g.rng[2], step_high = g.rng[3];
    auto factors = [&](long long block, float (&factor)[4]) {
        const uint4 words = philox(key, make_uint4(static_cast<unsigned>(block), g.layer, step_low, step_high));
        const unsigned word[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
        for (int lane = 0; lane < 4; ++lane) factor[lane] = unit(word[lane]) >= g.rate ? g.scale : 0.0f;
    };
    for_each_run<T>(g.count, [&](auto width, long long i) {
        float values[width.COUNT], factor[4];
        load_run<T>(static_cast<const T*>(g.x) + i, values);
        if constexpr (width.COUNT == 1) {
            factors(i / 4, factor);
            values[0] *= i % 4 == 0 ? factor[0] : i % 4 == 1 ? factor[1] : i % 4 == 2 ? factor[2] : factor[3];
        } else {
#pragma unroll
            for (int lane = 0; lane < width.COUNT; ++lane) {
                if (lane % 4 == 0) factors((i + lane) / 4, factor);
                values[lane] *= factor[lane % 4];
            }
        }
        store_run<T>(static_cast<T*>(g.y) + i, values);
    });
}

#define DROPOUT(TYPE, NAME)                                                                                       \
    extern "C" __global__ void __launch_bounds__(256) dropout##NAME(const __grid_constant__ DropoutArguments g) { \
        dropout<TYPE>(g);                                                                                         \
    }
FOR_EACH_TYPE(DROPOUT)
