// What compute_90a alone can: matrix products of four warps together (wgmma), one operand of which comes out of shared memory
// without passing registers, and copies of whole arrays into shared memory that one thread starts (cp.async.bulk) and a barrier
// in shared memory counts (mbarrier).
//
// Products run behind the program's back: their registers must not be touched before `wait_products`. Both read and copied
// bytes go through the asynchronous proxy, so nothing between them needs a fence.
#pragma once

#include "tensor_core.cuh"

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
constexpr bool HAS_WARPGROUP_PRODUCTS = true;

// A matrix B [N, 16] in shared memory whose rows of eight elements along K are sixteen bytes, eight rows side by side: the
// blocks of 8 x 8 that follow along N are 128 bytes apart, the second half of K `half_bytes`. No swizzle.
__device__ __forceinline__ unsigned long long matrix_descriptor(unsigned address, unsigned half_bytes) {
    return (address & 0x3ffff) >> 4 | static_cast<unsigned long long>(half_bytes >> 4) << 16 | 128ull >> 4 << 32;
}

__device__ __forceinline__ void begin_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void commit_products() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

// Waits until at most PENDING groups of products are under way.
template <int PENDING>
__device__ __forceinline__ void wait_products() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}

#define SUMS_4(I) "+f"(d[I][0]), "+f"(d[I][1]), "+f"(d[I][2]), "+f"(d[I][3])
#define SUMS_16(I) SUMS_4(I), SUMS_4(I + 1), SUMS_4(I + 2), SUMS_4(I + 3)
#define PRODUCT(SHAPE, TYPES, SUMS, A, B, ...)                                                                            \
    asm volatile("{\n.reg .pred p;\nsetp.eq.u32 p, 0, 0;\nwgmma.mma_async.sync.aligned." SHAPE ".f32." TYPES " {" SUMS "}, {" A \
                 "}, " B ", p, 1, 1, 0;\n}"                                                                               \
                 : __VA_ARGS__                                                                                            \
                 : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "l"(b))
#define WARPGROUP_PRODUCT(TYPE, TYPES)                                                                                         \
    template <int BLOCKS>                                                                                                      \
    __device__ __forceinline__ void multiply_group(float (&d)[BLOCKS][4], unsigned a0, unsigned a1, unsigned a2, unsigned a3,  \
                                                   unsigned long long b, TYPE) {                                               \
        static_assert(BLOCKS == 1 || BLOCKS == 2 || BLOCKS == 4 || BLOCKS == 8, "widths that there are instructions for");     \
        if constexpr (BLOCKS == 1)                                                                                             \
            PRODUCT("m64n8k16", TYPES, "%0, %1, %2, %3", "%4, %5, %6, %7", "%8", SUMS_4(0));                                   \
        if constexpr (BLOCKS == 2)                                                                                             \
            PRODUCT("m64n16k16", TYPES, "%0, %1, %2, %3, %4, %5, %6, %7", "%8, %9, %10, %11", "%12", SUMS_4(0), SUMS_4(1));    \
        if constexpr (BLOCKS == 4)                                                                                             \
            PRODUCT("m64n32k16", TYPES, "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15",                \
                    "%16, %17, %18, %19", "%20", SUMS_16(0));                                                                  \
        if constexpr (BLOCKS == 8)                                                                                             \
            PRODUCT("m64n64k16", TYPES,                                                                                        \
                    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                                   \
                    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31",                          \
                    "%32, %33, %34, %35", "%36", SUMS_16(0), SUMS_16(4));                                                      \
    }
// d [64 x 8 BLOCKS] += a [64 x 16] b: of the rows a warp holds sixteen, laid out as for multiply16.
struct Bf16Products {};
struct Fp16Products {};
WARPGROUP_PRODUCT(Bf16Products, "bf16.bf16")
WARPGROUP_PRODUCT(Fp16Products, "f16.f16")
template <typename T>
struct ProductsOf;
template <>
struct ProductsOf<bf16> {
    using Tag = Bf16Products;
};
template <>
struct ProductsOf<fp16> {
    using Tag = Fp16Products;
};

using Barrier = unsigned long long;

// By one thread, before a __syncthreads: barriers that expect one array a phase.
template <int COUNT>
__device__ __forceinline__ void start_barriers(Barrier (&barriers)[COUNT]) {
#pragma unroll
    for (Barrier& barrier : barriers) asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(shared_address(&barrier)) : "memory");
    asm volatile("fence.mbarrier_init.release.cluster;\nfence.proxy.async.shared::cta;" ::: "memory");
}

// By one thread: copies a multiple of sixteen bytes; the barrier's phase ends when they have landed.
__device__ __forceinline__ void copy_array(void* to, const void* from, unsigned bytes, Barrier& barrier) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(&barrier)), "r"(bytes) : "memory");
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(shared_address(to)),
                 "l"(from), "r"(bytes), "r"(shared_address(&barrier))
                 : "memory");
}

// Waits for the end of a phase; phases have alternating parities, the first has 0.
__device__ __forceinline__ void wait_barrier(Barrier& barrier, unsigned parity) {
    asm volatile("{\n.reg .pred done;\nagain:\nmbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n@!done bra again;\n}" ::"r"(
                     shared_address(&barrier)),
                 "r"(parity)
                 : "memory");
}
#else
constexpr bool HAS_WARPGROUP_PRODUCTS = false;
#endif
