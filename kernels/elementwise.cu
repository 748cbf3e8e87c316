// Sums and conversions of whole tensors.
//
//   axpy          y[i] = a[i] + alpha * b[i]          (alpha = 1 adds the gradients of a value with several readers)
//   cast_*        y[i] = x[i] in another floating-point type, rounded to nearest even
//
// One thread takes every gridDim.x * blockDim.x-th element, so neighbouring lanes touch neighbouring words. Nothing is
// reused: device memory bounds all of them. Operands may be one and the same tensor (planned in place).
//
// Targets: compute_75

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "common/common.cuh"

struct AxpyArguments {
    const float* a;  // [count]
    const float* b;  // [count]
    float* y;        // [count]
    long long count;
    float alpha;
    int unused;
};

extern "C" __global__ void __launch_bounds__(256) axpy(const __grid_constant__ AxpyArguments g) {
#pragma unroll 4
    for (long long i = first_index(); i < g.count; i += index_stride()) g.y[i] = fmaf(g.alpha, g.b[i], g.a[i]);
}

struct CastArguments {
    const void* x;  // [count]
    void* y;        // [count]
    long long count;
};

template <typename To, typename From, typename Convert>
__device__ __forceinline__ void cast(const CastArguments& g, Convert convert) {
    const From* x = static_cast<const From*>(g.x);
    To* y = static_cast<To*>(g.y);
#pragma unroll 4
    for (long long i = first_index(); i < g.count; i += index_stride()) y[i] = convert(x[i]);
}

extern "C" __global__ void __launch_bounds__(256) cast_f32_bf16(const __grid_constant__ CastArguments g) {
    cast<__nv_bfloat16, float>(g, [](float x) { return __float2bfloat16_rn(x); });
}
extern "C" __global__ void __launch_bounds__(256) cast_f32_f16(const __grid_constant__ CastArguments g) {
    cast<__half, float>(g, [](float x) { return __float2half_rn(x); });
}
extern "C" __global__ void __launch_bounds__(256) cast_bf16_f32(const __grid_constant__ CastArguments g) {
    cast<float, __nv_bfloat16>(g, [](__nv_bfloat16 x) { return __bfloat162float(x); });
}
extern "C" __global__ void __launch_bounds__(256) cast_f16_f32(const __grid_constant__ CastArguments g) {
    cast<float, __half>(g, [](__half x) { return __half2float(x); });
}
