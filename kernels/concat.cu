// Concatenation along the channels, y[v] = a[v] followed by b[v], and its inverse.
//
// A thread per sixteen bytes of the joined tensor, or per element where the parts' channels do not come in whole runs. Device memory bounds it.
//
// Elements are moved, not looked at: types of the same size share a kernel.
//
// Targets: compute_75

#include "common/element.cuh"

struct ConcatArguments {
    void* a;  // [voxels, first]
    void* b;  // [voxels, second]
    void* y;  // [voxels, first + second]
    long long voxels;
    int first;
    int second;
};

template <int N, typename T, typename Move>
__device__ __forceinline__ void for_each_pair(const ConcatArguments& g, Move move) {
    const int first = g.first / N, runs = (g.first + g.second) / N;
    for (long long i = first_index(); i < g.voxels * runs; i += index_stride()) {
        long long voxel = i;
        const int c = take_axis(voxel, runs);
        T* part = c < first ? static_cast<T*>(g.a) + voxel * g.first + c * N
                            : static_cast<T*>(g.b) + voxel * g.second + (c - first) * N;
        move(part, static_cast<T*>(g.y) + i * N);
    }
}

template <typename T>
__device__ __forceinline__ void concat_join(const ConcatArguments& g) {
    by_channels<T>(g.first % RUN<T> == 0 ? g.second : 1, [&](auto width) {
        constexpr int N = width.COUNT;
        for_each_pair<N, T>(g, [](T* part, T* joined) { move_run<N>(joined, part); });
    });
}

template <typename T>
__device__ __forceinline__ void concat_split(const ConcatArguments& g) {
    by_channels<T>(g.first % RUN<T> == 0 ? g.second : 1, [&](auto width) {
        constexpr int N = width.COUNT;
        for_each_pair<N, T>(g, [](T* part, T* joined) { move_run<N>(part, joined); });
    });
}

#define CONCAT(TYPE, NAME)                                                                                           \
    extern "C" __global__ void __launch_bounds__(256) concat_join##NAME(const __grid_constant__ ConcatArguments g) { \
        concat_join<TYPE>(g);                                                                                        \
    }                                                                                                                \
    extern "C" __global__ void __launch_bounds__(256) concat_split##NAME(const __grid_constant__ ConcatArguments g) { \
        concat_split<TYPE>(g);                                                                                       \
    }
CONCAT(float, )
CONCAT(fp16, _16)
