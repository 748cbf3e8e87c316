// Whether any of many gradients is infinite or no number: fp16's step is skipped then, and its loss scale lowered.
//
// A CTA looks at every gridDim.x-th run of its tensor and leaves a verdict; a warp merges the verdicts into the flag that the
// optimizer reads. No atomics: whoever finds something needs no order, but nobody has to clear a flag first. Device memory
// bounds it.
//
// Targets: compute_75

#include "common/element.cuh"

struct NonFiniteArguments {
    const float* x;      // [count]
    unsigned* verdicts;  // [CTAs]: 0 or 1
    long long count;
};

extern "C" __global__ void __launch_bounds__(256) non_finite(const __grid_constant__ NonFiniteArguments g) {
    bool is_bad = false;
    for_each_run<float>(g.count, [&](auto width, long long i) {
        float values[width.COUNT];
        load_run<float>(g.x + i, values);
#pragma unroll
        for (const float value : values) is_bad |= !isfinite(value);
    });
    const int found = __syncthreads_or(is_bad);
    if (threadIdx.x == 0) g.verdicts[blockIdx.x] = found != 0;
}

struct NonFiniteMergeArguments {
    const unsigned* verdicts;  // [count]
    unsigned* flag;            // [1]
    int count;
    int unused;
};

extern "C" __global__ void __launch_bounds__(WARP) non_finite_merge(const __grid_constant__ NonFiniteMergeArguments g) {
    unsigned found = 0;
    for (int i = threadIdx.x; i < g.count; i += WARP) found |= g.verdicts[i];
    const bool is_bad = __any_sync(ALL_LANES, found != 0);
    if (threadIdx.x == 0) g.flag[0] = is_bad;
}
