// What this GPU can do at the most: the yardsticks that kernels are read against. Nothing is computed that anybody wants.
//
//   roofline_fma    fp32 multiply-adds, eight independent chains per thread
//   roofline_mma    16-bit matrix products with fp32 sums on the tensor cores: mma.sync, or wgmma where there is that
//
// Operands stay in registers (wgmma: in shared memory) and are not zero, for zeros cost less power than real work. A round is
// 2^23 floating-point operations of a CTA in every variant. The sums are written so that the compiler keeps them.
//
// Targets: compute_75, compute_80, compute_90a

#include <cuda_fp16.h>

#include "common/common.cuh"

struct RooflineArguments {
    float* sums;  // [CTAs, 256]
    int rounds;
    int unused;
};

constexpr int THREADS = 256;
constexpr int ROUND = 1 << 23;  // floating-point operations
constexpr int CHAINS = 8;  // more than an instruction takes cycles on any generation, with eight warps per scheduler

extern "C" __global__ void __launch_bounds__(THREADS) roofline_fma(const __grid_constant__ RooflineArguments g) {
    float d[CHAINS];
    const float a = 1.0f - 1e-3f * static_cast<float>(threadIdx.x), b = 1e-3f;
    for (int i = 0; i < CHAINS; ++i) d[i] = static_cast<float>(i);
    constexpr int STEPS = ROUND / (2 * THREADS * CHAINS);
    for (int round = 0; round < g.rounds; ++round) {
#pragma unroll 16
        for (int step = 0; step < STEPS; ++step) {
#pragma unroll
            for (int i = 0; i < CHAINS; ++i) d[i] = fmaf(d[i], a, b);
        }
    }
    float sum = 0.0f;
    for (int i = 0; i < CHAINS; ++i) sum += d[i];
    g.sums[first_index()] = sum;
}

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

// K-major without swizzle: eight rows of 16 bytes are one block of 128 bytes; the two blocks along K are neighbours, the next
// eight rows follow 256 bytes later.
__device__ __forceinline__ unsigned long long descriptor(const void* matrix) {
    const unsigned long long address = __cvta_generic_to_shared(matrix);
    return (address & 0x3ffff) >> 4 | 128ull >> 4 << 16 | 256ull >> 4 << 32;
}

// Two warpgroups, each with 64 x 256 sums in registers; eight products of K = 16 each are a round.
extern "C" __global__ void __launch_bounds__(THREADS) roofline_mma(const __grid_constant__ RooflineArguments g) {
    __shared__ __align__(128) __half a[64 * 16];
    __shared__ __align__(128) __half b[256 * 16];
    for (int i = threadIdx.x; i < 64 * 16; i += THREADS) a[i] = __float2half((i % 7 - 3) * 0.125f);
    for (int i = threadIdx.x; i < 256 * 16; i += THREADS) b[i] = __float2half((i % 5 - 2) * 0.25f);
    // Products read shared memory through another path, which must see what was just written.
    asm volatile("fence.proxy.async;" ::: "memory");
    __syncthreads();
    const unsigned long long da = descriptor(a), db = descriptor(b);
    float d[128];
#pragma unroll
    for (int i = 0; i < 128; ++i) d[i] = 0.0f;
    for (int round = 0; round < g.rounds; ++round) {
        asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#pragma unroll
        for (int step = 0; step < ROUND / (2 * 2 * 64 * 256 * 16); ++step) {
            asm volatile(
                "{\n.reg .pred p;\nsetp.ne.b32 p, %130, 0;\n"
                "wgmma.mma_async.sync.aligned.m64n256k16.f32.f16.f16 {"
                "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
                "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
                "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
                "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "
                "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "
                "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "
                "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, "
                "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127}, "
                "%128, %129, p, 1, 1, 0, 0;\n}"
                : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]),
                      "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]),
                      "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]),
                      "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]),
                      "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]),
                      "+f"(d[40]), "+f"(d[41]), "+f"(d[42]), "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]),
                      "+f"(d[48]), "+f"(d[49]), "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]),
                      "+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63]),
                      "+f"(d[64]), "+f"(d[65]), "+f"(d[66]), "+f"(d[67]), "+f"(d[68]), "+f"(d[69]), "+f"(d[70]), "+f"(d[71]),
                      "+f"(d[72]), "+f"(d[73]), "+f"(d[74]), "+f"(d[75]), "+f"(d[76]), "+f"(d[77]), "+f"(d[78]), "+f"(d[79]),
                      "+f"(d[80]), "+f"(d[81]), "+f"(d[82]), "+f"(d[83]), "+f"(d[84]), "+f"(d[85]), "+f"(d[86]), "+f"(d[87]),
                      "+f"(d[88]), "+f"(d[89]), "+f"(d[90]), "+f"(d[91]), "+f"(d[92]), "+f"(d[93]), "+f"(d[94]), "+f"(d[95]),
                      "+f"(d[96]), "+f"(d[97]), "+f"(d[98]), "+f"(d[99]), "+f"(d[100]), "+f"(d[101]), "+f"(d[102]), "+f"(d[103]),
                      "+f"(d[104]), "+f"(d[105]), "+f"(d[106]), "+f"(d[107]), "+f"(d[108]), "+f"(d[109]), "+f"(d[110]), "+f"(d[111]),
                      "+f"(d[112]), "+f"(d[113]), "+f"(d[114]), "+f"(d[115]), "+f"(d[116]), "+f"(d[117]), "+f"(d[118]), "+f"(d[119]),
                      "+f"(d[120]), "+f"(d[121]), "+f"(d[122]), "+f"(d[123]), "+f"(d[124]), "+f"(d[125]), "+f"(d[126]), "+f"(d[127])
                : "l"(da), "l"(db), "r"(1));
        }
        asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
        asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
    }
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < 128; ++i) sum += d[i];
    g.sums[first_index()] = sum;
}

#else

// D += A B for 16 x 8 x 16; generations before 8.0 have K = 8 and take two.
__device__ __forceinline__ void multiply(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
#if __CUDA_ARCH__ >= 800
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
#pragma unroll
    for (int k = 0; k < 2; ++k) {
        asm volatile(
            "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
            : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
            : "r"(a[2 * k]), "r"(a[2 * k + 1]), "r"(b[k]));
    }
#endif
}

// Eight warps, each with eight independent tiles of sums.
extern "C" __global__ void __launch_bounds__(THREADS) roofline_mma(const __grid_constant__ RooflineArguments g) {
    constexpr int STEPS = ROUND / (THREADS / WARP * CHAINS * 2 * 16 * 8 * 16);
    float d[CHAINS][4] = {};
    // Pairs of 16-bit numbers between 2^-4 and 2^-2, of either sign.
    unsigned a[4], b[2];
#pragma unroll
    for (unsigned i = 0; i < 4; ++i) a[i] = 0x2c00b000u + (threadIdx.x * 4 + i) * 0x00070003u % 0x04000000u;
#pragma unroll
    for (unsigned i = 0; i < 2; ++i) b[i] = 0xb0002c00u + (threadIdx.x * 2 + i) * 0x00050001u % 0x04000000u;
    for (int round = 0; round < g.rounds; ++round) {
#pragma unroll 4
        for (int step = 0; step < STEPS; ++step) {
#pragma unroll
            for (int i = 0; i < CHAINS; ++i) multiply(d[i], a, b);
        }
    }
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < CHAINS; ++i) sum += d[i][0] + d[i][1] + d[i][2] + d[i][3];
    g.sums[first_index()] = sum;
}

#endif
