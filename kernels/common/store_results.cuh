// The two ends of a correlation: sums that begin with the bias; ReLU on them in registers, rounding, per-channel statistics, and stores of whole
// pieces of eight channels. A warp's sums lie across its lanes two channels at a time; a kilobyte of shared memory turns
// them into rows of sixteen bytes. The pieces of a row are swapped about by the row's number, so that neither side of that
// exchange has a bank conflict.
#pragma once

#include "pieces.cuh"
#include "warpgroup.cuh"

constexpr int TILE_D = 4, TILE_H = 8, TILE_W = 8;
constexpr int WARP_WIDTH = 32;  // results of a warp: 64 sums per thread; twice that would leave too few registers for A

struct CorrelateArguments {
    Sources sources;
    const uint4* filter;  // see pack_filter.cuh
    const float* bias;    // [results] or null
    Targets targets;
    float* statistics;    // [tiles, parts, 3, channels of a part] or null; see tile_statistics.cuh
    Volume volume;
    int before;           // planes of zeros in front
    int chunks;           // of sixteen source channels
    int source_pieces;
    int result_tiles;
    int results;          // channels of all targets together
    int relu;
};

// How the warps of a CTA share its tile: each group of TILE_D warps has all planes, a warp one of them. Groups divide the
// results; where a warpgroup multiplies, they divide the rows, for a product reads the filter once however many results it has.
template <int WIDTH>
struct Warps {
    static constexpr int GROUPS = WIDTH > WARP_WIDTH ? WIDTH / WARP_WIDTH : 1;
    static constexpr int COLUMNS = HAS_WARPGROUP_PRODUCTS ? 1 : GROUPS, BANDS = GROUPS / COLUMNS;
    static constexpr int WIDTH_EACH = WIDTH / COLUMNS, BLOCKS = WIDTH_EACH / PIECE;
    static constexpr int PAIRS = TILE_H / 2 / BANDS;  // of rows: sixteen voxels
    static constexpr int THREADS = TILE_D * GROUPS * WARP;
    static constexpr int SCRATCH_ROWS = THREADS / WARP * 2 * TILE_W * BLOCKS;  // that store_results wants

    // A warp's first row and its first result in the tile.
    static __device__ __forceinline__ int first_row(int warp) { return BANDS > 1 ? warp / TILE_D * 2 * PAIRS : 0; }
    static __device__ __forceinline__ int first_result(int warp) { return BANDS > 1 ? 0 : warp / TILE_D * WIDTH_EACH; }
};

// A thread's sums: of each pair of rows and each eight results four.
template <int WIDTH>
using TileSums = float[Warps<WIDTH>::PAIRS][Warps<WIDTH>::BLOCKS][4];

template <Parts RESULTS>
__device__ __forceinline__ const Target& target_of(const CorrelateArguments& g, const Piece& piece) {
    return RESULTS == Parts::TENSORS && piece.part > 0 ? g.targets.second : g.targets.first;
}

// The channels from a piece's first one on that exist.
template <Parts RESULTS>
__device__ __forceinline__ int live_of(const CorrelateArguments& g, const Piece& piece) {
    return RESULTS == Parts::TAPS && piece.part >= 8 ? 0 : target_of<RESULTS>(g, piece).channels - piece.channel;
}

// The number of a piece's first channel among all results.
template <Parts RESULTS>
__device__ __forceinline__ int number_of(const CorrelateArguments& g, const Piece& piece) {
    return piece.channel + (RESULTS == Parts::TENSORS && piece.part > 0 ? g.targets.first.channels : 0);
}

// Sums begin with the bias: registers that would hold it until the end have better uses.
template <int WIDTH, Parts RESULTS>
__device__ __forceinline__ void start_sums(const CorrelateArguments& g, TileSums<WIDTH>& sums, int first_piece) {
#pragma unroll
    for (int block = 0; block < Warps<WIDTH>::BLOCKS; ++block) {
        const Piece piece = piece_at<RESULTS>(first_piece + block, g.targets.first.channels);
        const int live = live_of<RESULTS>(g, piece), k = threadIdx.x % 4 * 2;
        float bias[2] = {};
        if (g.bias != nullptr) {
            if (k < live) bias[0] = g.bias[number_of<RESULTS>(g, piece) + k];
            if (k + 1 < live) bias[1] = g.bias[number_of<RESULTS>(g, piece) + k + 1];
        }
#pragma unroll
        for (int pair = 0; pair < Warps<WIDTH>::PAIRS; ++pair) {
#pragma unroll
            for (int i = 0; i < 4; ++i) sums[pair][block][i] = bias[i % 2];
        }
    }
}

// Stores the first `live` of eight elements.
template <typename T>
__device__ __forceinline__ void store_piece(T* to, uint4 row, int live, bool is_aligned) {
    if (is_aligned) {
        *reinterpret_cast<uint4*>(to) = row;
        return;
    }
    const unsigned words[PIECE / 2] = {row.x, row.y, row.z, row.w};
    unsigned short* halves = reinterpret_cast<unsigned short*>(to);
#pragma unroll
    for (int i = 0; i < PIECE; ++i)
        if (i < live) halves[i] = static_cast<unsigned short>(words[i / 2] >> (i % 2 * 16));
}

