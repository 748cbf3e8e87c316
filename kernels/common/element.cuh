// Element types of activations: fp32, bf16, fp16. Kernels compute in fp32 and round once, to nearest even, when they store.
// bf16 needs compute capability 8.0, so compute_75 has no kernel of that name: BF16_ONLY hides it there.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

using bf16 = __nv_bfloat16;
using fp16 = __half;

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
#define BF16_ONLY(...)
#else
#define BF16_ONLY(...) __VA_ARGS__
#endif

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

// The elements of one 16-byte request: 4 of fp32, 8 of 16 bits.
template <typename T>
struct alignas(16) Pack {
    static constexpr int COUNT = 16 / sizeof(T);
    T elements[COUNT];

    __device__ __forceinline__ float operator[](int i) const { return widen(elements[i]); }
    __device__ __forceinline__ void set(int i, float value) { elements[i] = narrow<T>(value); }
};
