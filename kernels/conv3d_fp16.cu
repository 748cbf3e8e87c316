// 3-D convolution in fp16 on tensor cores; the story stands in common/conv3d_tensor.cuh.
//
// fp16: for GPUs before compute capability 8.0, which have no bf16. Losses are scaled to keep small gradients in range.
//
// Targets: compute_75, compute_80, compute_90a

#include "common/conv3d_tensor.cuh"

CONV3D_TENSOR(fp16)
