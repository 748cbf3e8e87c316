//! Every distinct operation of a training step at the sizes that matter, against the device's own peaks.
//!
//! `cargo bench --bench layers [-- FILTER] [--save-baseline NAME | --baseline NAME]`: docs/benchmarks.md. Beside criterion's
//! time and GFLOP/s (or GB/s where nothing is multiplied) a line gives both, and their shares of the peak of the operation's own
//! type and of copying, which are measured when they are first needed.

mod common;

use std::time::Duration;

use common::{
    Device,
    layers::{Layer, list},
};
use criterion::{BenchmarkGroup, Criterion, SamplingMode, Throughput, measurement::WallTime};
use gyrus::{
    cpu::peak::{self, Products},
    peaks::GpuPeaks,
    plan,
    session::{Program, Target},
    size,
    tensor::DType,
};

/// Runs between two looks at the GPU's clock: it keeps a stamp for each.
const MOST_STAMPS: u64 = 1000;

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(400))
        .configure_from_args();
    let device = Device::choose();
    let mut bench = Bench { target: Some(device.open()), peaks: None, device };
    for network in bench.device.networks() {
        let mut group = criterion.benchmark_group(format!("{} {}", bench.device.name(), network.name));
        group.sampling_mode(SamplingMode::Flat);
        for layer in list(network, bench.device.options().processor) {
            bench.run(&mut group, &layer);
        }
        group.finish();
    }
}

struct Bench {
    device: Device,
    /// Lent to one layer after the other, so that kernels are loaded once.
    target: Option<Target>,
    peaks: Option<Peaks>,
}

impl Bench {
    fn run(&mut self, group: &mut BenchmarkGroup<'_, WallTime>, layer: &Layer) {
        let needs = plan::plan(std::slice::from_ref(&layer.graph), self.device.options()).total;
        let has = self.device().free_memory().expect("the device works");
        if let Some(has) = has.filter(|&has| needs > has) {
            println!("skipped: {} needs {}, free are {}", layer.name, size::bytes(needs), size::bytes(has));
            return;
        }
        group.throughput(match layer.flops {
            0 => Throughput::Bytes(layer.bytes),
            flops => Throughput::Elements(flops),
        });
        // Nothing is made before criterion's filter has let the layer pass.
        let (mut program, mut runs_so_far, mut best) = (None, 0, f64::INFINITY);
        group.bench_function(&layer.name, |bencher| {
            let program = program.get_or_insert_with(|| layer.bind(self.target.take().expect("it came back")));
            bencher.iter_custom(|runs| {
                let took = seconds(&mut **program, runs);
                runs_so_far += runs;
                best = best.min(took / runs as f64);
                Duration::from_secs_f64(took)
            });
        });
        let bound: Option<Box<dyn Program>> = program;
        self.target = self.target.take().or_else(|| Some(bound?.release().expect("the device works")));
        // A single run is a test of the bench, which tells nothing of time.
        if runs_so_far > 1 {
            self.report(layer, best);
        }
    }

    fn device(&mut self) -> &mut Target {
        self.target.as_mut().expect("it came back")
    }

    /// The best time against the peaks.
    fn report(&mut self, layer: &Layer, seconds: f64) {
        if self.peaks.is_none() {
            let (target, peaks) = Peaks::measure(self.target.take().expect("it came back"));
            (self.target, self.peaks) = (Some(target), Some(peaks));
        }
        let peaks = self.peaks.as_ref().expect("just measured");
        let (gflops, gbs) = (layer.flops as f64 / seconds / 1e9, layer.bytes as f64 / seconds / 1e9);
        let arithmetic = match layer.flops {
            0 => String::new(),
            _ => format!(
                "{gflops:.1} GFLOP/s ({:.0} % of {} peak), ",
                100.0 * gflops / peaks.of(layer.dtype),
                layer.dtype
            ),
        };
        println!("    {arithmetic}{gbs:.1} GB/s ({:.0} % of copying)", 100.0 * gbs / peaks.copy);
    }
}

/// What the device can do right now: GFLOP/s of each type's products, GB/s.
struct Peaks {
    fp32: f64,
    bf16: f64,
    fp16: f64,
    copy: f64,
}

impl Peaks {
    fn measure(target: Target) -> (Target, Self) {
        let (target, peaks, note) = match target {
            Target::Cpu(threads) => {
                let [fp32, bf16] = [Products::Single, Products::Half].map(|kind| peak::multiply_adds(&threads, kind));
                let copy = peak::copy(&threads);
                (Target::Cpu(threads), Self { fp32, bf16, fp16: fp32, copy }, "fp16 is multiplied as fp32")
            }
            Target::Machine(machine) => {
                let (machine, peaks) = GpuPeaks::measure(machine).expect("the GPU works");
                let GpuPeaks { fp32_gflops: fp32, half_gflops: half, copy_gbs: copy } =
                    peaks.expect("a GPU has a clock");
                (
                    Target::Machine(machine),
                    Self { fp32, bf16: half, fp16: half, copy },
                    "tensor cores have one 16-bit rate",
                )
            }
        };
        let Self { fp32, bf16, fp16, copy } = peaks;
        println!("peaks: fp32 {fp32:.0}, bf16 {bf16:.0}, fp16 {fp16:.0} GFLOP/s ({note}); copying {copy:.1} GB/s");
        (target, peaks)
    }

    fn of(&self, dtype: DType) -> f64 {
        match dtype {
            DType::Bf16 => self.bf16,
            DType::F16 => self.fp16,
            _ => self.fp32,
        }
    }
}

/// So many runs, by the device's own clock.
fn seconds(program: &mut dyn Program, runs: u64) -> f64 {
    let mut time = |runs: u64| -> f64 {
        let times = program.time_captured(0, runs as usize).expect("the device works");
        times.expect("the device has a clock").iter().sum()
    };
    (0..runs.div_ceil(MOST_STAMPS)).map(|n| time(MOST_STAMPS.min(runs - n * MOST_STAMPS))).sum()
}
