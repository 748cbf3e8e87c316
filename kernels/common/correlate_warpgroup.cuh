// The correlation of correlate.cuh for compute_90a: the same tiles, arguments, packed filter and ends, with wgmma in between.
//
// A product takes 64 voxels by 16 channels out of registers and a tap's filter, 16 channels by all results of the CTA, out of
// shared memory. Its 64 rows are one pair of rows of each of the tile's four planes: a warp still owns a plane, and the rows
// that its column of taps meets are loaded once for the EXTENT taps along h, as in correlate.cuh. Taking A from shared memory
// instead would read it for each tap anew: 16 cycles of shared memory for a product of 32 results that takes 16 cycles. A
// halo in registers also needs no swizzle, may be scaled and masked in place by ordinary loads and stores, and is free for the
// next chunk as soon as it has been read.
//
// The filter's stages (the taps of one column) are copied by one thread through a ring of STAGES buffers. A warpgroup waits for
// the products of a column before it loads the rows of the next: the other three of the multiprocessor keep the tensor cores busy
// meanwhile. A second set of rows would let its own do so, but then ptxas finds too few registers for four, and serialises.
// One chunk of eight channels fills half of a product, so two taps along h share one.
#pragma once

#include "correlate.cuh"

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#define CORRELATE correlate_warpgroup

constexpr int STAGES = 4;

// Starts one column of taps: sums += A B for the warp's pairs of rows.
template <typename T, int EXTENT, int WIDTH, int PIECES>
__device__ __forceinline__ void multiply_column_group(TileSums<WIDTH>& sums, const unsigned (&a)[2 * Warps<WIDTH>::PAIRS + EXTENT - 1][PIECES],
                                                      unsigned filter) {
    constexpr int PIECE_BYTES = WIDTH * 16, TAP_BYTES = CHUNK_PIECES * PIECE_BYTES;
    using Tag = typename ProductsOf<T>::Tag;
    begin_products();
    if constexpr (PIECES == 2) {
#pragma unroll
        for (int tap = 0; tap < EXTENT; ++tap) {
            const unsigned long long b = matrix_descriptor(filter + tap * TAP_BYTES, PIECE_BYTES);
#pragma unroll
            for (int pair = 0; pair < Warps<WIDTH>::PAIRS; ++pair) {
                const unsigned(&upper)[PIECES] = a[2 * pair + tap], (&lower)[PIECES] = a[2 * pair + 1 + tap];
                multiply_group(sums[pair], upper[0], lower[0], upper[1], lower[1], b, Tag{});
            }
        }
    } else {
#pragma unroll
        for (int tap = 0; tap < EXTENT; tap += 2) {
            // The last of an odd number meets zeros: the packed filter's empty second piece.
            const bool is_pair = tap + 1 < EXTENT;
            const unsigned long long b = matrix_descriptor(filter + tap * TAP_BYTES, is_pair ? TAP_BYTES : PIECE_BYTES);
#pragma unroll
            for (int pair = 0; pair < Warps<WIDTH>::PAIRS; ++pair) {
                const int row = 2 * pair + tap, next = is_pair ? row + 1 : row;
                multiply_group(sums[pair], a[row][0], a[row + 1][0], is_pair ? a[next][0] : 0u, is_pair ? a[next + 1][0] : 0u, b,
                               Tag{});
            }
        }
    }
    commit_products();
}

