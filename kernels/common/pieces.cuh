// Activations of 16 bits as the tensor-core convolutions see them: in pieces of eight channels, sixteen bytes of shared
// memory. Several tensors side by side (two sources instead of a concatenation), or the eight taps of a transposed
// convolution, are parts; each part begins a piece of its own, so no piece straddles two. Channels that fill up a piece are
// zero.
#pragma once

#include "halo.cuh"
#include "tensor_core.cuh"

constexpr int PIECE = 8;  // channels

// How the channels of an operand are arranged.
enum class Parts {
    TENSORS,  // of one or two tensors, the second behind the first
    TAPS,     // of the eight voxels of the doubled volume that belong to a voxel, in order of taps
};

struct Source {
    const void* data;    // [n, d, h, w, channels]; as TAPS [n, 2d, 2h, 2w, channels]
    const float* scale;  // [channels] or null: elements inside the volume are used as scale * x + shift, rounded
    const float* shift;  // [channels]
    const void* mask;    // like data, or null: elements count as zero where the mask is not positive
    int channels;        // 0: there is no such source
    int unused;
};

struct Sources {
    Source first;
    Source second;
};

struct Target {
    void* data;          // [n, d, h, w, channels]; as TAPS [n, 2d, 2h, 2w, channels]
    int channels;        // 0: there is no such target
    int unused;
};

struct Targets {
    Target first;
    Target second;
};

__host__ __device__ __forceinline__ int pieces(int channels) { return (channels + PIECE - 1) / PIECE; }

// A piece's part and its first channel there.
struct Piece {
    int part, channel;
};

template <Parts PARTS>
__device__ __forceinline__ Piece piece_at(int index, int channels_of_first) {
    const int each = pieces(channels_of_first);
    Piece piece;
    piece.part = PARTS == Parts::TAPS ? index / each : index >= each;
    piece.channel = (index - piece.part * each) * PIECE;
    return piece;
}

// The place of a voxel in the tensor of a part: the voxel itself, or its tap in the doubled volume.
template <Parts PARTS>
__device__ __forceinline__ long long place(const Volume& v, int part, int n, int d, int h, int w) {
    if (PARTS == Parts::TENSORS) return voxel_index(v, n, d, h, w);
    const Volume doubled = {v.n, 2 * v.d, 2 * v.h, 2 * v.w};
    return voxel_index(doubled, n, 2 * d + part / 4, 2 * h + part / 2 % 2, 2 * w + part % 2);
}

// Rows of shared memory from one piece of a tile to the next. Lanes store PIECES pieces of a voxel side by side, eight rows
// at a time; this padding puts those eight into different banks.
template <int VOXELS, int PIECES>
constexpr int PIECE_STRIDE = VOXELS + (8 / PIECES % 8 - VOXELS % 8 + 8) % 8;

// A box of voxels with PIECES pieces of channels in shared memory, [piece][d][h][w][8 channels]: eight neighbours along w
// are 128 neighbouring bytes, so a matrix at any offset is free of bank conflicts. A thread keeps to one piece and meets the
// same rows in `load` and `finish`.
template <typename T, Parts PARTS, int BOX_D, int BOX_H, int BOX_W, int PIECES, int THREADS>
struct Box {
    static constexpr int VOXELS = BOX_D * BOX_H * BOX_W, STRIDE = PIECE_STRIDE<VOXELS, PIECES>, ROWS = PIECES * STRIDE;
    static_assert(THREADS % PIECES == 0, "a thread keeps to one piece");

    // Calls row(index in shared memory, element of the piece's first channel, whether the voxel is in the volume). Planes of a
    // tensor have fewer than 2^31 elements, so only their number needs 64 bits.
    template <int UNROLL, typename Row>
    static __device__ __forceinline__ void for_each_row(const Volume& volume, const Piece& piece, int channels, int n, int d0,
                                                        int h0, int w0, Row row) {
        constexpr int STEP = PARTS == Parts::TAPS ? 2 : 1;
        const int column = threadIdx.x % PIECES, by_w = STEP * channels, by_h = STEP * by_w * volume.w;
        const int by_d = STEP * by_h * volume.h;
        const long long origin = place<PARTS>(volume, piece.part, n, d0, h0, w0) * channels + piece.channel;
        // The boxes of three taps have the most rows; smaller ones do not earn the registers for strides.
        constexpr bool HAS_STRIDES = BOX_W > 9;
#pragma unroll UNROLL
        for (int voxel = threadIdx.x / PIECES; voxel < VOXELS; voxel += THREADS / PIECES) {
            const int w = voxel % BOX_W, h = voxel / BOX_W % BOX_H, d = voxel / (BOX_W * BOX_H);
            const long long element =
                HAS_STRIDES ? origin + (static_cast<long long>(d) * by_d + (h * by_h + w * by_w))
                            : place<PARTS>(volume, piece.part, n, d0 + d, h0 + h, w0 + w) * channels + piece.channel;
            row(column * STRIDE + voxel, element, contains(volume, d0 + d, h0 + h, w0 + w));
        }
    }

