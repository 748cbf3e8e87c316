// Transposed 3-D convolution in fp32, kernel 2x2x2, stride 2: no two taps meet, so each pass is one matrix product.
//
//   fprop   y[2i + t, k]     = bias[k] + sum over c of x[i, c] * filter[t, c, k]       [voxels, in]     x [in, (t, out)]
//   dgrad   dx[i, c]         = sum over t, k of dy[2i + t, k] * filter[t, c, k]        [voxels, (t, out)] x [(t, out), in]
//   wgrad   dfilter[t, c, k] = sum over i of x[i, c] * dy[2i + t, k]                   [in, voxels]     x [voxels, (t, out)]
//
// A CTA owns 64 x 64 results, a thread 4 x 4 of them in registers; both operands come through shared memory in steps of
// 16 along the summed axis, gathered by the index maps above. wgrad's sum over voxels is cut into slices that are added in
// order afterwards; dbias is a sum per channel of its own. Arithmetic bounds fprop and dgrad for 32 channels and more,
// device memory below.
//
// Targets: compute_75

#include "common/channel_sums.cuh"
#include "common/slices.cuh"

constexpr int TILE = 64, DEPTH = 16, PRODUCT_THREADS = 256;

struct ConvTranspose3dArguments {
    const float* source;  // fprop: x [n, d, h, w, in]; dgrad: dy [n, 2d, 2h, 2w, out]
    const float* filter;  // [2, 2, 2, in, out]
    const float* bias;    // [out]; fprop only
    float* result;        // fprop: y [n, 2d, 2h, 2w, out]; dgrad: dx [n, d, h, w, in]
    int n, d, h, w;       // extents of the small volume
    int in, out;
};

// The first element of the large voxel that tap 0 of a small voxel paints.
__device__ __forceinline__ long long painted(long long voxel, int d, int h, int w, int out) {
    const int x = take_axis(voxel, w), y = take_axis(voxel, h), z = take_axis(voxel, d);
    return (((voxel * 2 * d + 2 * z) * 2 * h + 2 * y) * 2 * w + 2 * x) * out;
}

// How far tap t's voxel lies behind tap 0's, in elements.
__device__ __forceinline__ long long tap_offset(int tap, int h, int w, int out) {
    return ((static_cast<long long>(tap / 4) * 2 * h + tap / 2 % 2) * 2 * w + tap % 2) * out;
}

// sums += rows of A times columns of B over [begin, end) of the summed axis. `a(m, s)` and `b(s, n)` return elements, zero
// outside; A_RUNS and B_RUNS say which index neighbouring lanes should differ in: true for the summed one.
template <bool A_RUNS, bool B_RUNS, typename A, typename B>
__device__ __forceinline__ void product(float (&sums)[4][4], long long begin, long long end, A a, B b) {
    __shared__ __align__(16) float a_tile[DEPTH][TILE + 4];  // padded: lanes along the summed axis would share a bank
    __shared__ __align__(16) float b_tile[DEPTH][TILE + 4];
    const int row = threadIdx.x / 16, column = threadIdx.x % 16;
    for (long long s0 = begin; s0 < end; s0 += DEPTH) {
        __syncthreads();  // the step before has been read
#pragma unroll
        for (int i = threadIdx.x; i < TILE * DEPTH; i += PRODUCT_THREADS) {
            const int a_s = A_RUNS ? i % DEPTH : i / TILE, a_m = A_RUNS ? i / DEPTH : i % TILE;
            const int b_s = B_RUNS ? i % DEPTH : i / TILE, b_n = B_RUNS ? i / DEPTH : i % TILE;
            a_tile[a_s][a_m] = s0 + a_s < end ? a(a_m, s0 + a_s) : 0.0f;
            b_tile[b_s][b_n] = s0 + b_s < end ? b(s0 + b_s, b_n) : 0.0f;
        }
        __syncthreads();
#pragma unroll
        for (int s = 0; s < DEPTH; ++s) {
            const float4 left = *reinterpret_cast<const float4*>(&a_tile[s][4 * row]);
            const float4 right = *reinterpret_cast<const float4*>(&b_tile[s][4 * column]);
            const float l[4] = {left.x, left.y, left.z, left.w}, r[4] = {right.x, right.y, right.z, right.w};
#pragma unroll
            for (int i = 0; i < 4; ++i) {
#pragma unroll
                for (int j = 0; j < 4; ++j) sums[i][j] = fmaf(l[i], r[j], sums[i][j]);
            }
        }
    }
}

// Stores a thread's four neighbouring results, of which `count` exist, in one request where the row's length allows it.
__device__ __forceinline__ void store_four(float* to, const float (&values)[4], int count, bool is_aligned) {
    if (is_aligned && count >= 4) {
        *reinterpret_cast<float4*>(to) = make_float4(values[0], values[1], values[2], values[3]);
        return;
    }
#pragma unroll
    for (int j = 0; j < 4; ++j)
        if (j < count) to[j] = values[j];
}

