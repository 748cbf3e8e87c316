// target: compute_80
// Functions that nvcc does not inline, and what the system provides.
#include <cassert>
#include <cstdio>

__device__ __noinline__ float square_plus(float a, float b) { return a * a + b; }

__device__ __noinline__ float twice(float a, float b) {
    if (a < 0.0f) return b;
    return square_plus(a, b) + square_plus(b, a);
}

extern "C" __global__ void nested(float* x) {
    int i = threadIdx.x;
    float a = x[i];
    if (i % 3 == 0) a = twice(a, 1.0f);
    x[i] = square_plus(a, 0.5f);
}

__device__ float add_one(float a) { return a + 1.0f; }
__device__ float negate(float a) { return -a; }
__device__ float halve(float a) { return 0.5f * a; }

__device__ float (*const table[3])(float) = {add_one, negate, halve};

extern "C" __global__ void by_pointer(float* x, const int* which) {
    int i = threadIdx.x;
    x[i] = table[which[i]](x[i]);
}

__device__ __noinline__ int rotate(int value) {
    __shared__ int room[64];
    room[threadIdx.x] = value;
    __syncthreads();
    int found = room[(threadIdx.x + 1) % 64];
    __syncthreads();
    return found;
}

extern "C" __global__ void shared_within(int* x) { x[threadIdx.x] = rotate(rotate(x[threadIdx.x])); }

extern "C" __global__ void doubles(double* x) {
    int i = threadIdx.x;
    x[i] = sin(x[i]) + pow(fabs(x[i]), 2.5);
}

__device__ int fibonacci(int n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); }

extern "C" __global__ void recursive(int* x) { x[threadIdx.x] = fibonacci(x[threadIdx.x]); }

extern "C" __global__ void prints(const float* x, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) printf("%d of %s: %5.2f, %lld, 100%%\n", i, n > 1 ? "many" : "one", x[i], -5000000000ll * i);
}

extern "C" __global__ void asserts_below(int* x, int n) {
    int i = threadIdx.x;
    assert(i < n);
    x[i] = i;
}
