// target: compute_80
// C = A B in bf16 with fp32 accumulation: cp.async double buffering, ldmatrix, mma.sync. One CTA of four warps owns a
// 64x64 tile of C; each warp a 32x32 quarter. Rows of shared memory are padded to 40 elements against bank conflicts.
#include <cuda_bf16.h>
#include <cstdint>

constexpr int TILE = 64, DEPTH = 32, STRIDE_A = DEPTH + 8, STRIDE_B = TILE + 8;

__device__ inline uint32_t shared_address(const void* p) { return (uint32_t)__cvta_generic_to_shared(p); }

__device__ inline void copy16(void* to, const void* from) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(to)), "l"(from));
}

extern "C" __global__ void __launch_bounds__(128)
matmul(const __nv_bfloat16* __restrict__ a,  // [M, K]
       const __nv_bfloat16* __restrict__ b,  // [K, N]
       float* __restrict__ c,                // [M, N]
       int m, int n, int k) {
    __shared__ __align__(16) __nv_bfloat16 tile_a[2][TILE * STRIDE_A];
    __shared__ __align__(16) __nv_bfloat16 tile_b[2][DEPTH * STRIDE_B];
    int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
    int row0 = blockIdx.y * TILE, column0 = blockIdx.x * TILE;
    float sum[2][4][4] = {};

    auto load = [&](int stage, int k0) {
        for (int i = thread; i < TILE * DEPTH / 8; i += 128) {
            int row = i / (DEPTH / 8), column = i % (DEPTH / 8) * 8;
            copy16(&tile_a[stage][row * STRIDE_A + column], a + (long long)(row0 + row) * k + k0 + column);
        }
        for (int i = thread; i < DEPTH * TILE / 8; i += 128) {
            int row = i / (TILE / 8), column = i % (TILE / 8) * 8;
            copy16(&tile_b[stage][row * STRIDE_B + column], b + (long long)(k0 + row) * n + column0 + column);
        }
        asm volatile("cp.async.commit_group;");
    };

    load(0, 0);
    for (int k0 = 0; k0 < k; k0 += DEPTH) {
        int stage = k0 / DEPTH % 2;
        if (k0 + DEPTH < k) {
            load(stage ^ 1, k0 + DEPTH);
            asm volatile("cp.async.wait_group 1;");
        } else {
            asm volatile("cp.async.wait_group 0;");
        }
        __syncthreads();
        for (int kk = 0; kk < DEPTH; kk += 16) {
            uint32_t fa[2][4], fb[4][2];
            for (int i = 0; i < 2; ++i) {
                int row = warp / 2 * 32 + i * 16 + lane % 16, column = kk + lane / 16 * 8;
                asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                             : "=r"(fa[i][0]), "=r"(fa[i][1]), "=r"(fa[i][2]), "=r"(fa[i][3])
                             : "r"(shared_address(&tile_a[stage][row * STRIDE_A + column])));
            }
            for (int j = 0; j < 4; ++j) {
                int row = kk + lane % 16, column = warp % 2 * 32 + j * 8;
                asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
                             : "=r"(fb[j][0]), "=r"(fb[j][1])
                             : "r"(shared_address(&tile_b[stage][row * STRIDE_B + column])));
            }
            for (int i = 0; i < 2; ++i)
                for (int j = 0; j < 4; ++j)
                    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                                 : "+f"(sum[i][j][0]), "+f"(sum[i][j][1]), "+f"(sum[i][j][2]), "+f"(sum[i][j][3])
                                 : "r"(fa[i][0]), "r"(fa[i][1]), "r"(fa[i][2]), "r"(fa[i][3]), "r"(fb[j][0]), "r"(fb[j][1]));
        }
        __syncthreads();
    }
    for (int i = 0; i < 2; ++i)
        for (int j = 0; j < 4; ++j) {
            int row = row0 + warp / 2 * 32 + i * 16 + lane / 4, column = column0 + warp % 2 * 32 + j * 8 + lane % 4 * 2;
            *reinterpret_cast<float2*>(c + (long long)row * n + column) = make_float2(sum[i][j][0], sum[i][j][1]);
            *reinterpret_cast<float2*>(c + (long long)(row + 8) * n + column) = make_float2(sum[i][j][2], sum[i][j][3]);
        }
}
