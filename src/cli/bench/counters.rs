//! What the kernels of a step do, counted by the emulated GPU: figures that depend on kernels and shapes alone.

use std::sync::{Mutex, PoisonError};

use ptx_emulator::Counters;
use serde_json::{Map, Value, json};

use crate::{Result, cli::output::SaveOptions, machine::Tally, plan::budget::Fitted};

/// Reports what one step did.
pub fn report((device, name): (String, String), step: &Fitted, tally: &Mutex<Tally>, save: &SaveOptions) -> Result<()> {
    let tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
    let mut kernels: Vec<(&str, u64, &Counters)> =
        tally.iter().map(|(kernel, (launches, counters))| (*kernel, *launches, counters)).collect();
    kernels.sort_by_key(|(_, _, counters)| std::cmp::Reverse(counters.total_instructions()));
    let arena = step.plan.total;
    let lines: Vec<Value> =
        kernels.iter().map(|&(kernel, launches, counters)| line(kernel, launches, counters)).collect();
    let report =
        json!({"device": device, "name": name, "arena_bytes": arena, "flops": step.work.flops, "kernels": lines});
    save.report(&report, || print(&name, arena, &kernels))
}

fn print(name: &str, arena: usize, kernels: &[(&str, u64, &Counters)]) -> Result<()> {
    say!("{name}: no clock; what one step does");
    say!(
        "{:<34} {:>8} {:>14} {:>12} {:>12} {:>10} {:>9} {:>9}",
        "kernel",
        "launches",
        "instructions",
        "MFLOP",
        "tensor MFLOP",
        "MiB moved",
        "sectors",
        "conflicts"
    );
    for &(kernel, launches, counters) in kernels {
        let moved = counters.global_load_bytes + counters.global_store_bytes;
        say!(
            "{kernel:<34} {launches:>8} {:>14} {:>12.2} {:>12.2} {:>10.2} {:>9.2} {:>9.3}",
            counters.total_instructions(),
            counters.scalar_flops as f64 / 1e6,
            counters.tensor_flops as f64 / 1e6,
            moved as f64 / f64::from(1 << 20),
            ratio(counters.global_sectors, moved.div_ceil(32)),
            ratio(counters.bank_conflicts, counters.shared_requests),
        );
    }
    say!(
        "sectors: 32-byte sectors touched, over the fewest for the bytes asked for; conflicts: extra passes per request"
    );
    say!("arena {:.1} MiB", arena as f64 / f64::from(1 << 20));
    Ok(())
}

fn line(kernel: &str, launches: u64, counters: &Counters) -> Value {
    let mut line = Map::new();
    line.insert("kernel".to_owned(), kernel.into());
    line.insert("launches".to_owned(), launches.into());
    line.extend(counters.rows().into_iter().map(|(name, value)| (name, value.into())));
    Value::Object(line)
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}
