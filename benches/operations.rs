//! Every timed case of the operation catalogue on the CPU device, against the machine's own peaks.
//!
//! `cargo bench --bench operations [-- FILTER]`. Beside criterion's time and GFLOP/s (or GB/s where nothing is multiplied) a
//! line gives both, and the share of the peak that binds: matrix product or copy, measured at the start.

use std::{cell::Cell, time::Duration};

use criterion::{Criterion, Throughput};
use gyrus::{
    cpu::{Threads, peak},
    graph::{Graph, Role, Tape},
    ops::{case::Case, catalogue},
    session::Session,
    tensor::DType,
};

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(400))
        .configure_from_args();
    let threads = Threads::new(0);
    let (matrix, copy) = (peak::matrix_product(&threads), peak::copy(&threads));
    drop(threads);
    println!("matrix product {matrix:.0} GFLOP/s, copy {copy:.1} GB/s");
    for case in catalogue().into_iter().filter(|case| case.timed) {
        bench(&mut criterion, &case, matrix, copy);
    }
}

fn bench(criterion: &mut Criterion, case: &Case, matrix: f64, copy: f64) {
    let graph = record(case);
    let mut session = Session::bind(std::slice::from_ref(&graph), Threads::new(0));
    for (index, operand) in case.operands.iter().enumerate() {
        let (name, values) = (format!("operand.{index}"), operand.elements(&case.name));
        match operand.spec.dtype {
            DType::F32 => session.f32_mut(&name).iter_mut().zip(values).for_each(|(to, x)| *to = x as f32),
            DType::U8 => session.u8_mut(&name).iter_mut().zip(values).for_each(|(to, x)| *to = x as u8),
            DType::U32 => session.u32_mut(&name).iter_mut().zip(values).for_each(|(to, x)| *to = x as u32),
            // Casts from 16 bits: any bytes will do, and the arena's zeros are there already.
            DType::Bf16 | DType::F16 => {}
        }
    }
    let node = &graph.nodes[0];
    let (inputs, outputs) = (graph.specs(&node.inputs), graph.specs(&node.outputs));
    let (flops, bytes) = (node.op.flops(&inputs, &outputs), node.op.traffic(&inputs, &outputs));
    let best = Cell::new(f64::INFINITY);
    let mut group = criterion.benchmark_group(node.op.kind());
    group.throughput(if flops > 0 { Throughput::Elements(flops) } else { Throughput::Bytes(bytes) });
    group.bench_function(&case.name, |bencher| {
        bencher.iter_custom(|runs| {
            let start = std::time::Instant::now();
            for _ in 0..runs {
                session.run(0);
            }
            let took = start.elapsed();
            best.set(best.get().min(took.as_secs_f64() / runs as f64));
            took
        });
    });
    group.finish();
    // Without a run (another filter) there is nothing to tell.
    if best.get().is_finite() {
        let (gflops, gbs) = (flops as f64 / best.get() / 1e9, bytes as f64 / best.get() / 1e9);
        let (of_matrix, of_copy) = (100.0 * gflops / matrix, 100.0 * gbs / copy);
        println!("    {gflops:.1} GFLOP/s ({of_matrix:.0} % of peak), {gbs:.1} GB/s ({of_copy:.0} % of copy)");
    }
}

fn record(case: &Case) -> Graph {
    let mut tape = Tape::new();
    let operands = case.operands.iter().enumerate();
    let inputs: Vec<_> =
        operands.map(|(index, operand)| tape.source(format!("operand.{index}"), operand.spec, Role::Input)).collect();
    tape.record_dyn("node", case.op.clone(), &inputs).expect("cases fit their operations");
    tape.finish()
}
