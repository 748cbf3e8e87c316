//! Times per node, put together per kind of operation and per kernel, and held against the peaks.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{Result, graph::Graph, plan::budget::Fitted, tensor::DType};

/// What the device can do.
#[derive(Debug, Serialize)]
pub struct Peaks {
    /// fp32 arithmetic.
    pub peak_gflops: f64,
    /// 16-bit matrix products.
    pub half_peak_gflops: Option<f64>,
    /// Bytes read and written.
    pub copy_gbs: f64,
}

impl Peaks {
    /// Milliseconds that arithmetic or memory traffic takes at the least, whichever is longer.
    fn least_ms(&self, flops: f64, bytes: f64, is_narrow: bool) -> f64 {
        let peak = self.half_peak_gflops.filter(|_| is_narrow).unwrap_or(self.peak_gflops);
        (flops / peak).max(bytes / self.copy_gbs) / 1e6
    }
}

/// Milliseconds of every step.
#[derive(Debug)]
pub struct Times {
    /// Of every node in every step.
    nodes: Vec<Vec<f64>>,
    /// Of every kernel in every step, and its launches per step.
    kernels: BTreeMap<&'static str, (usize, Vec<f64>)>,
    steps: Vec<f64>,
}

impl Times {
    /// Nothing yet.
    pub fn new(graph: &Graph) -> Self {
        Self { nodes: vec![Vec::new(); graph.nodes.len()], kernels: BTreeMap::new(), steps: Vec::new() }
    }

    /// A node, or one of its kernels, took so many seconds.
    pub fn node(&mut self, node: usize, kernel: Option<&'static str>, seconds: f64) {
        let step = self.steps.len();
        let add = |times: &mut Vec<f64>| {
            times.resize(step + 1, 0.0);
            times[step] += seconds * 1e3;
        };
        add(&mut self.nodes[node]);
        if let Some(kernel) = kernel {
            let (launches, times) = self.kernels.entry(kernel).or_default();
            *launches += usize::from(step == 0);
            add(times);
        }
    }

    /// A step is done; the whole of it took so many seconds.
    pub fn end_of_step(&mut self, seconds: f64) {
        self.steps.push(seconds * 1e3);
    }
}

/// One line of the table: medians over the steps of the sums over the calls.
#[derive(Debug, Serialize)]
struct Line {
    kind: String,
    calls: usize,
    ms: f64,
    gflops: f64,
    gbs: f64,
    /// The share of the roofline that it reaches, if the peaks are known.
    roofline: Option<f64>,
    /// Of the sum over all lines.
    share: f64,
}

#[derive(Debug, Serialize)]
struct KernelLine {
    kernel: &'static str,
    launches: usize,
    ms: f64,
    share: f64,
}

/// What runs the step.
#[derive(Debug)]
pub struct About {
    /// `cpu`, `cuda:0`.
    pub device: String,
    /// In words.
    pub name: String,
    /// Of the CPU.
    pub threads: Option<usize>,
}

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub struct Report {
    device: String,
    name: String,
    /// Of the CPU.
    threads: Option<usize>,
    #[serde(flatten)]
    peaks: Option<Peaks>,
    arena_bytes: usize,
    step_ms: f64,
    step_gflops: f64,
    /// The share of the time that it would take if every operation reached its roofline.
    step_roofline: Option<f64>,
    steps: usize,
    operations: Vec<Line>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    kernels: Vec<KernelLine>,
}

impl Report {
    /// Puts the times of a step together.
    pub fn new(about: About, peaks: Option<Peaks>, step: &Fitted, times: Times, by_node: bool) -> Self {
        let About { device, name, threads } = about;
        let Times { nodes, kernels, steps: mut step_ms } = times;
        let steps = step_ms.len();
        let whole = median(&mut step_ms);
        let graph = &step.graphs[0];
        let operations = lines(graph, nodes, peaks.as_ref(), by_node);
        let sum: f64 = kernels.values().map(|(_, times)| median(&mut times.clone())).sum();
        let kernel = |(kernel, (launches, mut times)): (&'static str, (usize, Vec<f64>))| {
            let ms = median(&mut times);
            KernelLine { kernel, launches, ms, share: ms / sum }
        };
        let mut kernels: Vec<KernelLine> = kernels.into_iter().map(kernel).collect();
        kernels.sort_by(|a, b| b.ms.total_cmp(&a.ms));
        Self {
            device,
            name,
            arena_bytes: step.plan.total,
            step_ms: whole,
            step_gflops: graph.flops() as f64 / whole / 1e6,
            steps,
            step_roofline: operations.iter().map(|line| Some(line.roofline? * line.ms / whole)).sum(),
            operations,
            threads,
            peaks,
            kernels,
        }
    }