    // Starts copying the pieces from `first_piece` on. `sources` are one or two; voxels outside the volume become zero.
    static __device__ __forceinline__ void load(uint4* rows, const Sources& sources, const Volume& volume, int first_piece,
                                                int n, int d0, int h0, int w0) {
        const Piece piece = piece_at<PARTS>(first_piece + threadIdx.x % PIECES, sources.first.channels);
        const Source& source = PARTS == Parts::TENSORS && piece.part > 0 ? sources.second : sources.first;
        const int live = PARTS == Parts::TAPS && piece.part >= 8 ? 0 : min(PIECE, source.channels - piece.channel);
        const T* data = static_cast<const T*>(live > 0 ? source.data : sources.first.data);
        if (source.channels % PIECE == 0 || live <= 0) {
            for_each_row<2>(volume, piece, source.channels, n, d0, h0, w0, [&](int to, long long from, bool is_inside) {
                const bool exists = is_inside && live > 0;
                copy_row(rows + to, data + (exists ? from : 0), exists);
            });
            return;
        }
        // Rows of such tensors do not begin at multiples of sixteen bytes.
        for_each_row<1>(volume, piece, source.channels, n, d0, h0, w0, [&](int to, long long from, bool is_inside) {
            uint4 row = make_uint4(0, 0, 0, 0);
            if (is_inside) {
                if (source.channels % 4 == 0) {
                    const uint2 low = *reinterpret_cast<const uint2*>(data + from);
                    row.x = low.x, row.y = low.y;
                    if (live > 4) {
                        const uint2 high = *reinterpret_cast<const uint2*>(data + from + 4);
                        row.z = high.x, row.w = high.y;
                    }
                } else {
                    const unsigned short* halves = reinterpret_cast<const unsigned short*>(data + from);
                    unsigned element[PIECE];
#pragma unroll
                    for (int i = 0; i < PIECE; ++i) element[i] = i < live ? halves[i] : 0;
                    row.x = element[0] | element[1] << 16, row.y = element[2] | element[3] << 16;
                    row.z = element[4] | element[5] << 16, row.w = element[6] | element[7] << 16;
                }
            }
            rows[to] = row;
        });
    }

    // Applies scale, shift and mask to the rows that this thread has loaded, in place. The copies must have landed.
    static __device__ __forceinline__ void finish(uint4* rows, const Sources& sources, const Volume& volume,
                                                  int first_piece, int n, int d0, int h0, int w0) {
        const Piece piece = piece_at<PARTS>(first_piece + threadIdx.x % PIECES, sources.first.channels);
        const Source& source = PARTS == Parts::TENSORS && piece.part > 0 ? sources.second : sources.first;
        const int live = PARTS == Parts::TAPS && piece.part >= 8 ? 0 : min(PIECE, source.channels - piece.channel);
        if (live <= 0) return;
        if (source.scale != nullptr) {
            float scale[PIECE], shift[PIECE];
#pragma unroll
            for (int i = 0; i < PIECE; ++i) {
                scale[i] = i < live ? source.scale[piece.channel + i] : 0.0f;
                shift[i] = i < live ? source.shift[piece.channel + i] : 0.0f;
            }
            // Zero padding stays zero: it surrounds what the shift makes, not what it gets.
            for_each_row<1>(volume, piece, source.channels, n, d0, h0, w0, [&](int at, long long, bool is_inside) {
                if (!is_inside) return;
                uint4 row = rows[at];
                unsigned* words = &row.x;
#pragma unroll
                for (int i = 0; i < PIECE / 2; ++i) {
                    const float2 pair = widen_pair<T>(words[i]);
                    words[i] = narrow_pair<T>(fmaf(pair.x, scale[2 * i], shift[2 * i]),
                                              fmaf(pair.y, scale[2 * i + 1], shift[2 * i + 1]));
                }
                rows[at] = row;
            });
        }
        if (source.mask != nullptr) {
            const T* mask = static_cast<const T*>(source.mask);
            for_each_row<1>(volume, piece, source.channels, n, d0, h0, w0, [&](int at, long long from, bool is_inside) {
                if (!is_inside) return;
                unsigned keep[PIECE / 2];
                if (source.channels % PIECE == 0) {
                    const uint4 kept = *reinterpret_cast<const uint4*>(mask + from);
                    const unsigned words[4] = {kept.x, kept.y, kept.z, kept.w};
#pragma unroll
                    for (int i = 0; i < PIECE / 2; ++i) {
                        const float2 pair = widen_pair<T>(words[i]);
                        keep[i] = (pair.x > 0.0f ? 0xffffu : 0) | (pair.y > 0.0f ? 0xffff0000u : 0);
                    }
                } else {
#pragma unroll
                    for (int i = 0; i < PIECE / 2; ++i) {
                        const bool first = 2 * i < live && widen(mask[from + 2 * i]) > 0.0f;
                        const bool second = 2 * i + 1 < live && widen(mask[from + 2 * i + 1]) > 0.0f;
                        keep[i] = (first ? 0xffffu : 0) | (second ? 0xffff0000u : 0);
                    }
                }
                uint4 row = rows[at];
                row.x &= keep[0], row.y &= keep[1], row.z &= keep[2], row.w &= keep[3];
                rows[at] = row;
            });
        }
    }
};