extern "C" __global__ void __launch_bounds__(PRODUCT_THREADS)
    conv_transpose3d_fprop(const __grid_constant__ ConvTranspose3dArguments g) {
    const long long voxels = static_cast<long long>(g.n) * g.d * g.h * g.w;
    const long long m0 = static_cast<long long>(blockIdx.x) * TILE;
    const int n0 = blockIdx.y * TILE, columns = 8 * g.out;
    float sums[4][4] = {};
    product<true, false>(
        sums, 0, g.in,
        [&](int m, long long c) { return m0 + m < voxels ? g.source[(m0 + m) * g.in + c] : 0.0f; },
        [&](long long c, int n) {
            const int tap = (n0 + n) / g.out, k = (n0 + n) % g.out;
            return n0 + n < columns ? g.filter[(static_cast<long long>(tap) * g.in + c) * g.out + k] : 0.0f;
        });
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const long long voxel = m0 + 4 * (threadIdx.x / 16) + i;
        if (voxel >= voxels) break;
        const long long base = painted(voxel, g.d, g.h, g.w, g.out);
        const int first = n0 + 4 * (threadIdx.x % 16);
        if (g.out % 4 == 0) {  // then the four columns belong to one tap
            if (first >= columns) break;
            const int k = first % g.out;
            const float values[4] = {sums[i][0] + g.bias[k], sums[i][1] + g.bias[k + 1], sums[i][2] + g.bias[k + 2],
                                     sums[i][3] + g.bias[k + 3]};
            store_four(g.result + base + tap_offset(first / g.out, g.h, g.w, g.out) + k, values, 4, true);
            continue;
        }
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            const int n = first + j, k = n % g.out;
            if (n < columns) g.result[base + tap_offset(n / g.out, g.h, g.w, g.out) + k] = sums[i][j] + g.bias[k];
        }
    }
}

extern "C" __global__ void __launch_bounds__(PRODUCT_THREADS)
    conv_transpose3d_dgrad(const __grid_constant__ ConvTranspose3dArguments g) {
    const long long voxels = static_cast<long long>(g.n) * g.d * g.h * g.w;
    const long long m0 = static_cast<long long>(blockIdx.x) * TILE;
    const int n0 = blockIdx.y * TILE;
    float sums[4][4] = {};
    product<true, true>(
        sums, 0, 8LL * g.out,
        [&](int m, long long s) {
            if (m0 + m >= voxels) return 0.0f;
            const int tap = static_cast<int>(s) / g.out, k = static_cast<int>(s) % g.out;
            return g.source[painted(m0 + m, g.d, g.h, g.w, g.out) + tap_offset(tap, g.h, g.w, g.out) + k];
        },
        [&](long long s, int n) {
            const int tap = static_cast<int>(s) / g.out, k = static_cast<int>(s) % g.out;
            return n0 + n < g.in ? g.filter[(static_cast<long long>(tap) * g.in + n0 + n) * g.out + k] : 0.0f;
        });
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const long long voxel = m0 + 4 * (threadIdx.x / 16) + i;
        if (voxel >= voxels) break;
        const int c = n0 + 4 * (threadIdx.x % 16);
        store_four(g.result + voxel * g.in + c, sums[i], g.in - c, g.in % 4 == 0);
    }
}

struct ConvTranspose3dWgradArguments {
    const float* x;   // [n, d, h, w, in]
    const float* dy;  // [n, 2d, 2h, 2w, out]
    float* partials;  // [slices, 8, in, out]
    int n, d, h, w;   // extents of the small volume
    int in, out;
};

extern "C" __global__ void __launch_bounds__(PRODUCT_THREADS)
    conv_transpose3d_wgrad(const __grid_constant__ ConvTranspose3dWgradArguments g) {
    const long long voxels = static_cast<long long>(g.n) * g.d * g.h * g.w, slices = gridDim.z;
    const long long begin = voxels * blockIdx.z / slices, end = voxels * (blockIdx.z + 1) / slices;
    const int m0 = blockIdx.x * TILE, n0 = blockIdx.y * TILE, columns = 8 * g.out;
    float sums[4][4] = {};
    product<false, false>(
        sums, begin, end, [&](int m, long long i) { return m0 + m < g.in ? g.x[i * g.in + m0 + m] : 0.0f; },
        [&](long long i, int n) {
            if (n0 + n >= columns) return 0.0f;
            const int tap = (n0 + n) / g.out, k = (n0 + n) % g.out;
            return g.dy[painted(i, g.d, g.h, g.w, g.out) + tap_offset(tap, g.h, g.w, g.out) + k];
        });
    float* partials = g.partials + blockIdx.z * (8LL * g.in * g.out);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const int c = m0 + 4 * (threadIdx.x / 16) + i, first = n0 + 4 * (threadIdx.x % 16);
        if (c >= g.in || first >= columns) break;
        auto place = [&](int n) { return partials + (static_cast<long long>(n / g.out) * g.in + c) * g.out + n % g.out; };
        if (g.out % 4 == 0) {  // then the four columns belong to one tap
            store_four(place(first), sums[i], 4, true);
            continue;
        }
#pragma unroll
        for (int j = 0; j < 4; ++j)
            if (first + j < columns) *place(first + j) = sums[i][j];
    }
}

struct BiasSumArguments {
    const float* dy;  // [voxels, channels]
    float* partials;  // [slices, channels]
    SlicedVoxels sliced;
};

extern "C" __global__ void __launch_bounds__(SUM_THREADS, 4)  // without a number ptxas squeezes into 32 registers and spills
    conv_transpose3d_bias_sums(const __grid_constant__ BiasSumArguments g) {
    by_run<float>(g.sliced, [&](auto width) {
        constexpr int N = width.COUNT;
        channel_sums<N>(
            g.sliced, [](long long, int, float(&)[N]) {},
            [&](long long i, const float(&)[N], float(&sums)[N], float(&)[N]) {
                float values[N];
                load_run<float>(g.dy + i, values);
#pragma unroll
                for (int lane = 0; lane < N; ++lane) sums[lane] += values[lane];
            },
            [&](int channel, double sum, double, float) {
                g.partials[static_cast<long long>(blockIdx.x) * g.sliced.channels + channel] = static_cast<float>(sum);
            });
    });
}

extern "C" __global__ void __launch_bounds__(256) conv_transpose3d_slice_sum(const __grid_constant__ SliceSumArguments g) {
    slice_sum(g);
}
