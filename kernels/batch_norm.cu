// Batch normalisation over N D H W, per channel:
//
//   y  = (x - mean) * scale + beta,  scale = gamma / sqrt(variance + epsilon)
//   dx = scale * (dy - mean(dy) - x_hat * mean(dy x_hat))
//
// Statistics: the voxels are cut into slices, a CTA per slice and tile of channels. Lanes run along the channels, rows of
// the CTA along the voxels (common/channel_sums.cuh). Terms are distances from the slice's own first voxel, so that a large mean does not cancel
// the variance away: one pass over x is as good as two. Slices are then merged in a fixed order by a warp per channel.
// Device memory bounds all of it.
//
// Targets: compute_75, compute_80

#include "common/channel_sums.cuh"

struct ChannelSumArguments {
    const void* x;      // [voxels, channels]
    const void* dy;     // [voxels, channels]; backward only
    const float* mean;  // [channels]; backward only
    double* partials;   // [slices, 3, channels]: two sums and the shift
    SlicedVoxels sliced;
};

template <int N, typename Shift, typename Term>
__device__ __forceinline__ void write_sums(const ChannelSumArguments& g, Shift shift_of, Term term) {
    channel_sums<N>(g.sliced, shift_of, term, [&](int channel, double first, double second, float shift) {
        double* partial = g.partials + static_cast<long long>(blockIdx.x) * 3 * g.sliced.channels + channel;
        partial[0] = first;
        partial[g.sliced.channels] = second;
        partial[2 * g.sliced.channels] = shift;
    });
}

template <typename T, int N>
__device__ __forceinline__ void batch_norm_sums(const ChannelSumArguments& g) {
    const T* x = static_cast<const T*>(g.x);
    write_sums<N>(
        g, [&](long long voxel, int channel, float(&shift)[N]) { load_run<T>(x + voxel * g.sliced.channels + channel, shift); },
        [&](long long i, const float(&shift)[N], float(&first)[N], float(&second)[N]) {
            float values[N];
            load_run<T>(x + i, values);
#pragma unroll
            for (int lane = 0; lane < N; ++lane) {
                const float distance = values[lane] - shift[lane];
                first[lane] += distance;
                second[lane] = fmaf(distance, distance, second[lane]);
            }
        });
}

template <typename T, int N>
__device__ __forceinline__ void batch_norm_backward_sums(const ChannelSumArguments& g) {
    write_sums<N>(
        g,
        [&](long long, int channel, float(&shift)[N]) {
#pragma unroll
            for (int lane = 0; lane < N; ++lane) shift[lane] = g.mean[channel + lane];
        },
        [&](long long i, const float(&shift)[N], float(&first)[N], float(&second)[N]) {
            float gradient[N], values[N];
            load_run<T>(static_cast<const T*>(g.dy) + i, gradient);
            load_run<T>(static_cast<const T*>(g.x) + i, values);
#pragma unroll
            for (int lane = 0; lane < N; ++lane) {
                first[lane] += gradient[lane];
                second[lane] = fmaf(gradient[lane], values[lane] - shift[lane], second[lane]);
            }
        });
}

#define BATCH_NORM_SUMS(TYPE, NAME)                                                                              \
    extern "C" __global__ void __launch_bounds__(SUM_THREADS)                                                    \
        batch_norm_sums##NAME(const __grid_constant__ ChannelSumArguments g) {                                   \
        by_run<TYPE>(g.sliced, [&](auto width) { batch_norm_sums<TYPE, width.COUNT>(g); });                      \
    }                                                                                                            \
    extern "C" __global__ void __launch_bounds__(SUM_THREADS)                                                    \
        batch_norm_backward_sums##NAME(const __grid_constant__ ChannelSumArguments g) {                          \
        by_run<TYPE>(g.sliced, [&](auto width) { batch_norm_backward_sums<TYPE, width.COUNT>(g); });             \
    }
FOR_EACH_TYPE(BATCH_NORM_SUMS)

struct BatchNormFinishArguments {
    const double* partials;  // [slices, 3, channels]
    const float* gamma;      // [channels]; with a scale only
    float* mean;             // [channels]
    float* variance;         // [channels]
    float* scale;            // [channels] or null
    long long voxels;
    long long slice;  // voxels of a slice
    int slices;
    int channels;
    double epsilon;
};

