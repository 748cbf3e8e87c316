// Concatenation along the channels, y[v] = a[v] followed by b[v], and its inverse.
//
// A thread per element of the joined tensor, so reads and writes are runs of channels. Device memory bounds it.
//
// Targets: compute_75

#include "common/common.cuh"

struct ConcatArguments {
    float* a;  // [voxels, first]
    float* b;  // [voxels, second]
    float* y;  // [voxels, first + second]
    long long voxels;
    int first;
    int second;
};

template <typename Move>
__device__ __forceinline__ void for_each_pair(const ConcatArguments& g, Move move) {
    const int channels = g.first + g.second;
    for (long long i = first_index(); i < g.voxels * channels; i += index_stride()) {
        long long voxel = i;
        const int c = take_axis(voxel, channels);
        float* part = c < g.first ? g.a + voxel * g.first + c : g.b + voxel * g.second + (c - g.first);
        move(part, g.y + i);
    }
}

extern "C" __global__ void __launch_bounds__(256) concat_join(const __grid_constant__ ConcatArguments g) {
    for_each_pair(g, [](float* part, float* joined) { *joined = *part; });
}

extern "C" __global__ void __launch_bounds__(256) concat_split(const __grid_constant__ ConcatArguments g) {
    for_each_pair(g, [](float* part, float* joined) { *part = *joined; });
}
