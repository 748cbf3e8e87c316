// 3x3x3 fp32 convolution with zero padding, one thread per output voxel and four channels: the speed test of scalar code.
struct Shape { int n, d, h, w, c, k; };

extern "C" __global__ void __launch_bounds__(128)
convolution(const float* __restrict__ x,  // [N, D, H, W, C]
            const float* __restrict__ f,  // [3, 3, 3, C, K]
            float* __restrict__ y,        // [N, D, H, W, K]
            Shape s) {
    int voxel = blockIdx.x * 128 + threadIdx.x, k = blockIdx.y * 4;
    if (voxel >= s.n * s.d * s.h * s.w) return;
    int w = voxel % s.w, h = voxel / s.w % s.h, d = voxel / (s.w * s.h) % s.d, n = voxel / (s.w * s.h * s.d);
    float sum[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    for (int t = 0; t < 27; ++t) {
        int z = d + t / 9 - 1, p = h + t / 3 % 3 - 1, q = w + t % 3 - 1;
        if (z < 0 || z >= s.d || p < 0 || p >= s.h || q < 0 || q >= s.w) continue;
        const float* row = x + (((long long)n * s.d + z) * s.h + p) * s.w * s.c + (long long)q * s.c;
        const float* filter = f + (long long)t * s.c * s.k + k;
        for (int c = 0; c < s.c; ++c) {
            float v = row[c];
            float4 g = *reinterpret_cast<const float4*>(filter + (long long)c * s.k);
            sum[0] += v * g.x;
            sum[1] += v * g.y;
            sum[2] += v * g.z;
            sum[3] += v * g.w;
        }
    }
    *reinterpret_cast<float4*>(y + (long long)voxel * s.k + k) = make_float4(sum[0], sum[1], sum[2], sum[3]);
}
