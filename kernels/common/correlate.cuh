// Correlation of 16-bit activations with a packed filter on tensor cores: the core of fprop and dgrad.
//
// A CTA owns a tile of 4 x 8 x 8 voxels and WIDTH results; a warp owns one plane of 8 x 8 voxels and up to 32 results, in
// registers as fp32. Source channels come in chunks of 16: the tile with its halo is copied into shared memory once per chunk
// (6 x 10 x 10 voxels for 27 taps) and, where the source asks for it, scaled, shifted and masked in place. The filter streams
// past it, the taps of one column (tap d, tap w) at a time, through two buffers.
//
// A matrix of A is 8 voxels along w by 8 channels. The 8 + EXTENT - 1 rows of a plane that one column of taps meets stay in
// registers, so the EXTENT taps along h share them: 20 matrices of A and 8 of B per tap feed 48 products of 16 x 16 x 8, which
// keeps shared memory at less than half of what the tensor cores take on any generation. Tensor cores bound it from 32
// channels on; below, the padding of channels to 8 and of results to WIDTH does.
#pragma once

#include "store_results.cuh"

constexpr int CHUNK_PIECES = 2;  // sixteen channels: the summed axis of one product

// Threads that a multiprocessor should hold: 512 of up to 128 registers, if its shared memory holds as many CTAs. compute_75
// addresses with more of them, and its 64 KB of shared memory hold two tiles anyway. Without a number ptxas squeezes for more
// threads and spills.
constexpr int RESIDENT = COPIES_ARE_ASYNCHRONOUS ? 512 : 256;

// What a CTA keeps in shared memory.
template <typename T, int EXTENT, int WIDTH, Parts SOURCES>
struct CorrelateShared {
    static constexpr int BOX_D = TILE_D + EXTENT - 1, BOX_H = TILE_H + EXTENT - 1, BOX_W = TILE_W + EXTENT - 1;
    using Halo = Box<T, SOURCES, BOX_D, BOX_H, BOX_W, CHUNK_PIECES, Warps<WIDTH>::THREADS>;
    // With one tap a chunk is multiplied sooner than the next arrives, so it is fetched ahead. With 27 the other CTAs of
    // the multiprocessor fill the gap, and more of them fit with one buffer.
    static constexpr int BUFFERS = EXTENT == 1 && COPIES_ARE_ASYNCHRONOUS ? 2 : 1;
    static constexpr int COLUMN_ROWS = EXTENT * CHUNK_PIECES * WIDTH;
    static constexpr int BYTES = 16 * (BUFFERS * Halo::ROWS + 2 * COLUMN_ROWS);
    static constexpr int RESIDENT_CTAS = resident_ctas(RESIDENT / Warps<WIDTH>::THREADS, BYTES);
};

// Fragments of A for one column of taps: the rows of a plane, each with its pieces.
template <int ROWS, int PIECES, int ROW_BYTES, int PIECE_BYTES>
__device__ __forceinline__ void load_plane(unsigned (&a)[ROWS][PIECES], unsigned address) {
    const int lane = threadIdx.x % WARP, matrix = lane / 8;
    if constexpr (PIECES == 2) {
        const unsigned pairs = address + matrix % 2 * ROW_BYTES + matrix / 2 * PIECE_BYTES + lane % 8 * 16;
#pragma unroll
        for (int row = 0; row + 2 <= ROWS; row += 2) {
            unsigned four[4];
            load_matrices<4, Order::ROWS>(four, pairs + row * ROW_BYTES);
            a[row][0] = four[0], a[row + 1][0] = four[1], a[row][1] = four[2], a[row + 1][1] = four[3];
        }
        if constexpr (ROWS % 2 == 1) {
            unsigned two[2];
            load_matrices<2, Order::ROWS>(two, address + (ROWS - 1) * ROW_BYTES + matrix % 2 * PIECE_BYTES + lane % 8 * 16);
            a[ROWS - 1][0] = two[0], a[ROWS - 1][1] = two[1];
        }
    } else {
#pragma unroll
        for (int row = 0; row + 2 <= ROWS; row += 2) {
            unsigned two[2];
            load_matrices<2, Order::ROWS>(two, address + (row + matrix % 2) * ROW_BYTES + lane % 8 * 16);
            a[row][0] = two[0], a[row + 1][0] = two[1];
        }
        if constexpr (ROWS % 2 == 1) {
            unsigned one[1];
            load_matrices<1, Order::ROWS>(one, address + (ROWS - 1) * ROW_BYTES + lane % 8 * 16);
            a[ROWS - 1][0] = one[0];
        }
    }
}

// Fragments of B for one tap: [8 results][piece]. `address` is the tap's first row of this warp's results.
template <int BLOCKS, int PIECES, int PIECE_BYTES>
__device__ __forceinline__ void load_filter(unsigned (&b)[BLOCKS][PIECES], unsigned address) {
    const int lane = threadIdx.x % WARP, matrix = lane / 8;
    if constexpr (PIECES == 2 && BLOCKS >= 2) {
        const unsigned row = address + matrix % 2 * PIECE_BYTES + matrix / 2 * 128 + lane % 8 * 16;
#pragma unroll
        for (int block = 0; block < BLOCKS; block += 2) {
            unsigned four[4];
            load_matrices<4, Order::ROWS>(four, row + block * 128);
            b[block][0] = four[0], b[block][1] = four[1], b[block + 1][0] = four[2], b[block + 1][1] = four[3];
        }
    } else if constexpr (PIECES == 2) {
        load_matrices<2, Order::ROWS>(b[0], address + matrix % 2 * PIECE_BYTES + lane % 8 * 16);
    } else {
        unsigned all[BLOCKS];
        load_matrices<BLOCKS, Order::ROWS>(all, address + matrix % BLOCKS * 128 + lane % 8 * 16);
#pragma unroll
        for (int block = 0; block < BLOCKS; ++block) b[block][0] = all[block];
    }
}

