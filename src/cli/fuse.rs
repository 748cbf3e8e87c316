//! The option that says whether operations are merged: `--fuse`.

use clap::Args;

use super::choice::choice;
use crate::{Result, fuse::Fuse, train::budget::Merged};

/// Whether operations are merged.
#[derive(Debug, Args)]
pub struct FuseOptions {
    /// Merge normalisation, concatenation, ReLU and sums into the operations beside them: auto (where the device can) or
    /// none. Results agree to rounding
    #[arg(long, value_parser = choice::<Fuse>(), default_value = "auto", value_name = "WHEN", help_heading = "Device")]
    pub fuse: Fuse,
}

/// What merging saves, as a table.
pub fn print_merged(merged: &Merged) -> Result<()> {
    let Merged { patterns, before, after } = merged;
    say!("");
    say!("{:<46} {:>10}", "merged into its neighbours", "times");
    for line in patterns.iter().filter(|line| line.count > 0) {
        say!("{:<46} {:>10}", line.name, line.count);
    }
    say!("passes over activations and their gradients    {} instead of {}", after.passes, before.passes);
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    say!(
        "traffic of a step at the least                 {:.0} MiB instead of {:.0}",
        mib(after.traffic_bytes),
        mib(before.traffic_bytes),
    );
    say!(
        "memory with nothing computed again             {:.0} MiB instead of {:.0}",
        mib(after.total_bytes as u64),
        mib(before.total_bytes as u64),
    );
    Ok(())
}
