//! How fast the emulator runs: lane instructions per second on scalar code, simulated operations per second on
//! tensor-core code, with all checks on.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ptx_emulator::{Checks, Config, Counters, Device, Function, LaunchConfig};

struct Case {
    device: Device,
    function: Function,
    launch: LaunchConfig,
    arguments: Vec<Vec<u8>>,
}

impl Case {
    fn run(&mut self) -> Counters {
        let slices: Vec<&[u8]> = self.arguments.iter().map(Vec::as_slice).collect();
        self.device.launch(&self.function, &self.launch, &slices).unwrap_or_else(|fault| panic!("{fault}"))
    }
}

fn device(checks: Checks) -> Device {
    Device::new(Config { checks, ..Config::default() })
}

fn convolution(checks: Checks) -> Case {
    let (d, h, w, c, k) = (8u64, 16u64, 16u64, 32u64, 32u64);
    let mut device = device(checks);
    let module = device.load_module(include_str!("../tests/programs/convolution.ptx")).expect("it loads");
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

fn matmul(checks: Checks) -> Case {
    let (m, n, k) = (512u64, 512u64, 512u64);
    let mut device = device(checks);
    let module = device.load_module(include_str!("../tests/programs/matmul.ptx")).expect("it loads");
    let function = module.function("matmul").expect("it is there");
    let mut arguments = Vec::new();
    for bytes in [m * k * 2, k * n * 2, m * n * 4] {
        let array = device.allocate(bytes).expect("it fits");
        device.memset(array, 0x3c, bytes).expect("it is allocated");
        arguments.push(array.0.to_le_bytes().to_vec());
    }
    arguments.extend([m, n, k].map(|e| (e as i32).to_le_bytes().to_vec()));
    let launch = LaunchConfig::new([n as u32 / 64, m as u32 / 64, 1], [128, 1, 1]);
    Case { device, function, launch, arguments }
}

fn speed(criterion: &mut Criterion) {
    for (name, checks) in [("checked", Checks::ALL), ("unchecked", Checks::NONE)] {
        let mut group = criterion.benchmark_group(name);
        group.sample_size(10);
        let mut case = convolution(checks);
        group.throughput(Throughput::Elements(case.run().total_lanes()));
        group.bench_function("convolution, lane instructions", |b| b.iter(|| case.run()));
        let mut case = matmul(checks);
        group.throughput(Throughput::Elements(case.run().tensor_flops));
        group.bench_function("matmul, simulated flops", |b| b.iter(|| case.run()));
        group.finish();
    }
}

criterion_group!(benches, speed);
criterion_main!(benches);
