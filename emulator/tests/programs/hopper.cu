// target: compute_90a
// Tensor copies and warpgroup products: C = A B^T for 64x64 tiles of bf16, and a box copied through shared memory.
#include <cuda_bf16.h>
#include <cstdint>

struct __align__(64) Map { unsigned char bytes[128]; };  // stands for CUtensorMap

__device__ inline uint32_t shared_address(const void* p) { return (uint32_t)__cvta_generic_to_shared(p); }

__device__ inline void load_box(void* to, const Map* map, int x, int y, uint64_t* barrier) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" ::"r"(
                     shared_address(to)), "l"(map), "r"(x), "r"(y), "r"(shared_address(barrier)) : "memory");
}

__device__ inline void expect(uint64_t* barrier, uint32_t bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes) : "memory");
}

__device__ inline void wait(uint64_t* barrier, uint32_t parity) {
    asm volatile("{\n.reg .pred done;\nagain:\nmbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n@!done bra again;\n}" ::"r"(
                     shared_address(barrier)), "r"(parity) : "memory");
}

// K-major with 128-byte swizzle: eight rows of 128 bytes make a block of 1024.
__device__ inline uint64_t descriptor(const void* p) {
    return (uint64_t)(shared_address(p) & 0x3ffff) >> 4 | (uint64_t)1 << 16 | (uint64_t)(1024 >> 4) << 32 | (uint64_t)1 << 62;
}

extern "C" __global__ void __launch_bounds__(128)
matmul(const __grid_constant__ Map a_map,  // [M, K], box 64x64
       const __grid_constant__ Map b_map,  // [N, K], box 64x64
       float* c, int n, int k, int broken) {
    __shared__ __align__(1024) __nv_bfloat16 a[64 * 64];
    __shared__ __align__(1024) __nv_bfloat16 b[64 * 64];
    __shared__ __align__(8) uint64_t full;
    int thread = threadIdx.x;
    if (thread == 0) {
        asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(shared_address(&full)) : "memory");
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    __syncthreads();
    float d[32];
    for (int i = 0; i < 32; ++i) d[i] = 0.0f;
    for (int k0 = 0; k0 < k; k0 += 64) {
        if (thread == 0) {
            expect(&full, 2 * sizeof(a));
            load_box(a, &a_map, k0, blockIdx.y * 64, &full);
            load_box(b, &b_map, k0, blockIdx.x * 64, &full);
        }
        if (!broken) wait(&full, k0 / 64 % 2);
        asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
        for (int kk = 0; kk < 4; ++kk) {
            uint64_t da = descriptor(a + kk * 16), db = descriptor(b + kk * 16);
            asm volatile(
                "{\n.reg .pred p;\nsetp.ne.b32 p, %34, 0;\n"
                "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
                "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31}, "
                "%32, %33, p, 1, 1, 0, 0;\n}"
                : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), "+f"(d[8]),
                  "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), "+f"(d[16]),
                  "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]),
                  "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31])
                : "l"(da), "l"(db), "r"(1));
        }
        asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
        asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
        __syncthreads();
    }
    int lane = thread % 32, row0 = blockIdx.y * 64 + thread / 32 * 16 + lane / 4;
    for (int i = 0; i < 32; ++i) {
        int row = row0 + i / 2 % 2 * 8, column = blockIdx.x * 64 + i / 4 * 8 + lane % 4 * 2 + i % 2;
        c[(long long)row * n + column] = d[i];
    }
}

// Moves a 16x8 box of floats; what lies outside the source becomes zero, what lies outside the target is dropped.
extern "C" __global__ void __launch_bounds__(32)
move(const __grid_constant__ Map from, const __grid_constant__ Map to, int x, int y, int u, int v) {
    __shared__ __align__(128) float box[8 * 16];
    __shared__ __align__(8) uint64_t full;
    if (threadIdx.x == 0) {
        asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(shared_address(&full)) : "memory");
        expect(&full, sizeof(box));
        load_box(box, &from, x, y, &full);
        wait(&full, 0);
        asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%1, %2}], [%3];" ::"l"(&to), "r"(u), "r"(v),
                     "r"(shared_address(box)) : "memory");
        asm volatile("cp.async.bulk.commit_group;");
        asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
    }
}
