// Geometry of a 3-D convolution and the tile of an activation with its halo in shared memory: every voxel is loaded once
// per tile and then read by all taps from there.
#pragma once

#include "common.cuh"

// Stride 1, zero "same" padding: `before` planes of zeros in front along each axis.
struct Volume {
    int n, d, h, w;
};

// The tile (first voxel along each axis) that a linear tile index names.
struct TilePosition {
    int n, d, h, w;
};

template <int TILE_D, int TILE_H, int TILE_W>
__device__ __forceinline__ long long tile_count(const Volume& v) {
    return static_cast<long long>(v.n) * ((v.d + TILE_D - 1) / TILE_D) * ((v.h + TILE_H - 1) / TILE_H) *
           ((v.w + TILE_W - 1) / TILE_W);
}

template <int TILE_D, int TILE_H, int TILE_W>
__device__ __forceinline__ TilePosition tile_position(const Volume& v, long long tile) {
    TilePosition p;
    p.w = take_axis(tile, (v.w + TILE_W - 1) / TILE_W) * TILE_W;
    p.h = take_axis(tile, (v.h + TILE_H - 1) / TILE_H) * TILE_H;
    p.d = take_axis(tile, (v.d + TILE_D - 1) / TILE_D) * TILE_D;
    p.n = static_cast<int>(tile);
    return p;
}

__device__ __forceinline__ bool contains(const Volume& v, int d, int h, int w) {
    return static_cast<unsigned>(d) < static_cast<unsigned>(v.d) &&
           static_cast<unsigned>(h) < static_cast<unsigned>(v.h) && static_cast<unsigned>(w) < static_cast<unsigned>(v.w);
}

__device__ __forceinline__ long long voxel_index(const Volume& v, int n, int d, int h, int w) {
    return ((static_cast<long long>(n) * v.d + d) * v.h + h) * v.w + w;
}

constexpr int CHUNK = 8;  // channels in shared memory at a time: 32 bytes, the sector that device memory hands out anyway

// Loads CHUNK channels of a box of voxels, zero outside the volume, transposed to [channel][d][h][w]: neighbours along w
// become neighbouring words, which the threads read as vectors. `ROW` is the padded extent along w.
template <int BOX_D, int BOX_H, int BOX_W, int ROW, int THREADS>
__device__ __forceinline__ void load_box(float (&box)[CHUNK][BOX_D][BOX_H][ROW], const float* x, const Volume& volume,
                                         int channels, int first_channel, int n, int d0, int h0, int w0) {
    constexpr int HALVES = CHUNK / 4;
    const bool is_aligned = channels % 4 == 0;
    for (int item = threadIdx.x; item < BOX_D * BOX_H * BOX_W * HALVES; item += THREADS) {
        const int half = item % HALVES, voxel = item / HALVES;
        const int w = voxel % BOX_W, h = voxel / BOX_W % BOX_H, d = voxel / (BOX_W * BOX_H);
        const int c = first_channel + 4 * half;
        float4 value = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (contains(volume, d0 + d, h0 + h, w0 + w)) {
            const float* source = x + voxel_index(volume, n, d0 + d, h0 + h, w0 + w) * channels + c;
            if (is_aligned && c < channels) {
                value = *reinterpret_cast<const float4*>(source);
            } else if (!is_aligned) {
                if (c < channels) value.x = source[0];
                if (c + 1 < channels) value.y = source[1];
                if (c + 2 < channels) value.z = source[2];
                if (c + 3 < channels) value.w = source[3];
            }
        }
        box[4 * half][d][h][w] = value.x;
        box[4 * half + 1][d][h][w] = value.y;
        box[4 * half + 2][d][h][w] = value.z;
        box[4 * half + 3][d][h][w] = value.w;
    }
}

// Words from one row of a box to the next: whole vectors, so that every row starts at a multiple of 16 bytes.
template <int BOX_W>
constexpr int ROW_WORDS = (BOX_W + 3) / 4 * 4;

// The first WORDS words of a row into registers, in as few loads as possible.
template <int WORDS>
__device__ __forceinline__ void load_row(float (&row)[WORDS], const float* from) {
#pragma unroll
    for (int i = 0; i + 4 <= WORDS; i += 4) {
        const float4 value = *reinterpret_cast<const float4*>(from + i);
        row[i] = value.x;
        row[i + 1] = value.y;
        row[i + 2] = value.z;
        row[i + 3] = value.w;
    }
    if (WORDS % 4 >= 2) {
        const float2 value = *reinterpret_cast<const float2*>(from + WORDS / 4 * 4);
        row[WORDS / 4 * 4] = value.x;
        row[WORDS / 4 * 4 + 1] = value.y;
    }
    if (WORDS % 2 == 1) row[WORDS - 1] = from[WORDS - 1];
}
