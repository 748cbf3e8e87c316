//! Element types.

/// The element type of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DType {
    /// IEEE single precision.
    F32,
    /// bfloat16: the upper half of a single-precision number.
    Bf16,
    /// IEEE half precision.
    F16,
    /// Labels, flags.
    U8,
    /// Counters, random-number state.
    U32,
}

impl DType {
    /// Whether elements are floating-point numbers: what activations can be made of.
    pub const fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::Bf16 | Self::F16)
    }

    /// Bytes of one element.
    pub const fn bytes(self) -> usize {
        match self {
            Self::F32 | Self::U32 => 4,
            Self::Bf16 | Self::F16 => 2,
            Self::U8 => 1,
        }
    }
}

impl std::fmt::Display for DType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::F32 => "fp32",
            Self::Bf16 => "bf16",
            Self::F16 => "fp16",
            Self::U8 => "u8",
            Self::U32 => "u32",
        })
    }
}
