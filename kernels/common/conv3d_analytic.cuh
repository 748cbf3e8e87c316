// The three passes of a convolution as their sums stand, a thread per result: any extents, any element type, fp32 sums.
#pragma once

#include "element.cuh"
#include "halo.cuh"

struct Conv3dArguments {
    const void* source;  // fprop: x [n, d, h, w, in]; dgrad: dy [n, d, h, w, out]
    const void* filter;  // [kd, kh, kw, in, out]
    const float* bias;   // [out]; fprop only
    void* result;        // fprop: y [n, d, h, w, out]; dgrad: dx [n, d, h, w, in]
    Volume volume;
    int kd, kh, kw;
    int in, out;
    int relu;
};

template <typename T>
__device__ __forceinline__ void conv3d_fprop_analytic(const Conv3dArguments& g) {
    const Volume& v = g.volume;
    const long long count = static_cast<long long>(v.n) * v.d * v.h * v.w * g.out;
    for (long long i = first_index(); i < count; i += index_stride()) {
        long long n = i;
        const int k = take_axis(n, g.out), w = take_axis(n, v.w), h = take_axis(n, v.h), d = take_axis(n, v.d);
        float sum = g.bias[k];
        for (int tap = 0; tap < g.kd * g.kh * g.kw; ++tap) {
            const int from_d = d + tap / (g.kh * g.kw) - (g.kd - 1) / 2;
            const int from_h = h + tap / g.kw % g.kh - (g.kh - 1) / 2, from_w = w + tap % g.kw - (g.kw - 1) / 2;
            if (!contains(v, from_d, from_h, from_w)) continue;
            const T* x = static_cast<const T*>(g.source) + voxel_index(v, static_cast<int>(n), from_d, from_h, from_w) * g.in;
            const T* filter = static_cast<const T*>(g.filter) + static_cast<long long>(tap) * g.in * g.out + k;
            for (int c = 0; c < g.in; ++c) sum = fmaf(widen(x[c]), widen(filter[static_cast<long long>(c) * g.out]), sum);
        }
        static_cast<T*>(g.result)[i] = narrow<T>(g.relu ? fmaxf(sum, 0.0f) : sum);
    }
}

template <typename T>
__device__ __forceinline__ void conv3d_dgrad_analytic(const Conv3dArguments& g) {
    const Volume& v = g.volume;
    const long long count = static_cast<long long>(v.n) * v.d * v.h * v.w * g.in;
    for (long long i = first_index(); i < count; i += index_stride()) {
        long long n = i;
        const int c = take_axis(n, g.in), w = take_axis(n, v.w), h = take_axis(n, v.h), d = take_axis(n, v.d);
        float sum = 0.0f;
        for (int tap = 0; tap < g.kd * g.kh * g.kw; ++tap) {
            const int to_d = d - tap / (g.kh * g.kw) + (g.kd - 1) / 2;
            const int to_h = h - tap / g.kw % g.kh + (g.kh - 1) / 2, to_w = w - tap % g.kw + (g.kw - 1) / 2;
            if (!contains(v, to_d, to_h, to_w)) continue;
            const T* dy = static_cast<const T*>(g.source) + voxel_index(v, static_cast<int>(n), to_d, to_h, to_w) * g.out;
            const T* filter = static_cast<const T*>(g.filter) + (static_cast<long long>(tap) * g.in + c) * g.out;
            for (int k = 0; k < g.out; ++k) sum = fmaf(widen(dy[k]), widen(filter[k]), sum);
        }
        static_cast<T*>(g.result)[i] = narrow<T>(sum);
    }
}

struct Conv3dWgradArguments {
    const void* x;    // [n, d, h, w, in]
    const void* dy;   // [n, d, h, w, out]
    float* partials;  // [slices, kd * kh * kw * in * out + out]: the filter's gradient, then the bias's
    Volume volume;
    int kd, kh, kw;
    int in, out;
    int unused;
};

template <typename T>
__device__ __forceinline__ void conv3d_wgrad_analytic(const Conv3dWgradArguments& g) {
    const Volume& v = g.volume;
    const long long weights = static_cast<long long>(g.kd) * g.kh * g.kw * g.in * g.out;
    const long long voxels = static_cast<long long>(v.n) * v.d * v.h * v.w, slices = gridDim.y;
    const long long begin = voxels * blockIdx.y / slices, end = voxels * (blockIdx.y + 1) / slices;
    float* partials = g.partials + blockIdx.y * (weights + g.out);
    for (long long i = first_index(); i < weights + g.out; i += index_stride()) {
        long long tap = i;
        const int k = take_axis(tap, g.out), c = take_axis(tap, g.in);
        const int tap_w = take_axis(tap, g.kw), tap_h = take_axis(tap, g.kh), tap_d = static_cast<int>(tap);
        float sum = 0.0f;
        for (long long voxel = begin; voxel < end; ++voxel) {
            const float gradient = widen(static_cast<const T*>(g.dy)[voxel * g.out + k]);
            if (i >= weights) {
                sum += gradient;
                continue;
            }
            long long n = voxel;
            const int w = take_axis(n, v.w) + tap_w - (g.kw - 1) / 2, h = take_axis(n, v.h) + tap_h - (g.kh - 1) / 2;
            const int d = take_axis(n, v.d) + tap_d - (g.kd - 1) / 2;
            if (!contains(v, d, h, w)) continue;
            const long long element = voxel_index(v, static_cast<int>(n), d, h, w) * g.in + c;
            sum = fmaf(widen(static_cast<const T*>(g.x)[element]), gradient, sum);
        }
        partials[i] = sum;
    }
}

#define CONV3D_ANALYTIC(TYPE, NAME)                                                                                     \
    extern "C" __global__ void __launch_bounds__(256)                                                                   \
        conv3d_fprop_analytic##NAME(const __grid_constant__ Conv3dArguments g) {                                        \
        conv3d_fprop_analytic<TYPE>(g);                                                                                 \
    }                                                                                                                   \
    extern "C" __global__ void __launch_bounds__(256)                                                                   \
        conv3d_dgrad_analytic##NAME(const __grid_constant__ Conv3dArguments g) {                                        \
        conv3d_dgrad_analytic<TYPE>(g);                                                                                 \
    }                                                                                                                   \
    extern "C" __global__ void __launch_bounds__(256)                                                                   \
        conv3d_wgrad_analytic##NAME(const __grid_constant__ Conv3dWgradArguments g) {                                   \
        conv3d_wgrad_analytic<TYPE>(g);                                                                                 \
    }
