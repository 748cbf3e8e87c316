// Sums of rows: one warp per row, lanes meet by shuffles.
extern "C" __global__ void row_sums(const float* __restrict__ matrix, float* __restrict__ sums, int rows, int columns) {
    int row = (blockIdx.x * blockDim.x + threadIdx.x) / 32, lane = threadIdx.x % 32;
    if (row >= rows) return;
    float sum = 0;
    for (int column = lane; column < columns; column += 32) sum += matrix[row * columns + column];
    for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
    if (lane == 0) sums[row] = sum;
}
