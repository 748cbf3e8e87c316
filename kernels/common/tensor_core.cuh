// Tensor cores and the copies that feed them, for 16-bit elements with fp32 sums.
//
// A matrix of 8 x 8 elements is eight 16-byte rows in shared memory. `ldmatrix` hands lane l elements 2 (l % 4) and
// 2 (l % 4) + 1 of row l / 4; transposed, the same of column l / 4. compute_75 multiplies 16 x 8 by 8 x 8 (fp16 alone) and
// copies through registers; compute_80 multiplies 16 x 16 by 16 x 8 and copies past them (cp.async).
#pragma once

#include "element.cuh"

__device__ __forceinline__ unsigned shared_address(const void* p) {
    return static_cast<unsigned>(__cvta_generic_to_shared(p));
}

enum class Order { ROWS, COLUMNS };  // which of a matrix's elements a lane gets: of a row, or (transposed) of a column

// COUNT matrices; lanes 8 i .. 8 i + 7 name the rows of matrix i.
template <int COUNT, Order ORDER>
__device__ __forceinline__ void load_matrices(unsigned (&to)[COUNT], unsigned row) {
    static_assert(COUNT == 1 || COUNT == 2 || COUNT == 4, "what ldmatrix can");
    if constexpr (COUNT == 4 && ORDER == Order::ROWS)
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3]) : "r"(row) : "memory");
    if constexpr (COUNT == 4 && ORDER == Order::COLUMNS)
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3]) : "r"(row) : "memory");
    if constexpr (COUNT == 2 && ORDER == Order::ROWS)
        asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
                     : "=r"(to[0]), "=r"(to[1]) : "r"(row) : "memory");
    if constexpr (COUNT == 2 && ORDER == Order::COLUMNS)
        asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
                     : "=r"(to[0]), "=r"(to[1]) : "r"(row) : "memory");
    if constexpr (COUNT == 1 && ORDER == Order::ROWS)
        asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];" : "=r"(to[0]) : "r"(row) : "memory");
    if constexpr (COUNT == 1 && ORDER == Order::COLUMNS)
        asm volatile("ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%0}, [%1];" : "=r"(to[0]) : "r"(row) : "memory");
}

// sums [16 x 8] += a [16 x 8] b [8 x 8]. a0 holds rows 0-7 of a, a1 rows 8-15.
template <typename T>
__device__ __forceinline__ void multiply8(float (&sums)[4], unsigned a0, unsigned a1, unsigned b0);
template <>
__device__ __forceinline__ void multiply8<fp16>(float (&sums)[4], unsigned a0, unsigned a1, unsigned b0) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3]) : "r"(a0), "r"(a1), "r"(b0));
}
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
template <>
__device__ __forceinline__ void multiply8<bf16>(float (&sums)[4], unsigned a0, unsigned a1, unsigned b0) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3]) : "r"(a0), "r"(a1), "r"(b0));
}
#endif

// sums [16 x 8] += a [16 x 16] b [16 x 8]: a0, a1, b0 are the first half of the summed axis, a2, a3, b1 the second.
template <typename T>
__device__ __forceinline__ void multiply16(float (&sums)[4], unsigned a0, unsigned a1, unsigned a2, unsigned a3,
                                           unsigned b0, unsigned b1) {
    multiply8<T>(sums, a0, a1, b0);
    multiply8<T>(sums, a2, a3, b1);
}
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
template <>
__device__ __forceinline__ void multiply16<fp16>(float (&sums)[4], unsigned a0, unsigned a1, unsigned a2, unsigned a3,
                                                 unsigned b0, unsigned b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
template <>
__device__ __forceinline__ void multiply16<bf16>(float (&sums)[4], unsigned a0, unsigned a1, unsigned a2, unsigned a3,
                                                 unsigned b0, unsigned b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
#endif

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
constexpr bool COPIES_ARE_ASYNCHRONOUS = false;
#else
constexpr bool COPIES_ARE_ASYNCHRONOUS = true;
#endif

// Bytes of shared memory of a multiprocessor, for all its CTAs: of the generation with the least of those that run this code.
// What is compiled for 8.0 runs on 8.6, 8.9 and 12.0 as well, which have 100 KB where 8.0 has 164.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
constexpr int SHARED_BYTES = 64 << 10;
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ == 900
constexpr int SHARED_BYTES = 228 << 10;
#else
constexpr int SHARED_BYTES = 100 << 10;
#endif

// CTAs that a multiprocessor is told to hold: as many as are wanted, or as shared memory holds; the system takes 1 KB for each
// beside its `bytes`. To promise more would give ptxas fewer registers for nothing. tests/compiled_kernels.rs looks after it.
constexpr int resident_ctas(int wanted, int bytes) {
    const int most = SHARED_BYTES / (bytes + 1024);
    return wanted < most ? wanted : most;
}

// Sixteen bytes from global to shared memory, or zeros. `from` must be an address of the tensor in either case.
__device__ __forceinline__ void copy_row(uint4* to, const void* from, bool exists) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
    *to = exists ? *static_cast<const uint4*>(from) : make_uint4(0, 0, 0, 0);
#else
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(exists ? 16 : 0)
                 : "memory");
#endif
}

// Ends a group of copies.
__device__ __forceinline__ void commit_copies() {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Waits until at most PENDING groups of this thread's copies are under way.
template <int PENDING>
__device__ __forceinline__ void wait_copies() {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
#endif
}
