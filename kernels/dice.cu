// Soft Dice losses on logits. Per class, over all voxels: sums of p t, p^2, t, p, arg-max hits, arg-max choices, where p is
// the softmax (or, with one channel, the sigmoid) of the logits and t the one-hot truth. The loss and its derivative by
// each p follow from these few sums.
//
// dice_sums: a CTA owns VOXELS * DICE_THREADS voxels of one sample: every sample's sums are kept apart. A thread finds largest logit, normaliser and arg-max of its voxels once
// and keeps them in registers; then the classes are taken one after the other, so that any number of classes fits. The
// CTA's sums go to the workspace, dice_finish adds them in a fixed order in double precision, dice_loss makes the loss.
// dice_backward: a thread per voxel. Device memory bounds both passes, exponentials come next.
//
// Targets: compute_75, compute_80

#include "common/element.cuh"

constexpr int DICE_THREADS = 128;
constexpr int VOXELS = 8;  // per thread: three registers each, and one block reduction per class serves them all
constexpr int SUMS = 6;

struct DiceSumsArguments {
    const void* logits;           // [samples, voxels, classes]
    const unsigned char* labels;  // [samples, voxels]
    float* partials;              // [samples, CTAs of a sample, classes, SUMS]
    long long voxels;             // of a sample
    int classes;
    int unused;
};

// What a voxel needs to give the probability of any of its classes.
struct Normaliser {
    float largest;
    float sum;
    int chosen;  // the class of the largest logit; in binary mode 0 (foreground) or -1
};

template <typename T>
__device__ __forceinline__ Normaliser normaliser(const T* logits, int classes) {
    if (classes == 1) return {0.0f, 0.0f, widen(logits[0]) > 0.0f ? 0 : -1};
    Normaliser n = {widen(logits[0]), 0.0f, 0};
    for (int c = 1; c < classes; ++c) {
        const float logit = widen(logits[c]);
        if (logit > n.largest) {
            n.largest = logit;
            n.chosen = c;
        }
    }
    for (int c = 0; c < classes; ++c) n.sum += expf(widen(logits[c]) - n.largest);
    return n;
}

__device__ __forceinline__ float probability(const Normaliser& n, float logit, int classes) {
    return classes == 1 ? 1.0f / (1.0f + expf(-logit)) : expf(logit - n.largest) / n.sum;
}

__device__ __forceinline__ bool is_class(int label, int c, int classes) {
    return classes == 1 ? label != 0 : label == c;
}

template <typename T>
__device__ __forceinline__ void dice_sums(const DiceSumsArguments& g) {
    constexpr int WARPS = DICE_THREADS / WARP;
    __shared__ float warp_sums[WARPS][SUMS];
    const long long begin = static_cast<long long>(blockIdx.x) * (VOXELS * DICE_THREADS) + threadIdx.x;
    const T* sample = static_cast<const T*>(g.logits) + blockIdx.y * g.voxels * g.classes;
    const unsigned char* sample_labels = g.labels + blockIdx.y * g.voxels;
    float* partials = g.partials + static_cast<long long>(blockIdx.y * gridDim.x + blockIdx.x) * g.classes * SUMS;
    Normaliser normalisers[VOXELS];
    int labels[VOXELS];
#pragma unroll
    for (int i = 0; i < VOXELS; ++i) {
        const long long voxel = begin + i * DICE_THREADS;
        if (voxel < g.voxels) {
            normalisers[i] = normaliser(sample + voxel * g.classes, g.classes);
            labels[i] = sample_labels[voxel];
        }
    }
    for (int c = 0; c < g.classes; ++c) {
        float sums[SUMS] = {};
#pragma unroll
        for (int i = 0; i < VOXELS; ++i) {
            const long long voxel = begin + i * DICE_THREADS;
            if (voxel >= g.voxels) continue;
            const float p = probability(normalisers[i], widen(sample[voxel * g.classes + c]), g.classes);
            const float t = is_class(labels[i], c, g.classes) ? 1.0f : 0.0f;
            const float hit = normalisers[i].chosen == c ? 1.0f : 0.0f;
            sums[0] += p * t;
            sums[1] += p * p;
            sums[2] += t;
            sums[3] += p;
            sums[4] += hit * t;
            sums[5] += hit;
        }
#pragma unroll
        for (int s = 0; s < SUMS; ++s) {
            sums[s] = warp_sum(sums[s]);
            if (threadIdx.x % WARP == 0) warp_sums[threadIdx.x / WARP][s] = sums[s];
        }
        __syncthreads();
        if (threadIdx.x < SUMS) {
            float sum = 0.0f;
            for (int w = 0; w < WARPS; ++w) sum += warp_sums[w][threadIdx.x];
            partials[c * SUMS + threadIdx.x] = sum;
        }
        __syncthreads();  // the next class overwrites warp_sums
    }
}

struct DiceFinishArguments {
    const float* partials;  // [samples, rows, count]
    float* sums;            // [samples, count], count = classes * SUMS
    long long rows;         // of a sample
    int count;
    int unused;
};

