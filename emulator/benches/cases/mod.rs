//! The launches that the bench and the throughput example time.

use ptx_emulator::{Checks, Config, Counters, Device, Element, Function, LaunchConfig, Swizzle, TensorMap};

/// A launch to repeat.
pub struct Case {
    device: Device,
    function: Function,
    launch: LaunchConfig,
    arguments: Vec<Vec<u8>>,
}

impl Case {
    pub fn run(&mut self) -> Counters {
        let slices: Vec<&[u8]> = self.arguments.iter().map(Vec::as_slice).collect();
        self.device.launch(&self.function, &self.launch, &slices).unwrap_or_else(|fault| panic!("{fault}"))
    }
}

/// The kernels that are timed.
pub const NAMES: [&str; 4] = ["convolution", "matmul", "matmul_wide", "warpgroup"];

/// The kernel of this name, on so many host threads.
pub fn case(name: &str, checks: Checks, threads: usize) -> Case {
    let device = Device::new(Config { checks, threads, ..Config::default() });
    match name {
        "convolution" => convolution(device),
        "matmul" => matmul(device, false),
        "matmul_wide" => matmul(device, true),
        _ => warpgroup(device),
    }
}

/// fp32, directly from global memory.
fn convolution(mut device: Device) -> Case {
    let (d, h, w, c, k) = (8u64, 16u64, 16u64, 32u64, 32u64);
    let module = device.load_module(include_str!("../../tests/programs/convolution.ptx")).expect("it loads");
    let function = module.function("convolution").expect("it is there");
    let mut arguments = Vec::new();
    for floats in [d * h * w * c, 27 * c * k, d * h * w * k] {
        let array = device.allocate(floats * 4).expect("it fits");
        device.memset(array, 0x3c, floats * 4).expect("it is allocated");
        arguments.push(array.0.to_le_bytes().to_vec());
    }
    arguments.push([1, d, h, w, c, k].iter().flat_map(|&e| (e as i32).to_le_bytes()).collect());
    let launch = LaunchConfig::new([(d * h * w / 128) as u32, k as u32 / 4, 1], [128, 1, 1]);
    Case { device, function, launch, arguments }
}

/// The product with tiles of 64x64 per CTA, or of 64x64 per warp as fast kernels have them.
fn matmul(mut device: Device, wide: bool) -> Case {
    let (m, n, k) = (512u64, 512u64, 512u64);
    let (ptx, name, tile) = if wide {
        (include_str!("../../tests/programs/matmul_wide.ptx"), "matmul_wide", 128)
    } else {
        (include_str!("../../tests/programs/matmul.ptx"), "matmul", 64)
    };
    let module = device.load_module(ptx).expect("it loads");
    let function = module.function(name).expect("it is there");
    let mut arguments = Vec::new();
    for bytes in [m * k * 2, k * n * 2, m * n * 4] {
        let array = device.allocate(bytes).expect("it fits");
        device.memset(array, 0x3c, bytes).expect("it is allocated");
        arguments.push(array.0.to_le_bytes().to_vec());
    }
    arguments.extend([m, n, k].map(|e| (e as i32).to_le_bytes().to_vec()));
    let launch = LaunchConfig::new([n as u32 / tile, m as u32 / tile, 1], [128, 1, 1]);
    Case { device, function, launch, arguments }
}

/// The product by tensor copies and `wgmma`, with tiles of 64x64.
fn warpgroup(mut device: Device) -> Case {
    let (m, n, k) = (512u64, 512u64, 512u64);
    let module = device.load_module(include_str!("../../tests/programs/hopper.ptx")).expect("it loads");
    let function = module.function("matmul").expect("it is there");
    let mut arguments = Vec::new();
    for rows in [m, n] {
        let array = device.allocate(rows * k * 2).expect("it fits");
        device.memset(array, 0x3c, rows * k * 2).expect("it is allocated");
        let map = TensorMap {
            element: Element::Bf16,
            address: array.0,
            dims: vec![k, rows],
            strides: vec![k * 2],
            box_dims: vec![64, 64],
            swizzle: Swizzle::Bytes128,
            nan_fill: false,
        };
        arguments.push(map.encode().expect("it is valid").to_vec());
    }
    let product = device.allocate(m * n * 4).expect("it fits");
    arguments.push(product.0.to_le_bytes().to_vec());
    arguments.extend([n as i32, k as i32, 0].map(|e| e.to_le_bytes().to_vec()));
    let launch = LaunchConfig::new([n as u32 / 64, m as u32 / 64, 1], [128, 1, 1]);
    Case { device, function, launch, arguments }
}
