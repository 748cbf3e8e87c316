//! Prints the emulator's speed per second of processor time, which a busy machine disturbs less than wall-clock time:
//! `cargo run --release -p ptx-emulator --example throughput`.

#[path = "../benches/cases/mod.rs"]
mod cases;

use ptx_emulator::{Checks, Counters};

/// Processor seconds of this process so far, as Linux counts them.
fn processor_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    text.split_whitespace().next().and_then(|ns| ns.parse::<f64>().ok()).map_or(0.0, |ns| ns / 1e9)
}

fn main() {
    let only = std::env::args().nth(1);
    for (name, checks) in [("checked", Checks::ALL), ("unchecked", Checks::NONE)] {
        for kernel in cases::NAMES {
            let label = format!("{name} {kernel}");
            if only.as_ref().is_some_and(|only| *only != label) {
                continue;
            }
            let mut case = cases::case(kernel, checks, 1);
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