// A CTA per sum and sample: threads stride over the rows, then a tree.
extern "C" __global__ void __launch_bounds__(DICE_THREADS) dice_finish(const __grid_constant__ DiceFinishArguments g) {
    __shared__ double warp_sums[DICE_THREADS / WARP];
    const float* partials = g.partials + blockIdx.y * g.rows * g.count + blockIdx.x;
    double sum = 0.0;
    for (long long row = threadIdx.x; row < g.rows; row += DICE_THREADS) sum += partials[row * g.count];
    sum = warp_sum(sum);
    if (threadIdx.x % WARP == 0) warp_sums[threadIdx.x / WARP] = sum;
    __syncthreads();
    if (threadIdx.x == 0) {
        for (int w = 1; w < DICE_THREADS / WARP; ++w) sum += warp_sums[w];
        g.sums[blockIdx.y * g.count + blockIdx.x] = static_cast<float>(sum);
    }
}

struct DiceLossArguments {
    const float* sums;     // [samples, classes, SUMS]
    const float* weights;  // [classes]
    const float* dloss;    // [1]; slopes only
    float* result;         // the loss, or [classes, 2] factors of its derivative by a probability
    int samples;
    int unused;
    int classes;
    int is_log;  // log(cosh(1 - D)) in place of 1 - D
};

constexpr double DICE_EPSILON = 1e-7;

// Numerator and denominator of a class's Dice coefficient over the whole batch.
__device__ __forceinline__ void fraction(const DiceLossArguments& g, int c, double& numerator, double& denominator) {
    const int size = g.classes == 1 ? 3 : 1;  // the column that measures the prediction's size
    double overlap = 0.0, predicted = 0.0, truth = 0.0;
    for (int sample = 0; sample < g.samples; ++sample) {
        const float* row = g.sums + (static_cast<long long>(sample) * g.classes + c) * SUMS;
        overlap += row[0];
        predicted += row[size];
        truth += row[2];
    }
    numerator = 2.0 * overlap + DICE_EPSILON;
    denominator = predicted + truth + DICE_EPSILON;
}

// 1 - D with the weighted mean D of the Dice coefficients, and the weights' total.
__device__ __forceinline__ double missed(const DiceLossArguments& g, double& total) {
    double weighted = 0.0, numerator, denominator;
    total = 0.0;
    for (int c = 0; c < g.classes; ++c) {
        fraction(g, c, numerator, denominator);
        weighted += g.weights[c] * numerator / denominator;
        total += g.weights[c];
    }
    return 1.0 - weighted / total;
}

extern "C" __global__ void __launch_bounds__(1) dice_loss(const __grid_constant__ DiceLossArguments g) {
    double total;
    const double miss = missed(g, total);
    g.result[0] = static_cast<float>(g.is_log ? log(cosh(miss)) : miss);
}

// For one class, the factors (a, b) of the loss's derivative by a probability: a t + b p, or a t + b in binary mode.
extern "C" __global__ void __launch_bounds__(WARP) dice_slopes(const __grid_constant__ DiceLossArguments g) {
    double total, numerator, denominator;
    const double miss = missed(g, total);
    const double outer = (g.is_log ? -tanh(miss) : -1.0) * g.dloss[0];
    for (int c = threadIdx.x; c < g.classes; c += WARP) {
        fraction(g, c, numerator, denominator);
        const double share = outer * g.weights[c] / total;
        g.result[2 * c] = static_cast<float>(share * 2.0 / denominator);
        const double by_denominator = -numerator / (denominator * denominator);
        g.result[2 * c + 1] = static_cast<float>(share * by_denominator * (g.classes == 1 ? 1.0 : 2.0));
    }
}

struct DiceBackwardArguments {
    const void* logits;           // [voxels, classes]
    const unsigned char* labels;  // [voxels]
    const float* slopes;          // [classes, 2]
    void* dlogits;                // [voxels, classes]; may be the logits
    long long voxels;
    int classes;
    int unused;
};

template <typename T>
__device__ __forceinline__ void dice_backward(const DiceBackwardArguments& g) {
    for (long long voxel = first_index(); voxel < g.voxels; voxel += index_stride()) {
        const T* logits = static_cast<const T*>(g.logits) + voxel * g.classes;
        T* dlogits = static_cast<T*>(g.dlogits) + voxel * g.classes;
        const int label = g.labels[voxel];
        const Normaliser n = normaliser(logits, g.classes);
        if (g.classes == 1) {
            const float p = probability(n, widen(logits[0]), 1);
            dlogits[0] = narrow<T>((g.slopes[1] + (label != 0 ? g.slopes[0] : 0.0f)) * p * (1.0f - p));
            continue;
        }
        auto slope = [&](int c, float p) { return (label == c ? g.slopes[2 * c] : 0.0f) + g.slopes[2 * c + 1] * p; };
        float mean = 0.0f;
        for (int c = 0; c < g.classes; ++c) {
            const float p = probability(n, widen(logits[c]), g.classes);
            mean += p * slope(c, p);
        }
        for (int c = 0; c < g.classes; ++c) {
            const float p = probability(n, widen(logits[c]), g.classes);
            dlogits[c] = narrow<T>(p * (slope(c, p) - mean));
        }
    }
}

#define DICE(TYPE, NAME)                                                                                                \
    extern "C" __global__ void __launch_bounds__(DICE_THREADS) dice_sums##NAME(const __grid_constant__ DiceSumsArguments g) { \
        dice_sums<TYPE>(g);                                                                                             \
    }                                                                                                                   \
    extern "C" __global__ void __launch_bounds__(256) dice_backward##NAME(const __grid_constant__ DiceBackwardArguments g) { \
        dice_backward<TYPE>(g);                                                                                         \
    }
FOR_EACH_TYPE(DICE)