// Merges the slices' statistics: a warp per channel. With shift s, count n and sums a = sum(x - s), q = sum((x - s)^2), a
// slice has the mean s + a / n and the squared distances q - a^2 / n around it.
extern "C" __global__ void __launch_bounds__(WARP) batch_norm_finish(const __grid_constant__ BatchNormFinishArguments g) {
    const int channel = blockIdx.x;
    auto count = [&](int slice) {
        const long long begin = slice * g.slice;
        return static_cast<double>(min(g.slice, g.voxels - begin));
    };
    double total = 0.0;
    for (int slice = threadIdx.x; slice < g.slices; slice += WARP) {
        const double* partial = g.partials + static_cast<long long>(slice) * 3 * g.channels + channel;
        total += partial[0] + count(slice) * partial[2 * g.channels];
    }
    const double mean = warp_sum(total) / g.voxels;
    double squares = 0.0;
    for (int slice = threadIdx.x; slice < g.slices; slice += WARP) {
        const double* partial = g.partials + static_cast<long long>(slice) * 3 * g.channels + channel;
        const double n = count(slice), a = partial[0], offset = partial[2 * g.channels] + a / n - mean;
        squares += partial[g.channels] - a * a / n + n * offset * offset;
    }
    const double variance = fmax(warp_sum(squares) / g.voxels, 0.0);
    if (threadIdx.x == 0) {
        g.mean[channel] = static_cast<float>(mean);
        g.variance[channel] = static_cast<float>(variance);
        if (g.scale == nullptr) return;
        g.scale[channel] = static_cast<float>(g.gamma[channel] / sqrt(static_cast<float>(variance) + g.epsilon));
    }
}

struct BatchNormScaleArguments {
    const float* gamma;     // [channels]
    const float* beta;      // [channels]; with a shift only
    const float* mean;      // [channels]; with a shift only
    const float* variance;  // [channels]
    float* scale;           // [channels]
    float* shift;           // [channels] or null: beta - mean * scale, so that y = scale * x + shift
    double epsilon;
    int channels;
    int unused;
};

extern "C" __global__ void __launch_bounds__(256) batch_norm_scale(const __grid_constant__ BatchNormScaleArguments g) {
    const int channel = static_cast<int>(first_index());
    if (channel >= g.channels) return;
    const double scale = g.gamma[channel] / sqrt(static_cast<double>(g.variance[channel]) + g.epsilon);
    g.scale[channel] = static_cast<float>(scale);
    if (g.shift != nullptr) g.shift[channel] = static_cast<float>(g.beta[channel] - g.mean[channel] * scale);
}

struct BatchNormApplyArguments {
    const void* x;       // [voxels, channels]
    const float* mean;   // [channels]
    const float* scale;  // [channels]
    const float* beta;   // [channels]
    void* y;             // [voxels, channels]
    long long count;     // elements
    int channels;
    int unused;
};

template <typename T, int N>
__device__ __forceinline__ void batch_norm_apply(const BatchNormApplyArguments& g) {
    for (long long i = first_index(); i < g.count / N; i += index_stride()) {
        long long voxel = i;
        const int channel = take_axis(voxel, g.channels / N) * N;
        float values[N];
        load_run<T>(static_cast<const T*>(g.x) + i * N, values);
#pragma unroll
        for (int lane = 0; lane < N; ++lane) {
            const int c = channel + lane;
            values[lane] = fmaf(values[lane] - g.mean[c], g.scale[c], g.beta[c]);
        }
        store_run<T>(static_cast<T*>(g.y) + i * N, values);
    }
}

struct BatchNormBackwardFinishArguments {
    const double* partials;  // [slices, 3, channels]
    const float* gamma;      // [channels]
    const float* variance;   // [channels]
    float* dgamma;           // [channels]
    float* dbeta;            // [channels]
    float* factors;          // [3, channels]: scale, slope, offset
    long long voxels;
    int slices;
    int channels;
    double epsilon;
};

