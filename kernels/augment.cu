// Augmentation: scores, gathers and changes a batch of placed cases, by a row of numbers for each (src/ops/augment).
//
//     scored(v) = ((min(max(v, low), high) - mean) - rest) * scale    in the image's bounds, else 0; 0 may stay 0
//     y(x)      = trilinear interpolation of scored at M x;  label(x) = nearest label at M x;  0 from outside
//     y         = ((low + range * ((y - low) / range)^gamma) * scale + shift) + deviation * normal    where y is not 0
//
// The gamma of a channel needs the range of its results, so there are three kernels. `augment_gather`: a CTA owns a slice of a
// case's voxels and four of its channels (or one), a thread a voxel of it; neighbours along w, of which lines of cache serve
// several, come through L1. It leaves the least and the greatest result of its slice. `augment_changes`: a warp makes of a
// channel's slices what is to be done to the channel. `augment_intensity`: threads stride over runs of four elements, which
// share a Philox call; cases without changes end at once.
//
// Positions are computed without fused operations, exactly as on the CPU: every label comes from the same voxel there and here.
// Device memory bounds both passes, 8 bytes per element each; with noise, arithmetic comes close.
//
// Targets: compute_75

#include "common/element.cuh"
#include "common/philox.cuh"

// A row of numbers; see src/data/augment/numbers.rs.
constexpr int BOUNDS = 9, NOISE = 15, KEY = 16, HEAD = 20;

constexpr int GATHER_WARPS = 8;

struct AugmentGatherArguments {
    const float* images;          // [N, D, H, W, C]
    const unsigned char* labels;  // [N, D, H, W]; null: none
    const float* numbers;         // [N, row]
    float* images_out;            // [N, D, H, W, C]
    unsigned char* labels_out;    // [N, D, H, W]
    float2* bounds;               // [N, C, slices]: least and greatest result that is not 0
    long long slice;              // voxels of a slice
    int d;
    int h;
    int w;
    int c;
    int row;
    int scores;  // where they begin in a row, as [D, C]
};

// Extents, where the image is, and where a result comes from, D H W.
struct Geometry {
    int extent[3];
    int first[3];
    int end[3];
    float centre[3];
    float matrix[9];
};

__device__ __forceinline__ Geometry geometry(const AugmentGatherArguments& g, const float* numbers) {
    Geometry geometry{{g.d, g.h, g.w}};
#pragma unroll
    for (int axis = 0; axis < 3; ++axis) {
        geometry.first[axis] = static_cast<int>(numbers[BOUNDS + axis]);
        geometry.end[axis] = static_cast<int>(numbers[BOUNDS + 3 + axis]);
        geometry.centre[axis] = (geometry.extent[axis] - 1.0f) * 0.5f;
    }
#pragma unroll
    for (int i = 0; i < 9; ++i) geometry.matrix[i] = numbers[i];
    return geometry;
}

// Where the result at these offsets from the centre comes from, along an axis: each operation is rounded.
__device__ __forceinline__ float position(const Geometry& geometry, int axis, float z, float y, float x) {
    const float* m = geometry.matrix + 3 * axis;
    const float start = __fadd_rn(__fadd_rn(__fmul_rn(m[0], z), __fmul_rn(m[1], y)), geometry.centre[axis]);
    return __fadd_rn(start, __fmul_rn(m[2], x));
}

__device__ __forceinline__ float scored(float value, float4 score, float low, float high) {
    value = fminf(fmaxf(value, low), high);
    return value == 0.0f && score.w != 0.0f ? 0.0f : ((value - score.x) - score.y) * score.z;
}

__device__ __forceinline__ float between(float first, float second, float fraction) {
    return first + (second - first) * fraction;
}

