// Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): four random words as a pure
// function of key and counter, the same bits as on the host.
#pragma once

__device__ __forceinline__ uint4 philox(uint2 key, uint4 counter) {
#pragma unroll
    for (int round = 0; round < 10; ++round) {
        const unsigned first_high = __umulhi(0xD2511F53u, counter.x), first_low = 0xD2511F53u * counter.x;
        const unsigned second_high = __umulhi(0xCD9E8D57u, counter.z), second_low = 0xCD9E8D57u * counter.z;
        counter = make_uint4(second_high ^ counter.y ^ key.x, second_low, first_high ^ counter.w ^ key.y, first_low);
        key.x += 0x9E3779B9u;
        key.y += 0xBB67AE85u;
    }
    return counter;
}

// A word as a number in [0, 1) with 24 bits: every value is exact in fp32.
__device__ __forceinline__ float unit(unsigned word) { return static_cast<float>(word >> 8) * (1.0f / 16777216.0f); }
