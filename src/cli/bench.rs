//! `gyrus bench`: how long each operation of a training step takes, and how far that is from what the machine can do.

use std::{collections::BTreeMap, time::Instant};

use clap::Args;
use serde::Serialize;

use super::{
    device::DeviceOptions,
    options::{LossName, NetworkOptions, OptimizerOptions},
};
use crate::{
    Error, Result,
    cpu::peak,
    graph::Graph,
    nn::{StepConfig, initial_parameters, names, record_training},
    ops::optimizer::Optimizer,
    random::Stream,
    session::Session,
    train::state,
};

/// Every time of every node is kept for the medians.
const MOST_STEPS: usize = 100_000;

/// Time a training step on random data: per operation and as a whole.
///
/// Peaks are measured on the spot: the matrix product by a 1x1x1 convolution of 256 to 256 channels, the copy by copying
/// 256 MiB. JSON keys: device, threads, matrix_gflops, copy_gbs, arena_bytes, step_ms (median), step_gflops, steps,
/// operations (kind, calls, ms, gflops, gbs, share).
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

    /// Steps before the clock starts
    #[arg(long, default_value_t = 2, value_name = "N")]
    warmup: usize,

    /// Steps that are timed
    #[arg(long, default_value_t = 10, value_name = "N")]
    steps: usize,

    /// List every node instead of every kind of operation
    #[arg(long)]
    nodes: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// One line of the table: medians over the steps of the sums over the calls.
#[derive(Debug, Serialize)]
struct Line {
    kind: String,
    calls: usize,
    ms: f64,
    gflops: f64,
    gbs: f64,
    share: f64,
}

#[derive(Debug, Serialize)]
struct Report {
    device: &'static str,
    threads: usize,
    matrix_gflops: f64,
    copy_gbs: f64,
    arena_bytes: usize,
    step_ms: f64,
    step_gflops: f64,
    steps: usize,
    operations: Vec<Line>,
}

/// Runs the command.
pub fn run(options: Options) -> Result<()> {
    let threads = options.device.cpu()?;
    let network = options.network.network(options.device.precision, None, None);
    let extent = options.network.extent();
    network.check(extent)?;
    network.check_batch("--train-batch-size", options.train_batch_size, extent)?;
    options.optimizer.check()?;
    if !(1..=MOST_STEPS).contains(&options.steps) {
        let cause = format!("{} steps", options.steps);
        return Err(Error::usage("--steps", cause, format!("give 1 to {MOST_STEPS}")));
    }
    let graph = record_training(&StepConfig {
        network,
        batch: options.train_batch_size,
        extent,
        loss: options.loss.into(),
        optimizer: Optimizer { rule: options.optimizer.rule(), clip: options.optimizer.clip_value },
    })?;
    let mut session = Session::bind(std::slice::from_ref(&graph), threads)?;
    let (matrix_gflops, copy_gbs) = (peak::matrix_product(session.threads()), peak::copy(session.threads()));
    fill(&mut session, &graph, network.classes);
    for _ in 0..options.warmup {
        session.run(0);
    }
    let steps = options.steps;
    let mut node_ms: Vec<Vec<f64>> = vec![Vec::with_capacity(steps); graph.nodes.len()];
    let mut step_ms: Vec<f64> = (0..steps)
        .map(|_| {
            let start = Instant::now();
            session.run_timed(0, &mut |node, seconds| node_ms[node].push(seconds * 1e3));
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    let step = median(&mut step_ms);
    let report = Report {
        device: "cpu",
        threads: session.threads().count(),
        matrix_gflops,
        copy_gbs,
        arena_bytes: session.arena_bytes(),
        step_ms: step,
        step_gflops: graph.flops() as f64 / step / 1e6,
        steps,
        operations: lines(&graph, node_ms, step, options.nodes),
    };
    if options.json {
        super::output::print_json(&serde_json::to_value(&report).expect("plain data"))?;
    } else {
        print_table(&report)?;
    }
    Ok(())
}

/// Random images and labels, initial weights, and a learning rate of zero: the same work at every step.
fn fill(session: &mut Session, graph: &Graph, classes: usize) {
    let mut stream = Stream::new(0, "bench");
    session.f32_mut(names::IMAGES).iter_mut().for_each(|x| *x = stream.normal() as f32);
    session.u8_mut(names::LABELS).iter_mut().for_each(|x| *x = stream.below(classes) as u8);
    session.f32_mut(names::CLASS_WEIGHTS).fill(1.0);
    session.f32_mut(names::LOSS_SCALE)[0] = 1.0;
    session.f32_mut(names::HYPER).copy_from_slice(&[0.0, 0.0, 0.0, 1.0]);
    state::initialise(session, &initial_parameters(graph, 0));
}

fn lines(graph: &Graph, node_ms: Vec<Vec<f64>>, step: f64, by_node: bool) -> Vec<Line> {
    // Sums over the calls within each step come first, the median over the steps after.
    let mut groups: BTreeMap<String, (usize, f64, f64, Vec<f64>)> = BTreeMap::new();
    for (node, times) in graph.nodes.iter().zip(node_ms) {
        let (inputs, outputs) = (graph.specs(&node.inputs), graph.specs(&node.outputs));
        let key = if by_node { format!("{} ({})", node.name, node.op.kind()) } else { node.op.kind().to_owned() };
        let group = groups.entry(key).or_insert_with(|| (0, 0.0, 0.0, vec![0.0; times.len()]));
        group.0 += 1;
        group.1 += node.op.flops(&inputs, &outputs) as f64;
        group.2 += node.op.traffic(&inputs, &outputs) as f64;
        group.3.iter_mut().zip(times).for_each(|(sum, ms)| *sum += ms);
    }
    let mut lines: Vec<Line> = groups
        .into_iter()
        .map(|(kind, (calls, flops, bytes, mut times))| {
            let ms = median(&mut times);
            Line { kind, calls, ms, gflops: flops / ms / 1e6, gbs: bytes / ms / 1e6, share: ms / step }
        })
        .collect();
    lines.sort_by(|a, b| b.ms.total_cmp(&a.ms));
    lines
}

fn print_table(report: &Report) -> Result<()> {
    say!(
        "{} threads; matrix product {:.0} GFLOP/s, copy {:.1} GB/s on this machine now",
        report.threads,
        report.matrix_gflops,
        report.copy_gbs
    );
    say!(
        "{:<44} {:>5} {:>10} {:>7} {:>9} {:>7} {:>8}",
        "operation",
        "calls",
        "ms",
        "share",
        "GFLOP/s",
        "% peak",
        "GB/s"
    );
    for line in &report.operations {
        let work = |text: String| if line.gflops > 0.0 { text } else { String::new() };
        say!(
            "{:<44} {:>5} {:>10.3} {:>6.1}% {:>9} {:>7} {:>8.1}",
            line.kind,
            line.calls,
            line.ms,
            100.0 * line.share,
            work(format!("{:.1}", line.gflops)),
            work(format!("{:.1}", 100.0 * line.gflops / report.matrix_gflops)),
            line.gbs,
        );
    }
    say!(
        "step: {:.1} ms (median of {}), {:.1} GFLOP/s ({:.1} % of the matrix product), arena {:.1} MiB",
        report.step_ms,
        report.steps,
        report.step_gflops,
        100.0 * report.step_gflops / report.matrix_gflops,
        report.arena_bytes as f64 / f64::from(1 << 20),
    );
    Ok(())
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