// Channels first .. first + WIDTH of every voxel of a slice.
template <int WIDTH>
__device__ __forceinline__ void gather(const AugmentGatherArguments& g, float (&least)[WIDTH],
                                       float (&greatest)[WIDTH]) {
    const int first = blockIdx.z * WIDTH;
    const float* numbers = g.numbers + static_cast<long long>(blockIdx.y) * g.row;
    const Geometry grid = geometry(g, numbers);
    const long long voxels = static_cast<long long>(g.d) * g.h * g.w;
    const long long from = blockIdx.y * voxels;
    const float* image = g.images + from * g.c + first;  // [D, H, W, C]
    float* image_out = g.images_out + from * g.c + first;
    const float4* scores = reinterpret_cast<const float4*>(numbers + g.scores) + first;  // [D, C]
    const bool has_labels = g.labels != nullptr && blockIdx.z == 0;
    float low[WIDTH], high[WIDTH];
#pragma unroll
    for (int i = 0; i < WIDTH; ++i) {
        const float* limits = numbers + HEAD + 3 * g.c + 2 * (first + i);
        low[i] = limits[0], high[i] = limits[1];
        least[i] = INFINITY, greatest[i] = -INFINITY;
    }
    const long long end = min(voxels, (blockIdx.x + 1) * g.slice);
    for (long long voxel = blockIdx.x * g.slice + threadIdx.x; voxel < end; voxel += blockDim.x) {
        long long rest = voxel;
        const float x = __fsub_rn(static_cast<float>(take_axis(rest, g.w)), grid.centre[2]);
        const float y = __fsub_rn(static_cast<float>(take_axis(rest, g.h)), grid.centre[1]);
        const float z = __fsub_rn(static_cast<float>(rest), grid.centre[0]);
        float fraction[3];
        int at[3];
        bool is_near = true;
#pragma unroll
        for (int axis = 0; axis < 3; ++axis) {
            const float place = position(grid, axis, z, y, x);
            is_near = is_near && place > -1.0f && place < grid.extent[axis];
            const float floor = floorf(place);
            at[axis] = static_cast<int>(floor);
            fraction[axis] = __fsub_rn(place, floor);
        }
        float values[WIDTH] = {};
        unsigned char label = 0;
        if (is_near) {
            float plane[2][WIDTH] = {};
#pragma unroll
            for (int dz = 0; dz < 2; ++dz) {
                const int from_z = at[0] + dz;
                if (from_z < grid.first[0] || from_z >= grid.end[0]) continue;
                float4 score[WIDTH];
#pragma unroll
                for (int i = 0; i < WIDTH; ++i) score[i] = scores[static_cast<long long>(from_z) * g.c + i];
                float line[2][WIDTH] = {};
#pragma unroll
                for (int dy = 0; dy < 2; ++dy) {
                    const int from_y = at[1] + dy;
                    if (from_y < grid.first[1] || from_y >= grid.end[1]) continue;
                    const long long start = (static_cast<long long>(from_z) * g.h + from_y) * g.w;
                    float pair[2][WIDTH] = {};
#pragma unroll
                    for (int dx = 0; dx < 2; ++dx) {
                        const int from_x = at[2] + dx;
                        if (from_x < grid.first[2] || from_x >= grid.end[2]) continue;
                        load_run<float>(image + (start + from_x) * g.c, pair[dx]);
#pragma unroll
                        for (int i = 0; i < WIDTH; ++i) pair[dx][i] = scored(pair[dx][i], score[i], low[i], high[i]);
                    }
#pragma unroll
                    for (int i = 0; i < WIDTH; ++i) line[dy][i] = between(pair[0][i], pair[1][i], fraction[2]);
                }
#pragma unroll
                for (int i = 0; i < WIDTH; ++i) plane[dz][i] = between(line[0][i], line[1][i], fraction[1]);
            }
#pragma unroll
            for (int i = 0; i < WIDTH; ++i) values[i] = between(plane[0][i], plane[1][i], fraction[0]);
            if (has_labels) {
                bool is_inside = true;
#pragma unroll
                for (int axis = 0; axis < 3; ++axis) {
                    at[axis] += fraction[axis] >= 0.5f;
                    is_inside = is_inside && at[axis] >= 0 && at[axis] < grid.extent[axis];
                }
                if (is_inside) label = g.labels[from + (static_cast<long long>(at[0]) * g.h + at[1]) * g.w + at[2]];
            }
        }
        store_run<float>(image_out + voxel * g.c, values);
        if (has_labels) g.labels_out[from + voxel] = label;
#pragma unroll
        for (int i = 0; i < WIDTH; ++i) {
            if (values[i] == 0.0f) continue;
            least[i] = fminf(least[i], values[i]), greatest[i] = fmaxf(greatest[i], values[i]);
        }
    }
}