extern "C" __global__ void __launch_bounds__(WARP)
    batch_norm_backward_finish(const __grid_constant__ BatchNormBackwardFinishArguments g) {
    const int channel = blockIdx.x;
    double sum = 0.0, product = 0.0;
    for (int slice = threadIdx.x; slice < g.slices; slice += WARP) {
        const double* partial = g.partials + static_cast<long long>(slice) * 3 * g.channels + channel;
        sum += partial[0];
        product += partial[g.channels];
    }
    const double rstd = 1.0 / sqrt(static_cast<double>(g.variance[channel]) + g.epsilon);
    sum = warp_sum(sum);
    product = warp_sum(product) * rstd;
    if (threadIdx.x == 0) {
        g.dbeta[channel] = static_cast<float>(sum);
        g.dgamma[channel] = static_cast<float>(product);
        // dx = scale * (dy - offset - slope * (x - mean))
        g.factors[channel] = static_cast<float>(g.gamma[channel] * rstd);
        g.factors[g.channels + channel] = static_cast<float>(product / g.voxels * rstd);
        g.factors[2 * g.channels + channel] = static_cast<float>(sum / g.voxels);
    }
}

struct BatchNormBackwardApplyArguments {
    const void* x;         // [voxels, channels]
    const float* mean;     // [channels]
    const float* factors;  // [3, channels]: scale, slope, offset
    const void* dy;        // [voxels, channels]
    const void* addend;    // [voxels, channels] or null: another gradient of x; may be dx
    void* dx;              // [voxels, channels]
    long long count;       // elements
    int channels;
    int relu;              // whether x is a ReLU's result and dx the gradient in front of it
};

template <typename T, int N>
__device__ __forceinline__ void batch_norm_backward_apply(const BatchNormBackwardApplyArguments& g) {
    for (long long i = first_index(); i < g.count / N; i += index_stride()) {
        long long voxel = i;
        const int channel = take_axis(voxel, g.channels / N) * N;
        float gradient[N], values[N], addend[N] = {};
        load_run<T>(static_cast<const T*>(g.dy) + i * N, gradient);
        load_run<T>(static_cast<const T*>(g.x) + i * N, values);
        if (g.addend != nullptr) load_run<T>(static_cast<const T*>(g.addend) + i * N, addend);
#pragma unroll
        for (int lane = 0; lane < N; ++lane) {
            const int k = channel + lane;
            const float scale = g.factors[k], slope = g.factors[g.channels + k], offset = g.factors[2 * g.channels + k];
            gradient[lane] = scale * (gradient[lane] - offset - slope * (values[lane] - g.mean[k])) + addend[lane];
            if (g.relu && !(values[lane] > 0.0f)) gradient[lane] = 0.0f;
        }
        store_run<T>(static_cast<T*>(g.dx) + i * N, gradient);
    }
}

#define BATCH_NORM_APPLY(TYPE, NAME)                                                                              \
    extern "C" __global__ void __launch_bounds__(256)                                                             \
        batch_norm_apply##NAME(const __grid_constant__ BatchNormApplyArguments g) {                               \
        by_channels<TYPE>(g.channels, [&](auto width) { batch_norm_apply<TYPE, width.COUNT>(g); });               \
    }                                                                                                             \
    extern "C" __global__ void __launch_bounds__(256)                                                             \
        batch_norm_backward_apply##NAME(const __grid_constant__ BatchNormBackwardApplyArguments g) {              \
        by_channels<TYPE>(g.channels, [&](auto width) { batch_norm_backward_apply<TYPE, width.COUNT>(g); });      \
    }
FOR_EACH_TYPE(BATCH_NORM_APPLY)

struct BatchNormRunningArguments {
    float* running_mean;      // [channels]
    float* running_variance;  // [channels]
    const float* mean;        // [channels]
    const float* variance;    // [channels]
    int channels;
    float stays;  // momentum
    float moves;  // 1 - momentum, rounded once
    int unused;
};

extern "C" __global__ void __launch_bounds__(256) batch_norm_running(const __grid_constant__ BatchNormRunningArguments g) {
    const int channel = static_cast<int>(first_index());
    if (channel >= g.channels) return;
    g.running_mean[channel] = g.running_mean[channel] * g.stays + g.mean[channel] * g.moves;
    g.running_variance[channel] = g.running_variance[channel] * g.stays + g.variance[channel] * g.moves;
}
