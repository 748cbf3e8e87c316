// Sums an array: warp shuffles, then shared memory, then the last block adds the partial sums of all blocks.
__device__ unsigned int blocks_done = 0;

extern "C" __global__ void __launch_bounds__(256) sum(const float* x, int n, float* partial, float* total) {
    __shared__ float warp_sum[8];
    __shared__ bool last;
    float s = 0.0f;
    for (int i = blockIdx.x * 256 + threadIdx.x; i < n; i += gridDim.x * 256) s += x[i];
    for (int step = 16; step > 0; step /= 2) s += __shfl_down_sync(0xffffffffu, s, step);
    if (threadIdx.x % 32 == 0) warp_sum[threadIdx.x / 32] = s;
    __syncthreads();
    if (threadIdx.x == 0) {
        s = 0.0f;
        for (int w = 0; w < 8; ++w) s += warp_sum[w];
        partial[blockIdx.x] = s;
        __threadfence();
        last = atomicAdd(&blocks_done, 1u) == gridDim.x - 1;
    }
    __syncthreads();
    if (last && threadIdx.x == 0) {
        __threadfence();
        s = 0.0f;
        for (int b = 0; b < gridDim.x; ++b) s += partial[b];
        *total = s;
        blocks_done = 0;
    }
}
