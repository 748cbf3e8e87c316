// Dropout: y[i] = x[i] * (0 or 1 / (1 - rate)), the mask a pure function of (seed, step, layer, element).
//
// A thread owns four neighbouring elements: one Philox call, counter [i / 4, layer, step low, step high]. The mask is
// drawn again in the backward pass, with the same bits as on the CPU. Device memory bounds it. May run in place.
//
// Targets: compute_75

#include "common/common.cuh"
#include "common/philox.cuh"

struct DropoutArguments {
    const float* x;       // [count]
    const unsigned* rng;  // seed low, seed high, step low, step high
    float* y;             // [count]
    long long count;
    unsigned layer;
    float rate;
    float scale;  // 1 / (1 - rate)
    int unused;
};

extern "C" __global__ void __launch_bounds__(256) dropout(const __grid_constant__ DropoutArguments g) {
    const uint2 key = make_uint2(g.rng[0], g.rng[1]);
    const unsigned step_low = g.rng[2], step_high = g.rng[3];
    const long long blocks = (g.count + 3) / 4;
    for (long long block = first_index(); block < blocks; block += index_stride()) {
        const uint4 words = philox(key, make_uint4(static_cast<unsigned>(block), g.layer, step_low, step_high));
        const unsigned word[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
        for (int lane = 0; lane < 4; ++lane) {
            const long long i = 4 * block + lane;
            if (i < g.count) g.y[i] = g.x[i] * (unit(word[lane]) >= g.rate ? g.scale : 0.0f);
        }
    }
}
