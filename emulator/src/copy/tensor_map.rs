//! Tensor maps: the descriptors of the tensor memory accelerator.
//!
//! A driver encodes them in a format that it keeps to itself, so the emulator has its own; what matters is that the
//! host passes 128 bytes that it got from [`TensorMap::encode`] where it would pass a `CUtensorMap`.

use std::fmt;

/// Element types of a tensor map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Element {
    U8,
    U16,
    F16,
    Bf16,
    U32,
    F32,
    U64,
    F64,
}

impl Element {
    const ALL: [Element; 8] = [
        Element::U8,
        Element::U16,
        Element::F16,
        Element::Bf16,
        Element::U32,
        Element::F32,
        Element::U64,
        Element::F64,
    ];

    /// Its size.
    pub fn bytes(self) -> u64 {
        match self {
            Element::U8 => 1,
            Element::U16 | Element::F16 | Element::Bf16 => 2,
            Element::U32 | Element::F32 => 4,
            Element::U64 | Element::F64 => 8,
        }
    }
}

/// How 16-byte chunks are exchanged within a row of shared memory, against bank conflicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Swizzle {
    None,
    Bytes32,
    Bytes64,
    Bytes128,
}

impl Swizzle {
    pub(crate) const ALL: [Swizzle; 4] = [Swizzle::None, Swizzle::Bytes32, Swizzle::Bytes64, Swizzle::Bytes128];

    /// The span within which chunks move.
    pub(crate) fn span(self) -> u64 {
        match self {
            Swizzle::None => 16,
            Swizzle::Bytes32 => 32,
            Swizzle::Bytes64 => 64,
            Swizzle::Bytes128 => 128,
        }
    }

    /// The place of the byte at a shared-memory address: bits 4 to 6 change with bits 7 to 9.
    pub(crate) fn apply(self, address: u64) -> u64 {
        let bits = match self {
            Swizzle::None => 0,
            Swizzle::Bytes32 => 1,
            Swizzle::Bytes64 => 3,
            Swizzle::Bytes128 => 7,
        };
        address ^ (address >> 7 & bits) << 4
    }
}

/// A tensor in global memory and the box that one copy moves. Dimension 0 is the innermost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorMap {
    /// Element type.
    pub element: Element,
    /// Address of the first element, a multiple of 16.
    pub address: u64,
    /// Extents, one to five.
    pub dims: Vec<u64>,
    /// Bytes between neighbours in dimensions 1 and up, multiples of 16; one fewer than `dims`. Zero only where the extent
    /// is one.
    pub strides: Vec<u64>,
    /// Extents of the box, each at most 256.
    pub box_dims: Vec<u32>,
    /// Swizzle of the box in shared memory.
    pub swizzle: Swizzle,
    /// Whether elements outside the tensor become NaN rather than zero.
    pub nan_fill: bool,
}

/// Why a tensor map is not valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorMapError(pub String);

impl fmt::Display for TensorMapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tensor map: {}", self.0)
    }
}

impl std::error::Error for TensorMapError {}

const MAGIC: u64 = 0x504d_5478_7470_0001;

impl TensorMap {
    fn check(&self) -> Result<(), String> {
        let rank = self.dims.len();
        if !(1..=5).contains(&rank) || self.strides.len() + 1 != rank || self.box_dims.len() != rank {
            return Err(format!(
                "rank {rank} with {} strides, {} box extents",
                self.strides.len(),
                self.box_dims.len()
            ));
        }
        // Nobody takes a step along a dimension of extent one.
        let is_step = |(stride, extent): (&u64, &u64)| {
            stride.is_multiple_of(16) && *stride < 1 << 40 && (*stride > 0 || *extent == 1)
        };
        if !self.address.is_multiple_of(16) || !self.strides.iter().zip(&self.dims[1..]).all(is_step) {
            return Err("address and strides must be multiples of 16".into());
        }
        if self.dims.iter().any(|&d| d == 0 || d > 1 << 32) {
            return Err(format!("extents {:?}", self.dims));
        }
        if self.box_dims.iter().any(|&d| d == 0 || d > 256) {
            return Err(format!("box {:?}", self.box_dims));
        }
        let inner = self.box_dims[0] as u64 * self.element.bytes();
        if !inner.is_multiple_of(16) {
            return Err(format!("rows of the box have {inner} bytes, which is not a multiple of 16"));
        }
        if self.swizzle != Swizzle::None && inner > self.swizzle.span() {
            return Err(format!("rows of the box have {inner} bytes, the swizzle spans {}", self.swizzle.span()));
        }
        Ok(())
    }

    /// The 128 bytes to pass to a kernel.
    ///
    /// # Errors
    ///
    /// What the driver would refuse: misaligned addresses or strides, extents out of range, too wide a box.
    pub fn encode(&self) -> Result<[u8; 128], TensorMapError> {
        self.check().map_err(TensorMapError)?;
        let mut words = [0u64; 16];
        words[0] = MAGIC;
        words[1] = self.address;
        words[2] = self.dims.len() as u64
            | (self.element as u64) << 8
            | (self.swizzle as u64) << 16
            | (self.nan_fill as u64) << 24;
        for (i, &dim) in self.dims.iter().enumerate() {
            words[3 + i] = dim;
        }
        for (i, &stride) in self.strides.iter().enumerate() {
            words[8 + i] = stride;
        }
        for (i, &extent) in self.box_dims.iter().enumerate() {
            words[12 + i / 4] |= (extent as u64 - 1) << (16 * (i % 4));
        }
        let mut bytes = [0; 128];
        for (chunk, word) in bytes.chunks_mut(8).zip(words) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        Ok(bytes)
    }

    /// The map in these bytes, if there is one.
    pub(crate) fn decode(bytes: &[u8; 128]) -> Option<TensorMap> {
        let word = |i: usize| u64::from_le_bytes(std::array::from_fn(|j| bytes[8 * i + j]));
        if word(0) != MAGIC {
            return None;
        }
        let rank = (word(2) & 0xff) as usize;
        let map = TensorMap {
            element: *Element::ALL.get((word(2) >> 8 & 0xff) as usize)?,
            address: word(1),
            dims: (0..rank.min(5)).map(|i| word(3 + i)).collect(),
            strides: (0..rank.min(5).saturating_sub(1)).map(|i| word(8 + i)).collect(),
            box_dims: (0..rank.min(5)).map(|i| (word(12 + i / 4) >> (16 * (i % 4)) & 0xffff) as u32 + 1).collect(),
            swizzle: *Swizzle::ALL.get((word(2) >> 16 & 0xff) as usize)?,
            nan_fill: word(2) >> 24 & 1 != 0,
        };
        map.check().is_ok().then_some(map)
    }
}