    /// Prints the tables.
    pub fn print(&self) -> Result<()> {
        say!("{}", self.name);
        if let Some(Peaks { peak_gflops, half_peak_gflops, copy_gbs }) = self.peaks {
            let half = half_peak_gflops.map_or(String::new(), |peak| format!(", 16-bit {:.3}", peak / 1e3));
            say!("peaks now: fp32 {:.3} TFLOP/s{half}, copy {copy_gbs:.1} GB/s", peak_gflops / 1e3);
        }
        say!(
            "{:<44} {:>5} {:>10} {:>7} {:>9} {:>8} {:>10}",
            "operation",
            "calls",
            "ms",
            "share",
            "TFLOP/s",
            "GB/s",
            "% roofline"
        );
        for line in &self.operations {
            let work = if line.gflops > 0.0 { format!("{:.3}", line.gflops / 1e3) } else { String::new() };
            say!(
                "{:<44} {:>5} {:>10.3} {:>6.1}% {:>9} {:>8.1} {:>10}",
                line.kind,
                line.calls,
                line.ms,
                100.0 * line.share,
                work,
                line.gbs,
                line.roofline.map_or(String::new(), |share| format!("{:.1}", 100.0 * share)),
            );
        }
        if !self.kernels.is_empty() {
            say!("");
            say!("{:<44} {:>8} {:>10} {:>7}", "kernel", "launches", "ms", "share");
        }
        for line in &self.kernels {
            say!("{:<44} {:>8} {:>10.3} {:>6.1}%", line.kernel, line.launches, line.ms, 100.0 * line.share);
        }
        say!(
            "step: {:.1} ms (median of {}), {:.3} TFLOP/s{}, arena {:.1} MiB",
            self.step_ms,
            self.steps,
            self.step_gflops / 1e3,
            self.step_roofline.map_or(String::new(), |share| format!(", {:.1} % of the roofline", 100.0 * share)),
            self.arena_bytes as f64 / f64::from(1 << 20),
        );
        Ok(())
    }
}

/// What belongs on one line.
#[derive(Default)]
struct Group {
    calls: usize,
    flops: f64,
    bytes: f64,
    /// At the peaks, for each node.
    least_ms: f64,
    /// Of every step.
    ms: Vec<f64>,
}

fn lines(graph: &Graph, node_ms: Vec<Vec<f64>>, peaks: Option<&Peaks>, by_node: bool) -> Vec<Line> {
    // Sums over the calls within each step come first, the median over the steps after.
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    for (node, times) in graph.nodes.iter().zip(node_ms) {
        let (inputs, outputs) = (graph.specs(&node.inputs), graph.specs(&node.outputs));
        let key = if by_node { format!("{} ({})", node.name, node.op.kind()) } else { node.op.kind().to_owned() };
        let (flops, bytes) = (node.op.flops(&inputs, &outputs) as f64, node.op.traffic(&inputs, &outputs) as f64);
        let is_narrow = inputs.iter().chain(&outputs).any(|spec| matches!(spec.dtype, DType::Bf16 | DType::F16));
        let group = groups.entry(key).or_default();
        group.calls += 1;
        group.flops += flops;
        group.bytes += bytes;
        group.least_ms += peaks.map_or(0.0, |peaks| peaks.least_ms(flops, bytes, is_narrow));
        group.ms.resize(times.len(), 0.0);
        group.ms.iter_mut().zip(times).for_each(|(sum, ms)| *sum += ms);
    }
    let line = |(kind, mut group): (String, Group)| {
        let (calls, ms) = (group.calls, median(&mut group.ms));
        let (gflops, gbs) = (group.flops / ms / 1e6, group.bytes / ms / 1e6);
        Line { kind, calls, ms, gflops, gbs, roofline: peaks.map(|_| group.least_ms / ms), share: 0.0 }
    };
    let mut lines: Vec<Line> = groups.into_iter().map(line).collect();
    let sum: f64 = lines.iter().map(|line| line.ms).sum();
    lines.iter_mut().for_each(|line| line.share = line.ms / sum);
    lines.sort_by(|a, b| b.ms.total_cmp(&a.ms));
    lines
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}
