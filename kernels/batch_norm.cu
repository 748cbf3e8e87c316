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
// Targets: compute_75

#include "common/channel_sums.cuh"
#include "common/common.cuh"

struct ChannelSumArguments {
    const float* x;     // [voxels, channels]
    const float* dy;    // [voxels, channels]; backward only
    const float* mean;  // [channels]; backward only
    double* partials;   // [slices, 3, channels]: two sums and the shift
    SlicedVoxels sliced;
};

template <typename Shift, typename Term>
__device__ __forceinline__ void write_sums(const ChannelSumArguments& g, Shift shift_of, Term term) {
    channel_sums(g.sliced, shift_of, term, [&](int channel, double first, double second, float shift) {
        double* partial = g.partials + static_cast<long long>(blockIdx.x) * 3 * g.sliced.channels + channel;
        partial[0] = first;
        partial[g.sliced.channels] = second;
        partial[2 * g.sliced.channels] = shift;
    });
}

extern "C" __global__ void __launch_bounds__(SUM_THREADS) batch_norm_sums(const __grid_constant__ ChannelSumArguments g) {
    write_sums(
        g, [&](long long voxel, int channel) { return g.x[voxel * g.sliced.channels + channel]; },
        [&](long long i, float shift, float& first, float& second) {
            const float distance = g.x[i] - shift;
            first += distance;
            second = fmaf(distance, distance, second);
        });
}

extern "C" __global__ void __launch_bounds__(SUM_THREADS)
    batch_norm_backward_sums(const __grid_constant__ ChannelSumArguments g) {
    write_sums(
        g, [&](long long, int channel) { return g.mean[channel]; },
        [&](long long i, float shift, float& first, float& second) {
            const float gradient = g.dy[i];
            first += gradient;
            second = fmaf(gradient, g.x[i] - shift, second);
        });
}

struct BatchNormFinishArguments {
    const double* partials;  // [slices, 3, channels]
    const float* gamma;      // [channels]
    float* mean;             // [channels]
    float* variance;         // [channels]
    float* scale;            // [channels]
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
        g.scale[channel] = static_cast<float>(g.gamma[channel] / sqrt(static_cast<float>(variance) + g.epsilon));
    }
}

struct BatchNormScaleArguments {
    const float* gamma;     // [channels]
    const float* variance;  // [channels]
    float* scale;           // [channels]
    double epsilon;
    int channels;
    int unused;
};

extern "C" __global__ void __launch_bounds__(256) batch_norm_scale(const __grid_constant__ BatchNormScaleArguments g) {
    const int channel = static_cast<int>(first_index());
    if (channel >= g.channels) return;
    g.scale[channel] =
        static_cast<float>(g.gamma[channel] / sqrt(static_cast<double>(g.variance[channel]) + g.epsilon));
}

struct BatchNormApplyArguments {
    const float* x;      // [voxels, channels]
    const float* mean;   // [channels]
    const float* scale;  // [channels]
    const float* beta;   // [channels]
    float* y;            // [voxels, channels]
    long long count;     // elements
    int channels;
    int unused;
};

extern "C" __global__ void __launch_bounds__(256) batch_norm_apply(const __grid_constant__ BatchNormApplyArguments g) {
    for (long long i = first_index(); i < g.count; i += index_stride()) {
        long long voxel = i;
        const int channel = take_axis(voxel, g.channels);
        g.y[i] = fmaf(g.x[i] - g.mean[channel], g.scale[channel], g.beta[channel]);
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
    const float* x;        // [voxels, channels]
    const float* mean;     // [channels]
    const float* factors;  // [3, channels]: scale, slope, offset
    const float* dy;       // [voxels, channels]
    float* dx;             // [voxels, channels]
    long long count;       // elements
    int channels;
    int unused;
};

extern "C" __global__ void __launch_bounds__(256)
    batch_norm_backward_apply(const __grid_constant__ BatchNormBackwardApplyArguments g) {
    for (long long i = first_index(); i < g.count; i += index_stride()) {
        long long voxel = i;
        const int k = take_axis(voxel, g.channels);
        const float scale = g.factors[k], slope = g.factors[g.channels + k], offset = g.factors[2 * g.channels + k];
        g.dx[i] = scale * (g.dy[i] - offset - slope * (g.x[i] - g.mean[k]));
    }
}

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
