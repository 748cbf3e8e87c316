// 3-D convolution in fp32, stride 1, zero "same" padding with p = (extent - 1) / 2 planes before:
//
//   fprop   y[o, k]         = bias[k] + sum over taps t, channels c of x[o + t - p, c] * filter[t, c, k]
//   dgrad   dx[i, c]        = sum over t, k of dy[i - t + p, k] * filter[t, c, k]
//   wgrad   dfilter[t, c, k] = sum over voxels o of x[o + t - p, c] * dy[o, k];  dbias[k] = sum over o of dy[o, k]
//
// Each pass stands here twice. The analytic kernels are the sums above, a thread per result, any extents. The tiled ones:
//
// fprop, dgrad (the same correlation; dgrad reads the filter mirrored, its channels exchanged): a CTA owns a tile of
//   4 x 8 x 8 voxels and CHANNELS result channels; a thread owns 8 voxels along w times 4 channels, in registers. For each
//   chunk of 8 source channels the tile comes with its halo into shared memory once (6 x 10 x 10 voxels for 27 taps: 2.3 loads
//   per result instead of 27), and the filter plane by plane along d. Three vector loads of a row and EXTENT vector loads
//   of the filter feed 32 * EXTENT multiply-adds, so arithmetic bounds it.
// wgrad: a CTA owns 8 source channels (a warp each) times 32 result channels (a lane each) and all taps, in registers; it
//   walks over the 2 x 8 x 8 tiles of its slice of the volume. Slices are summed in order afterwards.
//
// Targets: compute_75

#include "common/conv3d_analytic.cuh"
#include "common/halo.cuh"
#include "common/slices.cuh"

CONV3D_ANALYTIC(float, )

extern "C" __global__ void __launch_bounds__(256) conv3d_slice_sum(const __grid_constant__ SliceSumArguments g) {
    slice_sum(g);
}

// ---- tiled: fprop and dgrad -----------------------------------------------------------------------------------------

enum class Pass { FPROP, DGRAD };

constexpr int TILE_D = 4, TILE_H = 8, TILE_W = 8;
constexpr int ROWS = TILE_D * TILE_H;

// Words of shared memory per row of the filter: dgrad stores with neighbouring lanes along the source channels, and four words
// of padding keep them off one bank.
template <int CHANNELS, Pass PASS>
constexpr int FILTER_WORDS = CHANNELS + (PASS == Pass::DGRAD ? 4 : 0);

