// Element types of activations: fp32, bf16, fp16. Kernels compute in fp32 and round once, to nearest even, when they store.
// bf16 needs compute capability 8.0, so compute_75 has no kernel of that name: BF16_ONLY hides it there.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "common.cuh"

using bf16 = __nv_bfloat16;
using fp16 = __half;

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
#define BF16_ONLY(...)
#else
#define BF16_ONLY(...) __VA_ARGS__
#endif

// A kernel for every element type: KERNEL(element type, suffix of its name).
#define FOR_EACH_TYPE(KERNEL) \
    KERNEL(float, )           \
    KERNEL(fp16, _fp16)       \
    BF16_ONLY(KERNEL(bf16, _bf16))

__device__ __forceinline__ float widen(float x) { return x; }
__device__ __forceinline__ float widen(bf16 x) { return __bfloat162float(x); }
__device__ __forceinline__ float widen(fp16 x) { return __half2float(x); }

template <typename T>
__device__ __forceinline__ T narrow(float x);
template <>
__device__ __forceinline__ float narrow<float>(float x) { return x; }
template <>
__device__ __forceinline__ bf16 narrow<bf16>(float x) { return __float2bfloat16_rn(x); }
template <>
__device__ __forceinline__ fp16 narrow<fp16>(float x) { return __float2half_rn(x); }

// Two 16-bit elements in a word, the first in the lower half.
template <typename T>
__device__ __forceinline__ float2 widen_pair(unsigned word);
template <>
__device__ __forceinline__ float2 widen_pair<bf16>(unsigned word) {
    return make_float2(__uint_as_float(word << 16), __uint_as_float(word & 0xffff0000u));
}
template <>
__device__ __forceinline__ float2 widen_pair<fp16>(unsigned word) {
    __half2_raw raw;
    raw.x = static_cast<unsigned short>(word);
    raw.y = static_cast<unsigned short>(word >> 16);
    return __half22float2(__half2(raw));
}

template <typename T>
__device__ __forceinline__ unsigned narrow_pair(float first, float second);
template <>
__device__ __forceinline__ unsigned narrow_pair<bf16>(float first, float second) {
    const __nv_bfloat162_raw raw = __floats2bfloat162_rn(first, second);
    return raw.x | static_cast<unsigned>(raw.y) << 16;
}
template <>
__device__ __forceinline__ unsigned narrow_pair<fp16>(float first, float second) {
    const __half2_raw raw = __floats2half2_rn(first, second);
    return raw.x | static_cast<unsigned>(raw.y) << 16;
}

// Elements of one 16-byte request: 4 of fp32, 8 of 16 bits.
template <typename T>
constexpr int RUN = 16 / sizeof(T);

// N neighbouring elements as fp32, in one request: N is RUN<T>, at an address that is a multiple of sixteen, or 1.
template <typename T, int N>
__device__ __forceinline__ void load_run(const T* from, float (&values)[N]) {
    static_assert(N == 1 || N == RUN<T>, "one element or a whole request");
    if constexpr (N == 1) {
        values[0] = widen(*from);
    } else if constexpr (sizeof(T) == 4) {
        const float4 run = *reinterpret_cast<const float4*>(from);
        values[0] = run.x, values[1] = run.y, values[2] = run.z, values[3] = run.w;
    } else {
        const uint4 run = *reinterpret_cast<const uint4*>(from);
        const unsigned words[4] = {run.x, run.y, run.z, run.w};
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const float2 pair = widen_pair<T>(words[i]);
            values[2 * i] = pair.x, values[2 * i + 1] = pair.y;
        }
    }
}

template <typename T, int N>
__device__ __forceinline__ void store_run(T* to, const float (&values)[N]) {
    static_assert(N == 1 || N == RUN<T>, "one element or a whole request");
    if constexpr (N == 1) {
        *to = narrow<T>(values[0]);
    } else if constexpr (sizeof(T) == 4) {
        *reinterpret_cast<float4*>(to) = make_float4(values[0], values[1], values[2], values[3]);
    } else {
        *reinterpret_cast<uint4*>(to) =
            make_uint4(narrow_pair<T>(values[0], values[1]), narrow_pair<T>(values[2], values[3]),
                       narrow_pair<T>(values[4], values[5]), narrow_pair<T>(values[6], values[7]));
    }
}

// The same without a look at the elements.
template <int N, typename T>
__device__ __forceinline__ void move_run(T* to, const T* from) {
    if constexpr (N == 1)
        *to = *from;
    else
        *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(from);
}

template <int N>
struct Width {
    static constexpr int COUNT = N;
};

// Calls body(Width, first element) for runs that together are the `count` elements of arrays that begin at multiples of
// sixteen bytes: whole requests, then the rest one by one.
template <typename T, typename Body>
__device__ __forceinline__ void for_each_run(long long count, Body body) {
    const long long runs = count / RUN<T>;
#pragma unroll 2
    for (long long run = first_index(); run < runs; run += index_stride()) body(Width<RUN<T>>{}, run * RUN<T>);
    const long long rest = runs * RUN<T> + first_index();
    if (rest < count) body(Width<1>{}, rest);
}

// Calls body(Width) with the longest run that divides the channels, so that no request straddles two voxels.
template <typename T, typename Body>
__device__ __forceinline__ void by_channels(int channels, Body body) {
    if (channels % RUN<T> == 0)
        body(Width<RUN<T>>{});
    else
        body(Width<1>{});
}
