//! Kernels that come in one version for each element type of activations.

use crate::{
    machine::{Arguments, Kernel, KernelAbi, lower::Operand},
    tensor::DType,
};

/// Compute capability, times ten, of the first GPUs with bf16.
pub(super) const BF16_COMPUTE: u32 = 80;

/// A kernel for each element type.
#[derive(Debug)]
pub(super) struct ByType<A> {
    pub(super) fp32: Kernel<A>,
    pub(super) bf16: Kernel<A>,
    pub(super) fp16: Kernel<A>,
}

/// The kernels NAME, NAME_bf16 and NAME_fp16 of a family.
macro_rules! by_type {
    ($family:expr, $name:literal, $threads:expr) => {
        $crate::ops::by_type::ByType {
            fp32: $crate::machine::Kernel::new($family, $name, $threads),
            bf16: $crate::machine::Kernel::new($family, concat!($name, "_bf16"), $threads)
                .since($crate::ops::by_type::BF16_COMPUTE),
            fp16: $crate::machine::Kernel::new($family, concat!($name, "_fp16"), $threads),
        }
    };
}
pub(super) use by_type;

impl<A: Arguments> ByType<A> {
    /// The kernel for an operand's type.
    pub(super) fn of(&self, operand: Operand) -> &Kernel<A> {
        match operand.spec.dtype {
            DType::F32 => &self.fp32,
            DType::Bf16 => &self.bf16,
            DType::F16 => &self.fp16,
            DType::U8 | DType::U32 => unreachable!("activations of integers are refused when they are recorded"),
        }
    }

    /// What the compiled kernels must agree with.
    pub(super) fn abi(&self) -> [KernelAbi; 3] {
        [self.fp32.abi(), self.bf16.abi(), self.fp16.abi()]
    }
}

/// Elements of one request of sixteen bytes.
pub(super) fn run(operand: Operand) -> usize {
    16 / operand.spec.dtype.bytes()
}

/// Threads' worth of work on a tensor whose voxels have so many channels: runs of sixteen bytes where they divide the
/// channels, else elements.
pub(super) fn runs(operand: Operand, channels: usize) -> usize {
    let elements = operand.spec.shape.elements();
    if channels.is_multiple_of(run(operand)) { elements / run(operand) } else { elements }
}
