//! Prints the emulator's speed on all cores per second of processor time, which a busy machine disturbs less than wall-clock time:
//! `cargo run --release -p ptx-emulator --example throughput`.

#[path = "../benches/cases/mod.rs"]
mod cases;

use ptx_emulator::{Checks, Counters};

/// Processor seconds of this process so far, all threads together, as Linux counts them: in hundredths.
fn processor_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name before it may contain spaces.
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let hundredths = |i: usize| fields.get(i).and_then(|field| field.parse::<f64>().ok()).unwrap_or_default();
    (hundredths(11) + hundredths(12)) / 100.0
}

fn main() {
    let only = std::env::args().nth(1);
    for (name, checks) in [("checked", Checks::ALL), ("unchecked", Checks::NONE)] {
        for kernel in cases::NAMES {
            let label = format!("{name} {kernel}");
            if only.as_ref().is_some_and(|only| *only != label) {
                continue;
            }
            let mut case = cases::case(kernel, checks, 0);
            let begin = processor_seconds();
            let mut total = Counters::default();
            for _ in 0..12 {
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