// One column of taps: sums += A B for the warp's 4 pairs of rows and its blocks of 8 results.
template <typename T, int EXTENT, int WIDTH, int PIECES, int ROW_BYTES, int PIECE_BYTES>
__device__ __forceinline__ void multiply_column(TileSums<WIDTH>& sums, unsigned plane, unsigned filter) {
    constexpr int BLOCKS = Warps<WIDTH>::BLOCKS, ROWS = TILE_H + EXTENT - 1;
    unsigned a[ROWS][PIECES];
    load_plane<ROWS, PIECES, ROW_BYTES, PIECE_BYTES>(a, plane);
#pragma unroll
    for (int tap_h = 0; tap_h < EXTENT; ++tap_h) {
        unsigned b[BLOCKS][PIECES];
        load_filter<BLOCKS, PIECES, WIDTH * 16>(b, filter + tap_h * CHUNK_PIECES * WIDTH * 16);
#pragma unroll
        for (int pair = 0; pair < TILE_H / 2; ++pair) {
            const unsigned(&upper)[PIECES] = a[2 * pair + tap_h], (&lower)[PIECES] = a[2 * pair + 1 + tap_h];
#pragma unroll
            for (int block = 0; block < BLOCKS; ++block) {
                if constexpr (PIECES == 2)
                    multiply16<T>(sums[pair][block], upper[0], lower[0], upper[1], lower[1], b[block][0], b[block][1]);
                else
                    multiply8<T>(sums[pair][block], upper[0], lower[0], b[block][0]);
            }
        }
    }
}

template <typename T, int EXTENT, int WIDTH, Parts SOURCES, Parts RESULTS>
__device__ __forceinline__ void correlate(const CorrelateArguments& g) {
    constexpr int THREADS = Warps<WIDTH>::THREADS, WIDTH_EACH = Warps<WIDTH>::WIDTH_EACH;
    using Shared = CorrelateShared<T, EXTENT, WIDTH, SOURCES>;
    using Halo = typename Shared::Halo;
    constexpr int BOX_H = Shared::BOX_H, BOX_W = Shared::BOX_W, BUFFERS = Shared::BUFFERS;
    constexpr int COLUMNS = EXTENT * EXTENT, COLUMN_ROWS = Shared::COLUMN_ROWS;
    __shared__ uint4 halo[BUFFERS][Halo::ROWS];
    __shared__ uint4 filter[2][COLUMN_ROWS];

    // Neighbouring CTAs share a tile of voxels, so that its halo comes from memory once and from the L2 cache afterwards.
    const int result_tile = blockIdx.x % g.result_tiles;
    const TilePosition tile = tile_position<TILE_D, TILE_H, TILE_W>(g.volume, blockIdx.x / g.result_tiles);
    const int warp = threadIdx.x / WARP, plane = warp % TILE_D, first_result = warp / TILE_D * WIDTH_EACH;
    const bool is_live = tile.d + plane < g.volume.d;
    const uint4* packed = g.filter + static_cast<long long>(result_tile) * g.chunks * COLUMNS * COLUMN_ROWS;

    auto load_halo = [&](int chunk) {
        Halo::load(halo[chunk % BUFFERS], g.sources, g.volume, chunk * CHUNK_PIECES, tile.n, tile.d - g.before,
                   tile.h - g.before, tile.w - g.before);
    };
    auto load_column = [&](int stage) {
        const uint4* from = packed + static_cast<long long>(stage) * COLUMN_ROWS;
        for (int row = threadIdx.x; row < COLUMN_ROWS; row += THREADS) copy_row(&filter[stage % 2][row], from + row, true);
    };

    TileSums<WIDTH> sums;
    start_sums<WIDTH, RESULTS>(g, sums, (result_tile * WIDTH + first_result) / PIECE);
    const int stages = g.chunks * COLUMNS;
    load_halo(0);
    load_column(0);
    commit_copies();
    for (int chunk = 0, stage = 0; chunk < g.chunks; ++chunk) {
        for (int column = 0; column < COLUMNS; ++column, ++stage) {
            wait_copies<0>();
            if (column == 0)
                Halo::finish(halo[chunk % BUFFERS], g.sources, g.volume, chunk * CHUNK_PIECES, tile.n, tile.d - g.before,
                             tile.h - g.before, tile.w - g.before);
            __syncthreads();  // this stage has landed; the one before has been read
            if (stage + 1 < stages) load_column(stage + 1);
            if (BUFFERS == 2 && chunk + 1 < g.chunks) load_halo(chunk + 1);
            commit_copies();
            if (!is_live) continue;
            const int tap_d = column / EXTENT, tap_w = column % EXTENT;
            const unsigned rows = shared_address(halo[chunk % BUFFERS] + (plane + tap_d) * BOX_H * BOX_W + tap_w);
            const unsigned taps = shared_address(filter[stage % 2] + first_result);
            if (g.source_pieces - chunk * CHUNK_PIECES >= CHUNK_PIECES)
                multiply_column<T, EXTENT, WIDTH, 2, BOX_W * 16, Halo::STRIDE * 16>(sums, rows, taps);
            else
                multiply_column<T, EXTENT, WIDTH, 1, BOX_W * 16, Halo::STRIDE * 16>(sums, rows, taps);
        }
        if (BUFFERS == 1 && chunk + 1 < g.chunks) {
            __syncthreads();  // the halo has been read
            load_halo(chunk + 1);
            commit_copies();
        }
    }
    __syncthreads();
    store_results<T, WIDTH, RESULTS>(g, sums, halo[0]);
}
