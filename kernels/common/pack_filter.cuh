// Filters of 16 bits in the order in which the tensor-core convolutions stream them, every piece at a multiple of sixteen
// bytes whatever the numbers of channels:
//
//   [tile of results][chunk of two source pieces][tap d][tap w][tap h][source piece][result][8 channels]
//
// Filters are thousands of times smaller than activations, so this pass costs little more than its launch. It makes fprop and
// dgrad (mirrored, source and result exchanged) one kernel, and leaves no special case in its inner loop.
#pragma once

#include "pieces.cuh"

struct PackFilterArguments {
    const unsigned short* filter;  // [extent, extent, extent, in, out]
    uint4* packed;                 // [rows]
    long long rows;
    int extent;
    int in, out;
    int first_source, second_source;  // channels of the parts
    int first_result, second_result;
    int width;     // results of a tile
    int chunks;    // of two source pieces
    int is_dgrad;  // 0 or 1
};

template <Parts SOURCES, Parts RESULTS>
__device__ __forceinline__ void pack_filter(const PackFilterArguments& g) {
    const int taps = g.extent * g.extent * g.extent;
    auto live = [](Piece piece, int first, int second, Parts parts) {
        if (parts == Parts::TAPS) return piece.part < 8 ? first - piece.channel : 0;
        return (piece.part == 0 ? first : second) - piece.channel;
    };
    for (long long row = first_index(); row < g.rows; row += index_stride()) {
        long long rest = row;
        const int n = take_axis(rest, g.width), half = take_axis(rest, 2), tap_h = take_axis(rest, g.extent);
        const int tap_w = take_axis(rest, g.extent), tap_d = take_axis(rest, g.extent), chunk = take_axis(rest, g.chunks);
        const int result_index = static_cast<int>(rest) * g.width + n;
        const Piece source = piece_at<SOURCES>(2 * chunk + half, g.first_source);
        const Piece result = piece_at<RESULTS>(result_index / PIECE, g.first_result);
        const int sources = live(source, g.first_source, g.second_source, SOURCES);
        const bool exists = result_index % PIECE < live(result, g.first_result, g.second_result, RESULTS);
        const int s = source.channel + (SOURCES == Parts::TENSORS && source.part > 0 ? g.first_source : 0);
        const int r = result.channel + (RESULTS == Parts::TENSORS && result.part > 0 ? g.first_result : 0) + result_index % PIECE;
        int tap = (tap_d * g.extent + tap_h) * g.extent + tap_w;
        if (g.is_dgrad) tap = taps - 1 - tap;
        if (SOURCES == Parts::TAPS) tap = source.part;
        if (RESULTS == Parts::TAPS) tap = result.part;
        unsigned element[PIECE];
#pragma unroll
        for (int i = 0; i < PIECE; ++i) {
            const int c = g.is_dgrad ? r : s + i, k = g.is_dgrad ? s + i : r;
            element[i] = exists && i < sources ? g.filter[(static_cast<long long>(tap) * g.in + c) * g.out + k] : 0;
        }
        g.packed[row] = make_uint4(element[0] | element[1] << 16, element[2] | element[3] << 16,
                                   element[4] | element[5] << 16, element[6] | element[7] << 16);
    }
}
