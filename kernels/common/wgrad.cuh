// Gradient by the filter for 16-bit activations on tensor cores:
//
//   dfilter[t, c, k] = sum over voxels o of x[o + t - p, c] dy[o, k],   dbias[k] = sum over o of dy[o, k]
//
// For each tap a matrix product [channels, voxels] x [voxels, results] that sums over millions of voxels into few weights. So
// the voxels are cut into slices; a CTA owns a slice, all taps, and 16 channels times 32 results (32 x 32 with one tap), and
// stores its sums as the slice's partials, which are added in order of slices afterwards. A warp owns the taps of one tap d
// and 16 x 16 of each, in registers as fp32.
//
// A CTA walks over the tiles of 2 x 8 x 8 voxels of its slice: x with its halo and dy come into shared memory, one tile ahead
// of the products. ldmatrix turns both about (eight voxels along w become the summed axis), and the rows of x that one
// (voxel d, tap w) meets serve all taps along h: 76 matrices feed 144 products of 16 x 16 x 8. The bias's gradient is summed by
// one warp from the fragments of dy that it holds anyway. Tensor cores bound it for 16 channels and more, and the second-level
// cache where there is but one tap.
#pragma once

#include "pieces.cuh"

constexpr int WGRAD_TILE_D = 2, WGRAD_TILE_H = 8, WGRAD_TILE_W = 8;
constexpr int WARP_CHANNELS = 16, WARP_RESULTS = 16;

struct WgradArguments {
    Sources x;
    Sources dy;             // the first alone
    float* partials;        // [slices, taps, in, out]
    float* bias_partials;   // [slices, out] or null; as TAPS [slices, 8, out]
    Volume volume;
    int channel_tiles;
    int in, out;            // of the filter
    int unused;
};

// How many warps share a tile along channels and results.
template <int EXTENT>
struct WgradWarps {
    static constexpr int CHANNELS = EXTENT == 1 ? 2 : 1, RESULTS = 2;
    static constexpr int THREADS = EXTENT * CHANNELS * RESULTS * WARP;
};

// Threads that a multiprocessor should hold: 384 of up to 168 registers, of which 72 are sums; if its shared memory holds as
// many CTAs.
constexpr int WGRAD_RESIDENT = 384;

// What a CTA keeps in shared memory.
template <typename T, int EXTENT, Parts RESULTS>
struct WgradShared {
    using Shares = WgradWarps<EXTENT>;
    static constexpr int BOX_D = WGRAD_TILE_D + EXTENT - 1, BOX_H = WGRAD_TILE_H + EXTENT - 1;
    static constexpr int BOX_W = WGRAD_TILE_W + EXTENT - 1;
    static constexpr int X_PIECES = Shares::CHANNELS * WARP_CHANNELS / PIECE;
    static constexpr int DY_PIECES = Shares::RESULTS * WARP_RESULTS / PIECE;
    using Halo = Box<T, Parts::TENSORS, BOX_D, BOX_H, BOX_W, X_PIECES, Shares::THREADS>;
    using Gradient = Box<T, RESULTS, WGRAD_TILE_D, WGRAD_TILE_H, WGRAD_TILE_W, DY_PIECES, Shares::THREADS>;
    static constexpr int BUFFERS = COPIES_ARE_ASYNCHRONOUS ? 2 : 1;
    static constexpr int BYTES = 16 * BUFFERS * (Halo::ROWS + Gradient::ROWS);
    static constexpr int RESIDENT_CTAS = resident_ctas(WGRAD_RESIDENT / Shares::THREADS, BYTES);
};

