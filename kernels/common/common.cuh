// What every family needs: indices that survive volumes of more than 2^31 elements, and sums in a fixed order.
#pragma once

constexpr int WARP = 32;
constexpr unsigned ALL_LANES = 0xffffffffu;

// This thread's place in a one-dimensional grid, and the grid's size: the bounds of a grid-stride loop.
__device__ __forceinline__ long long first_index() {
    return static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
}
__device__ __forceinline__ long long index_stride() {
    return static_cast<long long>(gridDim.x) * blockDim.x;
}

// n / d for n >= 0. A 64-bit division costs about a hundred instructions and hardly any volume needs it.
__device__ __forceinline__ long long quotient(long long n, int d) {
    return (n >> 32) == 0 ? static_cast<unsigned>(n) / static_cast<unsigned>(d) : n / d;
}

// Takes the innermost axis off a linear index: returns the position on it and leaves the rest.
__device__ __forceinline__ int take_axis(long long& index, int extent) {
    const long long rest = quotient(index, extent);
    const int position = static_cast<int>(index - rest * extent);
    index = rest;
    return position;
}

// The sum over a warp, in every lane. A butterfly: the same order in each run.
template <typename T>
__device__ __forceinline__ T warp_sum(T value) {
#pragma unroll
    for (int offset = WARP / 2; offset > 0; offset /= 2) value += __shfl_xor_sync(ALL_LANES, value, offset);
    return value;
}