template <int EXTENT, int CHANNELS, Pass PASS>
__device__ __forceinline__ void conv3d_tiled(const Conv3dArguments& g) {
    constexpr int GROUPS = CHANNELS / 4, THREADS = ROWS * GROUPS, PLANE_TAPS = EXTENT * EXTENT;
    constexpr int BOX_D = TILE_D + EXTENT - 1, BOX_H = TILE_H + EXTENT - 1, BOX_W = TILE_W + EXTENT - 1;
    constexpr int BEFORE = PASS == Pass::FPROP ? (EXTENT - 1) / 2 : EXTENT / 2;
    __shared__ __align__(16) float box[CHUNK][BOX_D][BOX_H][ROW_WORDS<BOX_W>];
    __shared__ __align__(16) float filter[PLANE_TAPS][CHUNK][FILTER_WORDS<CHANNELS, PASS>];

    const int sources = PASS == Pass::FPROP ? g.in : g.out, results = PASS == Pass::FPROP ? g.out : g.in;
    const TilePosition tile = tile_position<TILE_D, TILE_H, TILE_W>(g.volume, blockIdx.x);
    const int first_result = blockIdx.y * CHANNELS;
    const int group = threadIdx.x % GROUPS, row = threadIdx.x / GROUPS, row_d = row / TILE_H, row_h = row % TILE_H;
    const float *source = static_cast<const float*>(g.source), *weights = static_cast<const float*>(g.filter);
    float sums[TILE_W][4] = {};

    for (int chunk = 0; chunk < sources; chunk += CHUNK) {
        const int live = min(CHUNK, sources - chunk);
        __syncthreads();  // the chunk before has been read
        load_box<BOX_D, BOX_H, BOX_W, ROW_WORDS<BOX_W>, THREADS>(box, source, g.volume, sources, chunk, tile.n,
                                                                 tile.d - BEFORE, tile.h - BEFORE, tile.w - BEFORE);
        for (int tap_d = 0; tap_d < EXTENT; ++tap_d) {
            if (tap_d > 0) __syncthreads();  // the plane before has been read
            for (int i = threadIdx.x; i < PLANE_TAPS * CHUNK * CHANNELS; i += THREADS) {
                int tap, source, result;
                long long from;
                if (PASS == Pass::FPROP) {
                    result = i % CHANNELS, source = i / CHANNELS % CHUNK, tap = i / (CHANNELS * CHUNK);
                    from = (static_cast<long long>(tap_d * PLANE_TAPS + tap) * g.in + chunk + source) * g.out + first_result + result;
                } else {
                    source = i % CHUNK, result = i / CHUNK % CHANNELS, tap = i / (CHANNELS * CHUNK);
                    const int mirrored = EXTENT * PLANE_TAPS - 1 - (tap_d * PLANE_TAPS + tap);
                    from = (static_cast<long long>(mirrored) * g.in + first_result + result) * g.out + chunk + source;
                }
                const bool exists = source < live && first_result + result < results;
                filter[tap][source][result] = exists ? weights[from] : 0.0f;
            }
            __syncthreads();
#pragma unroll
            for (int tap_h = 0; tap_h < EXTENT; ++tap_h) {
                for (int c = 0; c < live; ++c) {
                    float values[BOX_W];
                    load_row(values, box[c][row_d + tap_d][row_h + tap_h]);
#pragma unroll
                    for (int tap_w = 0; tap_w < EXTENT; ++tap_w) {
                        const float4 weight = *reinterpret_cast<const float4*>(&filter[tap_h * EXTENT + tap_w][c][4 * group]);
#pragma unroll
                        for (int w = 0; w < TILE_W; ++w) {
                            sums[w][0] = fmaf(values[w + tap_w], weight.x, sums[w][0]);
                            sums[w][1] = fmaf(values[w + tap_w], weight.y, sums[w][1]);
                            sums[w][2] = fmaf(values[w + tap_w], weight.z, sums[w][2]);
                            sums[w][3] = fmaf(values[w + tap_w], weight.w, sums[w][3]);
                        }
                    }
                }
            }
        }
    }

    const int d = tile.d + row_d, h = tile.h + row_h, k0 = first_result + 4 * group;
    if (d >= g.volume.d || h >= g.volume.h || k0 >= results) return;
    float bias[4] = {};
    if (PASS == Pass::FPROP) {
#pragma unroll
        for (int j = 0; j < 4; ++j) bias[j] = k0 + j < results ? g.bias[k0 + j] : 0.0f;
    }
    float* to = static_cast<float*>(g.result) + voxel_index(g.volume, tile.n, d, h, tile.w) * results + k0;
#pragma unroll
    for (int w = 0; w < TILE_W; ++w) {
        if (tile.w + w >= g.volume.w) break;
        float values[4];
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            const float value = sums[w][j] + bias[j];
            values[j] = PASS == Pass::FPROP && g.relu ? fmaxf(value, 0.0f) : value;
        }
        if (results % 4 == 0) {
            *reinterpret_cast<float4*>(to) = make_float4(values[0], values[1], values[2], values[3]);
        } else {
#pragma unroll
            for (int j = 0; j < 4; ++j)
                if (k0 + j < results) to[j] = values[j];
        }
        to += results;
    }
}

// CTAs that a multiprocessor should hold: 512 threads. Without a number ptxas squeezes for more and spills.
constexpr int resident(int threads) { return 512 / threads; }

// The same for tiles, if shared memory holds as many: 7.5 has 64 KB, what is newer at least 100.
template <int EXTENT, int CHANNELS, Pass PASS>
constexpr int resident_tiles() {
    const int box = (TILE_D + EXTENT - 1) * (TILE_H + EXTENT - 1) * ROW_WORDS<TILE_W + EXTENT - 1>;
    const int bytes = 4 * CHUNK * (box + EXTENT * EXTENT * FILTER_WORDS<CHANNELS, PASS>);
    const int most = (64 << 10) / bytes, wanted = resident(ROWS * CHANNELS / 4);
    return wanted < most ? wanted : most;
}

#define CONV3D_TILED(EXTENT, CHANNELS)                                                                         \
    extern "C" __global__ void                                                                                 \
        __launch_bounds__(ROWS * CHANNELS / 4, (resident_tiles<EXTENT, CHANNELS, Pass::FPROP>()))              \
        conv3d_fprop_##EXTENT##x##EXTENT##x##EXTENT##_k##CHANNELS(const __grid_constant__ Conv3dArguments g) { \
        conv3d_tiled<EXTENT, CHANNELS, Pass::FPROP>(g);                                                        \
    }                                                                                                          \
    extern "C" __global__ void                                                                                 \
        __launch_bounds__(ROWS * CHANNELS / 4, (resident_tiles<EXTENT, CHANNELS, Pass::DGRAD>()))              \
        conv3d_dgrad_##EXTENT##x##EXTENT##x##EXTENT##_k##CHANNELS(const __grid_constant__ Conv3dArguments g) { \
        conv3d_tiled<EXTENT, CHANNELS, Pass::DGRAD>(g);                                                        \
    }
#define CONV3D_TILED_WIDTHS(EXTENT) \
    CONV3D_TILED(EXTENT, 8)         \
    CONV3D_TILED(EXTENT, 16)        \
    CONV3D_TILED(EXTENT, 32)
CONV3D_TILED_WIDTHS(1)
CONV3D_TILED_WIDTHS(2)
CONV3D_TILED_WIDTHS(3)

// ---- tiled: wgrad ---------------------------------------------------------------------------------------------------

