//! A launch as data: kernel, geometry, argument bytes, and the memory that it may touch.

use std::{marker::PhantomData, sync::Arc};

/// A field of an argument struct, as the kernel must declare it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name, the same on both sides.
    pub name: &'static str,
    /// Bytes before it.
    pub offset: usize,
    /// Its bytes.
    pub bytes: usize,
}

/// The one argument of a kernel, passed by value.
pub trait Arguments: bytemuck::NoUninit {
    /// The struct's name, the same on both sides.
    const NAME: &'static str;
    /// Its fields in order.
    const FIELDS: &'static [Field];
}

/// Declares an argument struct. Its CUDA twin has the same name, fields and order; a test compares them.
macro_rules! arguments {
    ($(#[$meta:meta])* $visibility:vis $name:ident { $($field:ident: $type:ty),* $(,)? }) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, bytemuck::NoUninit)]
        $visibility struct $name { $($visibility $field: $type),* }

        impl $crate::machine::Arguments for $name {
            const NAME: &'static str = stringify!($name);
            const FIELDS: &'static [$crate::machine::Field] = &[$($crate::machine::Field {
                name: stringify!($field),
                offset: std::mem::offset_of!($name, $field),
                bytes: size_of::<$type>(),
            }),*];
        }
    };
}
pub(crate) use arguments;

/// A compiled kernel that takes `A`.
#[derive(Debug)]
pub struct Kernel<A> {
    family: &'static str,
    name: &'static str,
    threads: u32,
    compute: u32,
    arguments: PhantomData<fn(A)>,
}

impl<A> Clone for Kernel<A> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<A> Copy for Kernel<A> {}

/// What the compiled kernel must agree with.
#[derive(Clone, Copy, Debug)]
pub struct KernelAbi {
    /// The `.cu` file without extension.
    pub family: &'static str,
    /// The entry.
    pub name: &'static str,
    /// Threads of a CTA.
    pub threads: u32,
    /// The least compute capability, times ten, that has it.
    pub compute: u32,
    /// Name of the argument struct.
    pub arguments: &'static str,
    /// Bytes of the argument struct.
    pub bytes: usize,
    /// Its fields.
    pub fields: &'static [Field],
}

impl<A: Arguments> Kernel<A> {
    /// The entry `name` of `kernels/<family>.cu`, with this many threads in a CTA.
    pub const fn new(family: &'static str, name: &'static str, threads: u32) -> Self {
        Self { family, name, threads, compute: super::OLDEST, arguments: PhantomData }
    }

    /// The same for devices of this compute capability (times ten) and newer ones alone.
    pub const fn since(self, compute: u32) -> Self {
        Self { compute, ..self }
    }

    /// The least compute capability, times ten, that has it.
    pub const fn compute(&self) -> u32 {
        self.compute
    }

    /// The `.cu` file without extension.
    pub const fn family(&self) -> &'static str {
        self.family
    }

    /// The entry.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Threads of a CTA.
    pub const fn threads(&self) -> u32 {
        self.threads
    }

    /// What the compiled kernel must agree with.
    pub const fn abi(&self) -> KernelAbi {
        KernelAbi {
            family: self.family,
            name: self.name,
            threads: self.threads,
            compute: self.compute,
            arguments: A::NAME,
            bytes: size_of::<A>(),
            fields: A::FIELDS,
        }
    }
}

/// A range of device memory that a launch may touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// First address.
    pub address: u64,
    /// Number of bytes.
    pub bytes: u64,
    /// Whether it may be written; reading is always allowed.
    pub is_written: bool,
}

/// One start of a kernel.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The `.cu` file without extension.
    pub family: &'static str,
    /// The entry.
    pub kernel: &'static str,
    /// The least compute capability, times ten, that has it.
    pub compute: u32,
    /// CTAs in x, y, z.
    pub grid: [u32; 3],
    /// Threads of a CTA.
    pub block: [u32; 3],
    /// Bytes of dynamic shared memory.
    pub shared: u32,
    /// The argument struct.
    pub arguments: Vec<u8>,
    /// Everything that it may touch. Real GPUs do not check it; the other machines do.
    pub access: Arc<[Access]>,
}