template <typename T, int EXTENT, int WIDTH, Parts SOURCES, Parts RESULTS>
__device__ __forceinline__ void correlate_warpgroup(const CorrelateArguments& g) {
    using Share = Warps<WIDTH>;
    constexpr int THREADS = Share::THREADS, ROWS = 2 * Share::PAIRS + EXTENT - 1;
    constexpr int BOX_D = TILE_D + EXTENT - 1, BOX_H = TILE_H + EXTENT - 1, BOX_W = TILE_W + EXTENT - 1;
    using Halo = Box<T, SOURCES, BOX_D, BOX_H, BOX_W, CHUNK_PIECES, THREADS>;
    constexpr int BUFFERS = EXTENT == 1 ? 2 : 1;
    constexpr int HALO_ROWS = Halo::ROWS * BUFFERS > Share::SCRATCH_ROWS ? Halo::ROWS : (Share::SCRATCH_ROWS + BUFFERS - 1) / BUFFERS;
    constexpr int COLUMNS = EXTENT * EXTENT, COLUMN_ROWS = EXTENT * CHUNK_PIECES * WIDTH;
    __shared__ uint4 halo[BUFFERS][HALO_ROWS];
    __shared__ __align__(128) uint4 filter[STAGES][COLUMN_ROWS];
    __shared__ Barrier arrived[STAGES];

    const int result_tile = blockIdx.x % g.result_tiles;
    const TilePosition tile = tile_position<TILE_D, TILE_H, TILE_W>(g.volume, blockIdx.x / g.result_tiles);
    const int warp = threadIdx.x / WARP, plane = warp % TILE_D;
    const uint4* packed = g.filter + static_cast<long long>(result_tile) * g.chunks * COLUMNS * COLUMN_ROWS;
    const int stages = g.chunks * COLUMNS;

    auto load_halo = [&](int chunk) {
        Halo::load(halo[chunk % BUFFERS], g.sources, g.volume, chunk * CHUNK_PIECES, tile.n, tile.d - g.before,
                   tile.h - g.before, tile.w - g.before);
    };
    auto load_column = [&](int stage) {
        if (threadIdx.x == 0 && stage < stages)
            copy_array(filter[stage % STAGES], packed + static_cast<long long>(stage) * COLUMN_ROWS, COLUMN_ROWS * sizeof(uint4),
                       arrived[stage % STAGES]);
    };

    load_halo(0);
    commit_copies();
    if (threadIdx.x == 0) {
        start_barriers(arrived);
        for (int stage = 0; stage < STAGES; ++stage) load_column(stage);
    }
    TileSums<WIDTH> sums;
    start_sums<WIDTH, RESULTS>(g, sums, (result_tile * WIDTH + Share::first_result(warp)) / PIECE);

    // The columns of one chunk.
    auto multiply_chunk = [&](int chunk, auto pieces) {
        constexpr int PIECES = decltype(pieces)::COUNT;
        const unsigned rows = shared_address(halo[chunk % BUFFERS] + (plane * BOX_H + Share::first_row(warp)) * BOX_W);
#pragma unroll 1
        for (int column = 0; column < COLUMNS; ++column) {
            const int stage = chunk * COLUMNS + column, tap_d = column / EXTENT, tap_w = column % EXTENT;
            unsigned a[ROWS][PIECES];
            load_plane<ROWS, PIECES, BOX_W * 16, Halo::STRIDE * 16>(a, rows + (tap_d * BOX_H * BOX_W + tap_w) * 16);
            wait_barrier(arrived[stage % STAGES], stage / STAGES % 2);
            multiply_column_group<T, EXTENT, WIDTH, PIECES>(sums, a, shared_address(filter[stage % STAGES]));
            wait_products<0>();
            __syncthreads();  // nobody reads this stage any more
            load_column(stage + STAGES);
        }
    };
    for (int chunk = 0; chunk < g.chunks; ++chunk) {
        wait_copies<0>();
        Halo::finish(halo[chunk % BUFFERS], g.sources, g.volume, chunk * CHUNK_PIECES, tile.n, tile.d - g.before, tile.h - g.before,
                     tile.w - g.before);
        __syncthreads();  // the halo has landed; the one before has been read
        if (BUFFERS == 2 && chunk + 1 < g.chunks) load_halo(chunk + 1);
        commit_copies();
        if (g.source_pieces - chunk * CHUNK_PIECES >= CHUNK_PIECES)
            multiply_chunk(chunk, Width<2>{});
        else
            multiply_chunk(chunk, Width<1>{});
        if (BUFFERS == 1 && chunk + 1 < g.chunks) {
            // The last column's __syncthreads came after everybody had loaded its rows.
            load_halo(chunk + 1);
            commit_copies();
        }
    }
    __syncthreads();
    store_results<T, WIDTH, RESULTS>(g, sums, halo[0]);
}
#else
#define CORRELATE correlate
#endif
