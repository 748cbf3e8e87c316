//! What the tests share: a device, arrays in and out, arguments as bytes.

#![allow(dead_code)] // Each test file uses its own part.

use ptx_emulator::{Config, Counters, Device, DevicePointer, Fault, LaunchConfig};

/// A device and one module on it.
pub struct Bench {
    pub device: Device,
    pub module: ptx_emulator::Module,
}

impl Bench {
    pub fn new(ptx: &str) -> Bench {
        Bench::with(Config { threads: 2, step_limit: 1 << 24, ..Config::default() }, ptx)
    }

    pub fn with(config: Config, ptx: &str) -> Bench {
        let mut device = Device::new(config);
        let module = device.load_module(ptx).unwrap_or_else(|error| panic!("{error}"));
        Bench { device, module }
    }

    /// An initialised array.
    pub fn array<T: Bytes>(&mut self, values: &[T]) -> DevicePointer {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.bytes()).collect();
        let pointer = self.device.allocate(bytes.len() as u64).unwrap();
        self.device.copy_to_device(pointer, &bytes).unwrap();
        pointer
    }

    /// An array that nothing has written.
    pub fn empty<T: Bytes>(&mut self, count: usize) -> DevicePointer {
        self.device.allocate((count * T::SIZE) as u64).unwrap()
    }

    pub fn read<T: Bytes>(&self, from: DevicePointer, count: usize) -> Vec<T> {
        let mut bytes = vec![0; count * T::SIZE];
        self.device.copy_to_host(&mut bytes, from).unwrap();
        bytes.chunks(T::SIZE).map(T::from_bytes).collect()
    }

    pub fn launch(
        &mut self,
        name: &str,
        grid: [u32; 3],
        block: [u32; 3],
        arguments: &[&dyn Argument],
    ) -> Result<Counters, Box<Fault>> {
        self.launch_with(name, &LaunchConfig::new(grid, block), arguments)
    }

    pub fn launch_with(
        &mut self,
        name: &str,
        launch: &LaunchConfig,
        arguments: &[&dyn Argument],
    ) -> Result<Counters, Box<Fault>> {
        let function = self.module.function(name).expect("the kernel exists");
        let bytes: Vec<Vec<u8>> = arguments.iter().map(|a| a.argument()).collect();
        let slices: Vec<&[u8]> = bytes.iter().map(Vec::as_slice).collect();
        self.device.launch(&function, launch, &slices)
    }
}

pub trait Bytes: Copy {
    const SIZE: usize;
    fn bytes(&self) -> Vec<u8>;
    fn from_bytes(bytes: &[u8]) -> Self;
}

pub trait Argument {
    fn argument(&self) -> Vec<u8>;
}

macro_rules! numbers {
    ($($ty:ty),*) => {$(
        impl Bytes for $ty {
            const SIZE: usize = size_of::<$ty>();
            fn bytes(&self) -> Vec<u8> {
                self.to_le_bytes().to_vec()
            }
            fn from_bytes(bytes: &[u8]) -> Self {
                <$ty>::from_le_bytes(bytes.try_into().unwrap())
            }
        }
        impl Argument for $ty {
            fn argument(&self) -> Vec<u8> {
                self.to_le_bytes().to_vec()
            }
        }
    )*};
}

numbers!(u8, u16, u32, u64, i32, i64, f32, f64);

impl Argument for DevicePointer {
    fn argument(&self) -> Vec<u8> {
        self.0.to_le_bytes().to_vec()
    }
}

impl<T: Bytes, const N: usize> Argument for [T; N] {
    fn argument(&self) -> Vec<u8> {
        self.iter().flat_map(|v| v.bytes()).collect()
    }
}

/// Numbers that look random and are the same everywhere.
pub struct Random(pub u64);

impl Random {
    pub fn bits(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 33) ^ (self.0 >> 17)) as u32
    }

    pub fn long(&mut self) -> u64 {
        u64::from(self.bits()) << 32 | u64::from(self.bits())
    }

    /// Uniform in [-1, 1), with few enough bits that sums of products are exact in f32 for a while.
    pub fn small(&mut self) -> f32 {
        (self.bits() % 17) as f32 / 8.0 - 1.0
    }
}
