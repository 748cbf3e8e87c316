//! What a tensor is before it has bytes: element type, extents, both together, and where the bytes will be.
//!
//! Activations are N D H W C with the channel innermost ([`Volume`]). Filters are `[D, H, W, in, out]`, the output
//! channel innermost, as in Keras. Everything is dense and row-major: there are no strides.

mod dtype;
mod place;
mod shape;

pub use dtype::DType;
pub use place::{ALIGNMENT, Place, align};
pub use shape::{Shape, Volume};

/// Element type and extents: all that planning needs to know about a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Spec {
    /// Extents, outermost first.
    pub shape: Shape,
    /// Element type.
    pub dtype: DType,
}

impl Spec {
    /// A spec from its parts.
    pub fn new(shape: Shape, dtype: DType) -> Self {
        Self { shape, dtype }
    }

    /// A dense fp32 tensor.
    pub fn f32(shape: Shape) -> Self {
        Self::new(shape, DType::F32)
    }

    /// A vector of `length` fp32 elements.
    pub fn f32_vector(length: usize) -> Self {
        Self::f32(Shape::vector(length))
    }

    /// Bytes that the elements take, without padding.
    pub fn bytes(&self) -> usize {
        self.shape.elements() * self.dtype.bytes()
    }
}

impl std::fmt::Display for Spec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.shape, self.dtype)
    }
}
