// Sums and conversions of whole tensors.
//
//   axpy          y[i] = a[i] + alpha * b[i]          (alpha = 1 adds the gradients of a value with several readers)
//   cast_*        y[i] = x[i] in another floating-point type, rounded to nearest even
//
// Threads stride over runs of sixteen bytes. Nothing is reused: device memory bounds all of them. Operands may be one and the same tensor (planned in place).
//
// Targets: compute_75, compute_80

#include <type_traits>

#include "common/element.cuh"

struct AxpyArguments {
    const void* a;  // [count]
    const void* b;  // [count]
    void* y;        // [count]
    long long count;
    float alpha;
    int unused;
};

template <typename T>
__device__ __forceinline__ void axpy(const AxpyArguments& g) {
    for_each_run<T>(g.count, [&](auto width, long long i) {
        float a[width.COUNT], b[width.COUNT];
        load_run<T>(static_cast<const T*>(g.a) + i, a);
        load_run<T>(static_cast<const T*>(g.b) + i, b);
#pragma unroll
        for (int lane = 0; lane < width.COUNT; ++lane) a[lane] = fmaf(g.alpha, b[lane], a[lane]);
        store_run<T>(static_cast<T*>(g.y) + i, a);
    });
}

#define AXPY(TYPE, NAME)                                                                                    \
    extern "C" __global__ void __launch_bounds__(256) axpy##NAME(const __grid_constant__ AxpyArguments g) { \
        axpy<TYPE>(g);                                                                                      \
    }
FOR_EACH_TYPE(AXPY)

struct CastArguments {
    const void* x;  // [count]
    void* y;        // [count]
    long long count;
};

// Four elements at a time: sixteen bytes of the wider side.
template <typename To, typename From>
__device__ __forceinline__ void cast(const CastArguments& g) {
    using Narrow = std::conditional_t<sizeof(To) == 2, To, From>;
    const From* x = static_cast<const From*>(g.x);
    To* y = static_cast<To*>(g.y);
    const long long runs = g.count / 4;
    for (long long run = first_index(); run < runs; run += index_stride()) {
        if constexpr (sizeof(To) == 2) {
            const float4 values = reinterpret_cast<const float4*>(x)[run];
            reinterpret_cast<uint2*>(y)[run] =
                make_uint2(narrow_pair<Narrow>(values.x, values.y), narrow_pair<Narrow>(values.z, values.w));
        } else {
            const uint2 words = reinterpret_cast<const uint2*>(x)[run];
            const float2 low = widen_pair<Narrow>(words.x), high = widen_pair<Narrow>(words.y);
            reinterpret_cast<float4*>(y)[run] = make_float4(low.x, low.y, high.x, high.y);
        }
    }
    const long long rest = 4 * runs + first_index();
    if (rest < g.count) y[rest] = narrow<To>(widen(x[rest]));
}

#define CAST(TYPE)                                                                                                   \
    extern "C" __global__ void __launch_bounds__(256) cast_f32_##TYPE(const __grid_constant__ CastArguments g) {     \
        cast<TYPE, float>(g);                                                                                        \
    }                                                                                                                \
    extern "C" __global__ void __launch_bounds__(256) cast_##TYPE##_f32(const __grid_constant__ CastArguments g) {   \
        cast<float, TYPE>(g);                                                                                        \
    }
CAST(fp16)
BF16_ONLY(CAST(bf16))