// ROWS rows of eight voxels, each with two pieces, turned about: rows[row][piece].
template <int ROWS, int ROW_BYTES, int PIECE_BYTES>
__device__ __forceinline__ void load_turned(unsigned (&rows)[ROWS][2], unsigned address) {
    const int lane = threadIdx.x % WARP, matrix = lane / 8;
    const unsigned pairs = address + matrix % 2 * ROW_BYTES + matrix / 2 * PIECE_BYTES + lane % 8 * 16;
#pragma unroll
    for (int row = 0; row + 2 <= ROWS; row += 2) {
        unsigned four[4];
        load_matrices<4, Order::COLUMNS>(four, pairs + row * ROW_BYTES);
        rows[row][0] = four[0], rows[row + 1][0] = four[1], rows[row][1] = four[2], rows[row + 1][1] = four[3];
    }
    if constexpr (ROWS % 2 == 1) {
        unsigned two[2];
        load_matrices<2, Order::COLUMNS>(two, address + (ROWS - 1) * ROW_BYTES + matrix % 2 * PIECE_BYTES + lane % 8 * 16);
        rows[ROWS - 1][0] = two[0], rows[ROWS - 1][1] = two[1];
    }
}

template <typename T, int EXTENT, Parts RESULTS>
__device__ __forceinline__ void wgrad(const WgradArguments& g) {
    using Shares = WgradWarps<EXTENT>;
    using Shared = WgradShared<T, EXTENT, RESULTS>;
    using Halo = typename Shared::Halo;
    using Gradient = typename Shared::Gradient;
    constexpr int BEFORE = (EXTENT - 1) / 2, BUFFERS = Shared::BUFFERS;
    constexpr int BOX_H = Shared::BOX_H, BOX_W = Shared::BOX_W;
    constexpr int X_PIECES = Shared::X_PIECES, DY_PIECES = Shared::DY_PIECES;
    constexpr int ROWS = WGRAD_TILE_H + EXTENT - 1, BLOCKS = WARP_RESULTS / PIECE;
    __shared__ uint4 halo[BUFFERS][Halo::ROWS];
    __shared__ uint4 gradient[BUFFERS][Gradient::ROWS];

    const int x_piece = blockIdx.y % g.channel_tiles * X_PIECES, dy_piece = blockIdx.y / g.channel_tiles * DY_PIECES;
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    const int tap_d = warp % EXTENT, my_channels = warp / EXTENT % Shares::CHANNELS * BLOCKS;
    const int my_results = warp / (EXTENT * Shares::CHANNELS) * BLOCKS;
    const bool sums_bias = g.bias_partials != nullptr && x_piece + my_channels == 0 && tap_d == 0;
    const long long tiles = tile_count<WGRAD_TILE_D, WGRAD_TILE_H, WGRAD_TILE_W>(g.volume);
    const long long begin = tiles * blockIdx.x / gridDim.x, end = tiles * (blockIdx.x + 1) / gridDim.x;

    auto position = [&](long long index) { return tile_position<WGRAD_TILE_D, WGRAD_TILE_H, WGRAD_TILE_W>(g.volume, index); };
    auto load = [&](long long index) {
        const int buffer = static_cast<int>(index - begin) % BUFFERS;
        const TilePosition tile = position(index);
        Halo::load(halo[buffer], g.x, g.volume, x_piece, tile.n, tile.d - BEFORE, tile.h - BEFORE, tile.w - BEFORE);
        Gradient::load(gradient[buffer], g.dy, g.volume, dy_piece, tile.n, tile.d, tile.h, tile.w);
    };

    float sums[EXTENT][EXTENT][BLOCKS][4] = {};
    float bias[BLOCKS] = {};  // of result lane / 4, over voxels 2 (lane % 4) and the next of each row
    load(begin);
    commit_copies();
    for (long long index = begin; index < end; ++index) {
        const int buffer = static_cast<int>(index - begin) % BUFFERS;
        const TilePosition tile = position(index);
        wait_copies<0>();
        Halo::finish(halo[buffer], g.x, g.volume, x_piece, tile.n, tile.d - BEFORE, tile.h - BEFORE, tile.w - BEFORE);
        Gradient::finish(gradient[buffer], g.dy, g.volume, dy_piece, tile.n, tile.d, tile.h, tile.w);
        __syncthreads();  // this tile has landed; the one before has been read
        if (BUFFERS == 2 && index + 1 < end) load(index + 1);
        commit_copies();
#pragma unroll 1
        for (int d = 0; d < WGRAD_TILE_D; ++d) {
            if (tile.d + d >= g.volume.d) break;
            unsigned b[WGRAD_TILE_H][BLOCKS];
            load_turned<WGRAD_TILE_H, WGRAD_TILE_W * 16, Gradient::STRIDE * 16>(
                b, shared_address(gradient[buffer] + my_results * Gradient::STRIDE + d * WGRAD_TILE_H * WGRAD_TILE_W));
            if (sums_bias) {
#pragma unroll
                for (int h = 0; h < WGRAD_TILE_H; ++h) {
#pragma unroll
                    for (int block = 0; block < BLOCKS; ++block) {
                        const float2 pair = widen_pair<T>(b[h][block]);
                        bias[block] += pair.x + pair.y;
                    }
                }
            }
#pragma unroll
            for (int tap_w = 0; tap_w < EXTENT; ++tap_w) {
                unsigned a[ROWS][2];
                load_turned<ROWS, BOX_W * 16, Halo::STRIDE * 16>(
                    a, shared_address(halo[buffer] + my_channels * Halo::STRIDE + (d + tap_d) * BOX_H * BOX_W + tap_w));
#pragma unroll
                for (int h = 0; h < WGRAD_TILE_H; h += 2) {
#pragma unroll
                    for (int tap_h = 0; tap_h < EXTENT; ++tap_h) {
#pragma unroll
                        for (int block = 0; block < BLOCKS; ++block)
                            multiply16<T>(sums[tap_h][tap_w][block], a[h + tap_h][0], a[h + tap_h][1], a[h + 1 + tap_h][0],
                                          a[h + 1 + tap_h][1], b[h][block], b[h + 1][block]);
                    }
                }
            }
        }
        if (BUFFERS == 1 && index + 1 < end) {
            __syncthreads();  // the tile has been read
            load(index + 1);
        }
    }

    // Sums 0 and 1 are channel lane / 4 and results 2 (lane % 4) and the next; sums 2 and 3 the same of the other piece.
    const int k = lane % 4 * 2;
    const long long weights = static_cast<long long>(RESULTS == Parts::TAPS ? 8 : EXTENT * EXTENT * EXTENT) * g.in * g.out;
    float* partials = g.partials + blockIdx.x * weights;
#pragma unroll
    for (int block = 0; block < BLOCKS; ++block) {
        const Piece result = piece_at<RESULTS>(dy_piece + my_results + block, g.dy.first.channels);
        const bool is_part = RESULTS == Parts::TAPS ? result.part < 8 : result.part == 0;
        const int live = is_part ? g.dy.first.channels - result.channel : 0;
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const Piece source = piece_at<Parts::TENSORS>(x_piece + my_channels + half, g.x.first.channels);
            const Source& part = source.part > 0 ? g.x.second : g.x.first;
            const int c = source.channel + lane / 4;
            if (c >= part.channels) continue;
            const int row = c + (source.part > 0 ? g.x.first.channels : 0);
#pragma unroll
            for (int tap = 0; tap < EXTENT * EXTENT; ++tap) {
                const int filter_tap = RESULTS == Parts::TAPS ? result.part : tap_d * EXTENT * EXTENT + tap;
                float* to = partials + (static_cast<long long>(filter_tap) * g.in + row) * g.out + result.channel + k;
                const float(&pair)[4] = sums[tap / EXTENT][tap % EXTENT][block];
                if (g.out % 2 == 0 && k < live) {
                    *reinterpret_cast<float2*>(to) = make_float2(pair[2 * half], pair[2 * half + 1]);
                } else {
                    if (k < live) to[0] = pair[2 * half];
                    if (k + 1 < live) to[1] = pair[2 * half + 1];
                }
            }
        }
        if (sums_bias) {
            float sum = bias[block];
            sum += __shfl_xor_sync(ALL_LANES, sum, 1);
            sum += __shfl_xor_sync(ALL_LANES, sum, 2);
            const int parts = RESULTS == Parts::TAPS ? 8 : 1;
            float* to = g.bias_partials + (blockIdx.x * static_cast<long long>(parts) + result.part) * g.out + result.channel;
            if (lane % 4 == 0 && lane / 4 < live) to[lane / 4] = sum;
        }
    }
}