// The same, and the least and the greatest result of the slice.
template <int WIDTH>
__device__ __forceinline__ void gather_and_bound(const AugmentGatherArguments& g) {
    float least[WIDTH], greatest[WIDTH];
    gather<WIDTH>(g, least, greatest);
    __shared__ float2 of_warps[GATHER_WARPS][WIDTH];
#pragma unroll
    for (int i = 0; i < WIDTH; ++i) {
#pragma unroll
        for (int offset = WARP / 2; offset > 0; offset /= 2) {
            least[i] = fminf(least[i], __shfl_xor_sync(ALL_LANES, least[i], offset));
            greatest[i] = fmaxf(greatest[i], __shfl_xor_sync(ALL_LANES, greatest[i], offset));
        }
        if (threadIdx.x % WARP == 0) of_warps[threadIdx.x / WARP][i] = make_float2(least[i], greatest[i]);
    }
    __syncthreads();
    if (threadIdx.x < WIDTH) {
        float2 all = of_warps[0][threadIdx.x];
        for (int warp = 1; warp < GATHER_WARPS; ++warp) {
            const float2 other = of_warps[warp][threadIdx.x];
            all = make_float2(fminf(all.x, other.x), fmaxf(all.y, other.y));
        }
        const long long channel = static_cast<long long>(blockIdx.y) * g.c + blockIdx.z * WIDTH + threadIdx.x;
        g.bounds[channel * gridDim.x + blockIdx.x] = all;
    }
}

extern "C" __global__ void __launch_bounds__(32 * GATHER_WARPS)
    augment_gather(const __grid_constant__ AugmentGatherArguments g) {
    if (g.c % RUN<float> == 0)
        gather_and_bound<RUN<float>>(g);
    else
        gather_and_bound<1>(g);
}

// What a channel goes through.
struct __align__(16) Change {
    float how;
    float scale;
    float shift;
    float gamma;
    float least;
    float range;
    float inverse;  // 1 / range
    float unused;
};

constexpr float KEPT = 0.0f, LINEAR = 1.0f, BENT = 2.0f;

struct AugmentChangesArguments {
    const float* numbers;  // [N, row]
    const float2* bounds;  // [N, C, slices]
    Change* changes;       // [N, C]
    int slices;
    int row;
};

// A warp for a channel.
extern "C" __global__ void __launch_bounds__(32) augment_changes(const __grid_constant__ AugmentChangesArguments g) {
    const long long channel = static_cast<long long>(blockIdx.y) * gridDim.x + blockIdx.x;
    float least = INFINITY, greatest = -INFINITY;
    for (int slice = threadIdx.x; slice < g.slices; slice += WARP) {
        const float2 bounds = g.bounds[channel * g.slices + slice];
        least = fminf(least, bounds.x), greatest = fmaxf(greatest, bounds.y);
    }
#pragma unroll
    for (int offset = WARP / 2; offset > 0; offset /= 2) {
        least = fminf(least, __shfl_xor_sync(ALL_LANES, least, offset));
        greatest = fmaxf(greatest, __shfl_xor_sync(ALL_LANES, greatest, offset));
    }
    if (threadIdx.x > 0) return;
    const float* point = g.numbers + static_cast<long long>(blockIdx.y) * g.row + HEAD + 3 * blockIdx.x;
    const float gamma = point[0], scale = point[1], shift = point[2], range = greatest - least;
    float how = LINEAR;
    // A channel that is bent and has no range is left alone altogether.
    if (gamma != 1.0f)
        how = range > 0.0f && range < INFINITY ? BENT : KEPT;
    else if (scale == 1.0f && shift == 0.0f)
        how = KEPT;
    g.changes[channel] = {how, scale, shift, gamma, least, range, 1.0f / range, 0.0f};
}

