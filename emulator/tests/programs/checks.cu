// target: compute_80
// For every check a kernel that breaks the rule when `broken` is set and keeps it otherwise. One source for both, so
// that a test which stays silent has run the same instructions.
extern "C" __global__ void bounds(const float* x, float* y, int n, int broken) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n + broken) y[i < n ? i : 0] = x[i];
}

extern "C" __global__ void misaligned(const float* x, float2* y, int broken) {
    y[threadIdx.x] = *reinterpret_cast<const float2*>(x + 2 * threadIdx.x + broken);
}

extern "C" __global__ void uninitialised_shared(float* y, int broken) {
    __shared__ float s[64];
    if (threadIdx.x < 64 - broken) s[threadIdx.x] = threadIdx.x;
    __syncthreads();
    y[threadIdx.x] = s[63 - threadIdx.x];
}

extern "C" __global__ void shared_race(float* y, int broken) {
    __shared__ float s[64];
    s[threadIdx.x] = threadIdx.x;
    if (!broken) __syncthreads();
    y[threadIdx.x] = s[63 - threadIdx.x];
}

extern "C" __global__ void lane_race(float* y, int broken) {
    __shared__ float s[32];
    s[threadIdx.x] = threadIdx.x;
    if (!broken) __syncwarp();
    y[threadIdx.x] = s[31 - threadIdx.x];
}

extern "C" __global__ void shared_overwrite(float* y, int broken) {
    __shared__ float s[64];
    s[threadIdx.x] = threadIdx.x;
    __syncthreads();
    float v = s[63 - threadIdx.x];
    if (!broken) __syncthreads();
    s[threadIdx.x] = v + 1.0f;
    y[threadIdx.x] = v;
}

// Neighbouring blocks share the words at their borders: halves of one word are no race, equal halves are.
extern "C" __global__ void global_race(unsigned short* y, int broken) {
    int i = blockIdx.x * (33 - broken) + threadIdx.x;
    if (threadIdx.x < 33) y[i] = blockIdx.x;
}

extern "C" __global__ void in_flight(const float4* x, float4* y, int broken) {
    __shared__ float4 s[32];
    unsigned to = (unsigned)__cvta_generic_to_shared(&s[threadIdx.x]);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(x + threadIdx.x));
    asm volatile("cp.async.commit_group;");
    if (!broken) asm volatile("cp.async.wait_group 0;" ::: "memory");
    y[threadIdx.x] = s[threadIdx.x];
}

extern "C" __global__ void divergent_barrier(float* y, int broken) {
    if (threadIdx.x >= 16 || !broken) __syncthreads();
    y[threadIdx.x] = 1.0f;
}

extern "C" __global__ void wrong_mask(int* y, int broken) {
    int v = 0;
    if (threadIdx.x < 16) v = __shfl_xor_sync(broken ? 0xffffffffu : 0xffffu, (int)threadIdx.x, 1);
    y[threadIdx.x] = v;
}

extern "C" __global__ void __launch_bounds__(64) small_block(float* y) { y[threadIdx.x] = 0.0f; }

extern "C" __global__ void holes(float* y, int n, int broken) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n && !(broken && i == 77)) y[i] = 1.0f;
}

extern "C" __global__ void forever(volatile int* flag) {
    while (*flag == 0) {}
}

extern "C" __global__ void asserts(int* y, int broken) {
    if (broken && threadIdx.x == 3) __trap();
    y[threadIdx.x] = 1;
}
