//! How fast the emulator runs on all cores: lane instructions per second on scalar code, simulated operations per second
//! on tensor-core code, with all checks on and with none.

mod cases;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ptx_emulator::Checks;

fn speed(criterion: &mut Criterion) {
    for (label, checks) in [("checked", Checks::ALL), ("unchecked", Checks::NONE)] {
        let mut group = criterion.benchmark_group(label);
        group.sample_size(10);
        for name in cases::NAMES {
            let mut case = cases::case(name, checks, 0);
            let counters = case.run();
            // The scalar kernel is counted in lane instructions, the others in simulated flops.
            let work = if counters.tensor_flops > 0 { counters.tensor_flops } else { counters.total_lanes() };
            group.throughput(Throughput::Elements(work));
            group.bench_function(name, |b| b.iter(|| case.run()));
        }
        group.finish();
    }
}

criterion_group!(benches, speed);
criterion_main!(benches);
