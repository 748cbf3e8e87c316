// Transposed 3-D convolution in fp16 on tensor cores; the story stands in common/conv_transpose3d_tensor.cuh.
//
// Targets: compute_75, compute_80

#include "common/conv_transpose3d_tensor.cuh"

CONV_TRANSPOSE3D_TENSOR(fp16)
