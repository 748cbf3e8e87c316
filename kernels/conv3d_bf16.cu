// 3-D convolution in bf16 on tensor cores; the story stands in common/conv3d_tensor.cuh.
//
// bf16: the range of fp32 with 8 bits, so losses need no scaling. No multiplication of it before compute capability 8.0.
//
// Targets: compute_80, compute_90a

#include "common/conv3d_tensor.cuh"

CONV3D_TENSOR(bf16)
