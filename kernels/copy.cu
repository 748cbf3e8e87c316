// y = x.
//
// A thread moves 16 bytes at a time, every gridDim.x * blockDim.x-th of them: each warp reads and writes whole lines. The last
// few elements go one by one. Bound by device memory: this is what the roofline's bandwidth is measured with.
//
// Targets: compute_75

#include "common/common.cuh"

struct CopyArguments {
    const float* x;  // [count], aligned to 16 bytes
    float* y;        // [count], aligned to 16 bytes
    long long count;
};

extern "C" __global__ void __launch_bounds__(256) copy(const __grid_constant__ CopyArguments g) {
    const float4* x = reinterpret_cast<const float4*>(g.x);
    float4* y = reinterpret_cast<float4*>(g.y);
    const long long vectors = g.count / 4;
#pragma unroll 4
    for (long long i = first_index(); i < vectors; i += index_stride()) y[i] = x[i];
    const long long i = 4 * vectors + first_index();
    if (i < g.count) g.y[i] = g.x[i];
}
