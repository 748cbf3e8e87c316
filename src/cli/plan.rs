//! `gyrus plan`: what a training step will need, before it starts.

use clap::Args;

use super::{
    device::DeviceOptions,
    options::{LossName, NetworkOptions, OptimizerOptions},
};
use crate::{
    Result,
    nn::{StepConfig, record_training, record_validation},
    ops::optimizer::Optimizer,
    plan::{self, Report},
};

/// Show parameters, work and memory of a training step for any extents: exactly what training will allocate.
///
/// JSON keys: parameters, flops, peak_bytes, transient_bytes, transient_lower_bound, peak_at, roles, layers, total_bytes.
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    network: NetworkOptions,
    #[command(flatten)]
    optimizer: OptimizerOptions,
    #[command(flatten)]
    device: DeviceOptions,

    /// The loss
    #[arg(long, value_enum, default_value_t = LossName::LogDice)]
    loss: LossName,

    /// Samples per training step
    #[arg(long, default_value_t = 1, value_name = "N")]
    train_batch_size: usize,

    /// Samples per validation pass
    #[arg(long, default_value_t = 1, value_name = "N")]
    val_batch_size: usize,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(options: Options) -> Result<()> {
    let threads = options.device.cpu()?;
    let network = options.network.network(None, None);
    let extent = options.network.extent();
    network.check(extent)?;
    let step = |batch: usize| StepConfig {
        network,
        batch: batch.max(1),
        extent,
        loss: options.loss.into(),
        optimizer: Optimizer { rule: options.optimizer.rule(), clip: options.optimizer.clip_value },
    };
    let graphs = [record_training(&step(options.train_batch_size))?, record_validation(&step(options.val_batch_size))?];
    let layout = plan::plan(&graphs, plan::Options::for_threads(threads.count()));
    let report = Report::new(&graphs, &layout, 0);
    if options.json {
        let mut value = serde_json::to_value(&report).expect("plain data");
        value["total_bytes"] = layout.total.into();
        super::print_json(&value);
        return Ok(());
    }
    print_table(&report, layout.total);
    Ok(())
}

fn print_table(report: &Report, total: usize) {
    println!("{:<34} {:>22} {:>14} {:>14} {:>12}", "layer", "output", "forward GFLOP", "backward GFLOP", "MiB");
    for layer in &report.layers {
        let giga = |flops: u64| if flops == 0 { String::new() } else { format!("{:.3}", flops as f64 / 1e9) };
        println!(
            "{:<34} {:>22} {:>14} {:>14} {:>12.2}",
            layer.layer,
            layer.output.trim_end_matches(" fp32"),
            giga(layer.forward_flops),
            giga(layer.backward_flops),
            mib(layer.activation_bytes),
        );
    }
    println!();
    println!("{:<34} {:>10} {:>14}", "bytes by role", "values", "MiB");
    for line in &report.roles {
        println!("{:<34} {:>10} {:>14.2}", line.role, line.values, mib(line.bytes));
    }
    println!();
    println!("parameters    {}", report.parameters);
    println!("work          {:.1} GFLOP per step", report.flops as f64 / 1e9);
    println!("peak          {:.2} MiB, at {}", mib(report.peak_bytes), report.peak_at);
    println!(
        "transient     {:.2} MiB; no layout can be below {:.2} MiB",
        mib(report.transient_bytes),
        mib(report.transient_lower_bound),
    );
    println!("allocated     {:.2} MiB, with the validation pass in the same arena", mib(total));
}

fn mib(bytes: usize) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
