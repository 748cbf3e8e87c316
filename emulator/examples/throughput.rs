//! Prints the emulator's speed per second of processor time, which a busy machine disturbs less than wall-clock time:
//! `cargo run --release -p ptx-emulator --example throughput`.

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
    Device::new(Config { checks, threads: 1, ..Config::default() })
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

/// Processor seconds of this process so far, as Linux counts them.
fn processor_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    text.split_whitespace().next().and_then(|ns| ns.parse::<f64>().ok()).map_or(0.0, |ns| ns / 1e9)
}

fn main() {
    let only = std::env::args().nth(1);
    for (name, checks) in [("checked", Checks::ALL), ("unchecked", Checks::NONE)] {
        for kernel in ["convolution", "matmul"] {
            let label = format!("{name} {kernel}");
            if only.as_ref().is_some_and(|only| *only != label) {
                continue;
            }
            let mut case = if kernel == "matmul" { matmul(checks) } else { convolution(checks) };
            let begin = processor_seconds();
            let mut total = Counters::default();
            for _ in 0..5 {
                total.add(&case.run());
            }
            let seconds = processor_seconds() - begin;
            println!(
                "{label}: {:.3} G lane instructions/s, {:.2} G tensor flops/s per core",
                total.total_lanes() as f64 / seconds / 1e9,
                total.tensor_flops as f64 / seconds / 1e9
            );
        }
    }
}
