//! Every timed case of the operation catalogue on the CPU and, where there is one, on the GPU, against the device's own
//! peaks.
//!
//! `cargo bench --bench operations [-- FILTER]`. Beside criterion's time and GFLOP/s (or GB/s where nothing is multiplied) a
//! line gives both, and the share of the peaks: arithmetic and copy, measured at the start.

use std::{cell::Cell, time::Duration};

use criterion::{Criterion, Throughput};
use gyrus::{
    cpu::{
        Threads,
        peak::{self, Products},
    },
    machine,
    ops::{case::Case, catalogue},
    peaks::GpuPeaks,
    selftest::{Operands, Single, encode},
    session::{self, Device, Program, Target},
};

/// A device with what it can do: GFLOP/s and GB/s.
struct Bench {
    name: &'static str,
    arithmetic: f64,
    copy: f64,
}

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(400))
        .configure_from_args();
    let timed: Vec<Case> = catalogue().into_iter().filter(|case| case.timed).collect();
    let threads = Threads::new(0);
    let (arithmetic, copy) = (peak::multiply_adds(&threads, Products::Single), peak::copy(&threads));
    drop(threads);
    let cpu = Bench { name: "cpu", arithmetic, copy };
    println!("cpu: fp32 {arithmetic:.0} GFLOP/s, copy {copy:.1} GB/s");
    for case in &timed {
        cpu.run(&mut criterion, case, Threads::new(0).into());
    }
    match machine::first_usable() {
        Ok(gpu) => {
            let open = || match Target::open(Device::Cuda(gpu), 0).expect("a usable GPU opens") {
                Target::Machine(machine) => machine,
                Target::Cpu(_) => unreachable!("a GPU was asked for"),
            };
            let peaks = GpuPeaks::measure(open()).expect("the GPU works").1.expect("a GPU has a clock");
            let (arithmetic, copy) = (peaks.fp32_gflops, peaks.copy_gbs);
            println!("cuda: fp32 {arithmetic:.0} GFLOP/s, copy {copy:.1} GB/s");
            let cuda = Bench { name: "cuda", arithmetic, copy };
            for case in &timed {
                cuda.run(&mut criterion, case, open().into());
            }
        }
        Err(reason) => println!("no GPU: {reason}"),
    }
}

impl Bench {
    fn run(&self, criterion: &mut Criterion, case: &Case, target: Target) {
        let single = Single::new(case, Operands::FromHost, 0);
        let graph = &single.graph;
        let mut program = session::bind(std::slice::from_ref(graph), target).expect("the memory is there");
        for (&id, operand) in &single.sources {
            let value = graph.value(id);
            let slot = program.bytes(&value.name).expect("the operand is there");
            program.write(slot, &encode(value.spec, &operand.data)).expect("the device works");
        }
        let node = &graph.nodes[single.node];
        let (inputs, outputs) = (graph.specs(&node.inputs), graph.specs(&node.outputs));
        let (flops, bytes) = (node.op.flops(&inputs, &outputs), node.op.traffic(&inputs, &outputs));
        let best = Cell::new(f64::INFINITY);
        let mut group = criterion.benchmark_group(format!("{} {}", self.name, node.op.kind()));
        group.throughput(if flops > 0 { Throughput::Elements(flops) } else { Throughput::Bytes(bytes) });
        group.bench_function(&case.name, |bencher| {
            bencher.iter_custom(|runs| {
                let took = seconds(&mut *program, runs);
                best.set(best.get().min(took / runs as f64));
                Duration::from_secs_f64(took)
            });
        });
        group.finish();
        // Without a run (another filter) there is nothing to tell.
        if best.get().is_finite() {
            let (gflops, gbs) = (flops as f64 / best.get() / 1e9, bytes as f64 / best.get() / 1e9);
            let (of_arithmetic, of_copy) = (100.0 * gflops / self.arithmetic, 100.0 * gbs / self.copy);
            println!("    {gflops:.1} GFLOP/s ({of_arithmetic:.0} % of peak), {gbs:.1} GB/s ({of_copy:.0} % of copy)");
        }
    }
}

/// So many runs, by the device's own clock.
fn seconds(program: &mut dyn Program, runs: u64) -> f64 {
    let times = program.time_captured(0, runs as usize).expect("the device works");
    times.expect("the device has a clock").iter().sum()
}