// A lane's sums: channels 2 (lane % 4) and the next of each block, of voxels lane / 4 of both rows of each pair.
template <typename T, int WIDTH, Parts RESULTS>
__device__ __forceinline__ void store_results(const CorrelateArguments& g, const TileSums<WIDTH>& sums, uint4* scratch) {
    constexpr int BANDS = Warps<WIDTH>::BANDS, PAIRS = Warps<WIDTH>::PAIRS, PARTIALS = TILE_D * BANDS;
    constexpr int BLOCKS = Warps<WIDTH>::BLOCKS, THREADS = Warps<WIDTH>::THREADS, ROWS = 2 * TILE_W;
    constexpr int ITEMS = (ROWS * BLOCKS + WARP - 1) / WARP;
    // Worked out anew, so that nothing of it occupies registers while the products do.
    unsigned cta;
    asm volatile("mov.u32 %0, %%ctaid.x;" : "=r"(cta));
    const int result_tile = static_cast<int>(cta % g.result_tiles);
    const long long tile_index = cta / g.result_tiles;
    const TilePosition tile = tile_position<TILE_D, TILE_H, TILE_W>(g.volume, tile_index);
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, plane = warp % TILE_D;
    const int first_piece = (result_tile * WIDTH + Warps<WIDTH>::first_result(warp)) / PIECE;
    const int first_h = tile.h + Warps<WIDTH>::first_row(warp), partial = BANDS > 1 ? warp : plane;
    const int d = tile.d + plane, w = tile.w + lane / 4;
    uint4* rows = scratch + warp * ROWS * BLOCKS;
    auto slot = [](int row, int block) { return row * BLOCKS + (block ^ (row % 8 * BLOCKS / 8)); };
    auto result = [&](int pair, int half, int block, int i) {
        const float value = sums[pair][block][2 * half + i];
        return g.relu ? fmaxf(value, 0.0f) : value;
    };
#pragma unroll
    for (int pair = 0; pair < PAIRS; ++pair) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
#pragma unroll
            for (int block = 0; block < BLOCKS; ++block)
                reinterpret_cast<unsigned*>(rows + slot(half * TILE_W + lane / 4, block))[lane % 4] =
                    narrow_pair<T>(result(pair, half, block, 0), result(pair, half, block, 1));
        }
        __syncwarp();
        // Many sums leave no registers for several addresses at a time.
#pragma unroll(BLOCKS > 4 ? 1 : ITEMS)
        for (int turn = 0; turn < ITEMS; ++turn) {
            const int item = turn * WARP + lane;
            if (item >= ROWS * BLOCKS) break;
            const int row = item / BLOCKS, block = item % BLOCKS;
            const int to_h = first_h + 2 * pair + row / TILE_W, to_w = tile.w + row % TILE_W;
            const Piece piece = piece_at<RESULTS>(first_piece + block, g.targets.first.channels);
            const Target& target = target_of<RESULTS>(g, piece);
            const int live = live_of<RESULTS>(g, piece);
            if (live <= 0 || !contains(g.volume, d, to_h, to_w)) continue;
            T* to = static_cast<T*>(target.data) +
                    place<RESULTS>(g.volume, piece.part, tile.n, d, to_h, to_w) * target.channels + piece.channel;
            store_piece(to, rows[slot(row, block)], live, target.channels % PIECE == 0);
        }
        __syncwarp();
    }
    if (g.statistics == nullptr) return;

    // Of what was stored: that is what will be normalised. Sums of distances from the tile's first voxel, which is always there:
    // a large mean then cancels nothing away.
    auto stored = [&](int pair, int half, int block, int i) { return widen(narrow<T>(result(pair, half, block, i))); };
    float* sum_of = reinterpret_cast<float*>(scratch);  // [plane or warp, 2, WIDTH]
    __shared__ float shifts[WIDTH];
    const int first_column = Warps<WIDTH>::first_result(warp) + lane % 4 * 2;
    if (partial == 0 && lane < 4) {
#pragma unroll
        for (int i = 0; i < 2 * BLOCKS; ++i) shifts[first_column + i / 2 * PIECE + i % 2] = stored(0, 0, i / 2, i % 2);
    }
    __syncthreads();
#pragma unroll
    for (int block = 0; block < BLOCKS; ++block) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            const int k = first_column + block * PIECE + i;
            float sum = 0.0f, squares = 0.0f;
#pragma unroll
            for (int row = 0; row < 2 * PAIRS; ++row) {
                const float distance = stored(row / 2, row % 2, block, i) - shifts[k];
                if (!contains(g.volume, d, first_h + row, w)) continue;
                sum += distance;
                squares = fmaf(distance, distance, squares);
            }
            // Rows of a warp by a butterfly, then the warps in order: the same sums in every run.
#pragma unroll
            for (int offset = 4; offset < WARP; offset *= 2) {
                sum += __shfl_xor_sync(ALL_LANES, sum, offset);
                squares += __shfl_xor_sync(ALL_LANES, squares, offset);
            }
            if (lane < 4) {
                sum_of[partial * 2 * WIDTH + k] = sum;
                sum_of[(partial * 2 + 1) * WIDTH + k] = squares;
            }
        }
    }
    __syncthreads();
    constexpr int PARTS = RESULTS == Parts::TAPS ? 8 : 1;
    const int channels = RESULTS == Parts::TAPS ? g.targets.first.channels : g.results;
    for (int item = threadIdx.x; item < 3 * WIDTH; item += THREADS) {
        const int k = item % WIDTH;
        const Piece piece = piece_at<RESULTS>((result_tile * WIDTH + k) / PIECE, g.targets.first.channels);
        if (k % PIECE >= live_of<RESULTS>(g, piece)) continue;
        float value = shifts[k];
        if (item < 2 * WIDTH) {
            value = 0.0f;
#pragma unroll
            for (int p = 0; p < PARTIALS; ++p) value += sum_of[p * 2 * WIDTH + item];
        }
        const long long row = tile_index * PARTS + (RESULTS == Parts::TAPS ? piece.part : 0);
        g.statistics[(row * 3 + item / WIDTH) * channels + number_of<RESULTS>(g, piece) + k % PIECE] = value;
    }
}