struct AugmentIntensityArguments {
    float* images;          // [N, count]
    const float* numbers;   // [N, row]
    const Change* changes;  // [N, C]
    long long count;        // elements of a case
    int c;
    int row;
};

__device__ __forceinline__ float changed(float value, const Change& change) {
    if (change.how == KEPT) return value;
    if (change.how == BENT)
        value = change.least + change.range * powf((value - change.least) * change.inverse, change.gamma);
    return value * change.scale + change.shift;
}

// Two standard normal numbers of two words (Box-Muller).
__device__ __forceinline__ float2 normals(unsigned radius, unsigned angle) {
    const float length = sqrtf(-2.0f * logf(1.0f - unit(radius)));
    float sine, cosine;
    sincospif(2.0f * unit(angle), &sine, &cosine);
    return make_float2(length * cosine, length * sine);
}

// Elements first .. first + COUNT of a case, all in one block of four.
template <int COUNT>
__device__ __forceinline__ void change_run(const AugmentIntensityArguments& g, float* image, const Change* changes,
                                           float deviation, uint2 key, long long first) {
    float values[COUNT];
    load_run<float>(image + first, values);
    int channel = static_cast<int>(first - quotient(first, g.c) * g.c);
    bool is_empty = true;
#pragma unroll
    for (int i = 0; i < COUNT; ++i) {
        if (values[i] != 0.0f) values[i] = changed(values[i], changes[channel]);
        is_empty = is_empty && values[i] == 0.0f;
        if (++channel == g.c) channel = 0;
    }
    if (deviation > 0.0f && !is_empty) {
        const unsigned long long block = first / 4;
        const uint4 words =
            philox(key, make_uint4(static_cast<unsigned>(block), static_cast<unsigned>(block >> 32), 0, 0));
        if constexpr (COUNT == 4) {
            const float2 front = normals(words.x, words.y), back = normals(words.z, words.w);
            const float normal[4] = {front.x, front.y, back.x, back.y};
#pragma unroll
            for (int i = 0; i < 4; ++i)
                if (values[i] != 0.0f) values[i] += deviation * normal[i];
        } else {
            const float2 pair = first % 4 < 2 ? normals(words.x, words.y) : normals(words.z, words.w);
            values[0] += deviation * (first % 2 == 0 ? pair.x : pair.y);
        }
    }
    store_run<float>(image + first, values);
}

extern "C" __global__ void __launch_bounds__(256)
    augment_intensity(const __grid_constant__ AugmentIntensityArguments g) {
    const float* numbers = g.numbers + static_cast<long long>(blockIdx.y) * g.row;
    const Change* changes = g.changes + static_cast<long long>(blockIdx.y) * g.c;
    float* image = g.images + blockIdx.y * g.count;
    const float deviation = numbers[NOISE];
    bool is_changed = deviation > 0.0f;
    for (int channel = 0; channel < g.c; ++channel) is_changed = is_changed || changes[channel].how != KEPT;
    if (!is_changed) return;
    unsigned piece[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) piece[i] = static_cast<unsigned>(numbers[KEY + i]);
    const uint2 key = make_uint2(piece[0] | piece[1] << 16, piece[2] | piece[3] << 16);
    // Cases begin at multiples of sixteen bytes only if their elements are a multiple of four.
    const int width = g.count % 4 == 0 ? 4 : 1;
    for (long long run = first_index(); run < g.count / width; run += index_stride()) {
        if (width == 4)
            change_run<4>(g, image, changes, deviation, key, run * 4);
        else
            change_run<1>(g, image, changes, deviation, key, run);
    }
}
