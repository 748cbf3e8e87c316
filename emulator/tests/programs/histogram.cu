// Histogram of bytes: counts per block in shared memory with atomics, then added to global memory with atomics.
extern "C" __global__ void histogram(const unsigned char* x, int n, unsigned int* counts) {
    __shared__ unsigned int mine[256];
    for (int b = threadIdx.x; b < 256; b += blockDim.x) mine[b] = 0;
    __syncthreads();
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) atomicAdd(&mine[x[i]], 1u);
    __syncthreads();
    for (int b = threadIdx.x; b < 256; b += blockDim.x)
        if (mine[b] != 0) atomicAdd(&counts[b], mine[b]);
}