constexpr int WGRAD_TILE_D = 2;
constexpr int WGRAD_CHANNELS = 32;  // result channels of a CTA: one per lane
constexpr int WGRAD_ROWS = WGRAD_TILE_D * TILE_H;

template <int EXTENT>
__device__ __forceinline__ void conv3d_wgrad_tiled(const Conv3dWgradArguments& g) {
    constexpr int THREADS = CHUNK * WARP, BEFORE = (EXTENT - 1) / 2;
    constexpr int BOX_D = WGRAD_TILE_D + EXTENT - 1, BOX_H = TILE_H + EXTENT - 1, BOX_W = TILE_W + EXTENT - 1;
    __shared__ __align__(16) float box[CHUNK][BOX_D][BOX_H][ROW_WORDS<BOX_W>];
    __shared__ float gradient[WGRAD_ROWS][TILE_W][WGRAD_CHANNELS];

    const int channel_tiles = (g.out + WGRAD_CHANNELS - 1) / WGRAD_CHANNELS;
    const int first_source = blockIdx.y / channel_tiles * CHUNK, first_result = blockIdx.y % channel_tiles * WGRAD_CHANNELS;
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, c = first_source + warp, k = first_result + lane;
    const bool sums_bias = c == 0;  // one warp of the first CTAs does it on the way
    const long long tiles = tile_count<WGRAD_TILE_D, TILE_H, TILE_W>(g.volume);
    const long long begin = tiles * blockIdx.x / gridDim.x, end = tiles * (blockIdx.x + 1) / gridDim.x;
    float sums[EXTENT][EXTENT][EXTENT] = {};
    float bias = 0.0f;

    for (long long index = begin; index < end; ++index) {
        const TilePosition tile = tile_position<WGRAD_TILE_D, TILE_H, TILE_W>(g.volume, index);
        __syncthreads();  // the tile before has been read
        load_box<BOX_D, BOX_H, BOX_W, ROW_WORDS<BOX_W>, THREADS>(box, static_cast<const float*>(g.x), g.volume, g.in, first_source, tile.n,
                                                                 tile.d - BEFORE, tile.h - BEFORE, tile.w - BEFORE);
        for (int voxel = warp; voxel < WGRAD_ROWS * TILE_W; voxel += CHUNK) {
            const int w = voxel % TILE_W, h = voxel / TILE_W % TILE_H, d = voxel / (TILE_W * TILE_H);
            const bool exists = contains(g.volume, tile.d + d, tile.h + h, tile.w + w) && k < g.out;
            gradient[d * TILE_H + h][w][lane] =
                exists ? static_cast<const float*>(g.dy)[voxel_index(g.volume, tile.n, tile.d + d, tile.h + h, tile.w + w) * g.out + k] : 0.0f;
        }
        __syncthreads();
        if (c >= g.in) continue;
        for (int row = 0; row < WGRAD_ROWS; ++row) {
            float dy[TILE_W];
#pragma unroll
            for (int w = 0; w < TILE_W; ++w) dy[w] = gradient[row][w][lane];
            if (sums_bias) {
#pragma unroll
                for (int w = 0; w < TILE_W; ++w) bias += dy[w];
            }
#pragma unroll
            for (int tap_d = 0; tap_d < EXTENT; ++tap_d) {
#pragma unroll
                for (int tap_h = 0; tap_h < EXTENT; ++tap_h) {
                    float values[BOX_W];
                    load_row(values, box[warp][row / TILE_H + tap_d][row % TILE_H + tap_h]);
#pragma unroll
                    for (int tap_w = 0; tap_w < EXTENT; ++tap_w) {
#pragma unroll
                        for (int w = 0; w < TILE_W; ++w)
                            sums[tap_d][tap_h][tap_w] = fmaf(values[w + tap_w], dy[w], sums[tap_d][tap_h][tap_w]);
                    }
                }
            }
        }
    }

    if (c >= g.in || k >= g.out) return;
    const long long weights = static_cast<long long>(EXTENT) * EXTENT * EXTENT * g.in * g.out;
    float* partials = g.partials + blockIdx.x * (weights + g.out);
#pragma unroll
    for (int tap = 0; tap < EXTENT * EXTENT * EXTENT; ++tap)
        partials[(static_cast<long long>(tap) * g.in + c) * g.out + k] =
            sums[tap / (EXTENT * EXTENT)][tap / EXTENT % EXTENT][tap % EXTENT];
    if (sums_bias) partials[weights + k] = bias;
}

#define CONV3D_WGRAD_TILED(EXTENT)                                                                    \
    extern "C" __global__ void __launch_bounds__(CHUNK * WARP, resident(CHUNK * WARP))                \
        conv3d_wgrad_##EXTENT##x##EXTENT##x##EXTENT(const __grid_constant__ Conv3dWgradArguments g) { \
        conv3d_wgrad_tiled<EXTENT>(g);                                                                \
    }
CONV3D_WGRAD_TILED(1)
CONV3D_WGRAD_TILED(2)
CONV3D_WGRAD_TILED(3)
