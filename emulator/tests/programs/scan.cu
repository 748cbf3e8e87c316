// Inclusive prefix sum within each block of 128 elements: shuffles within warps, one warp scans the warp totals.
extern "C" __global__ void __launch_bounds__(128) scan(const int* x, int* y, int n) {
    __shared__ int totals[4];
    int i = blockIdx.x * 128 + threadIdx.x, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    int v = i < n ? x[i] : 0;
    for (int step = 1; step < 32; step *= 2) {
        int other = __shfl_up_sync(0xffffffffu, v, step);
        if (lane >= step) v += other;
    }
    if (lane == 31) totals[warp] = v;
    __syncthreads();
    if (warp == 0) {
        int t = lane < 4 ? totals[lane] : 0;
        for (int step = 1; step < 4; step *= 2) {
            int other = __shfl_up_sync(0xffffffffu, t, step);
            if (lane >= step) t += other;
        }
        if (lane < 4) totals[lane] = t;
    }
    __syncthreads();
    if (warp > 0) v += totals[warp - 1];
    if (i < n) y[i] = v;
}
