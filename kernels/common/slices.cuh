// Adds partial sums slice by slice. A reduction over millions of voxels into few numbers is cut into slices that
// run side by side; adding them in slice order costs one small launch and buys bit-identical runs, which atomics would not.
#pragma once

#include "common.cuh"

struct SliceSumArguments {
    const float* partials;  // [slices, stride], of which the first `count` are summed
    float* sums;            // [count]
    long long count;
    long long stride;
    int slices;
    int unused;
};

__device__ __forceinline__ void slice_sum(const SliceSumArguments& g) {
    for (long long i = first_index(); i < g.count; i += index_stride()) {
        float sum = 0.0f;
        for (int slice = 0; slice < g.slices; ++slice) sum += g.partials[slice * g.stride + i];
        g.sums[i] = sum;
    }
}
