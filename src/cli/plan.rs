//! `gyrus plan`: what a training step will need, before it starts.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::{
    device::{Device, DeviceOptions},
    fuse::{FuseOptions, print_merged},
    given::{Given, Idle},
    memory::MemoryOptions,
    options::{LossName, NetworkOptions, OptimizerOptions},
};
use crate::{
    Error, Result,
    files::{self, Existing},
    nn::{Precision, StepConfig},
    ops::optimizer::Optimizer,
    plan::{
        self, Report,
        budget::{self, Fitted},
        cards::{self, Card},
        page,
        roofline::Rates,
        timeline::Timeline,
    },
    size,
    train::budget::{Limit, Run},
};

/// The budget when none is given: the memory of a large desktop GPU.
const BUDGET: usize = 24 << 30;

/// Show parameters, work and memory of a training step for any extents: exactly what training will allocate.
///
/// With too little memory for everything, activations are forgotten and computed again (--rematerialise); what cannot fit
/// even so is refused, with the nearest runs that would.
///
/// JSON keys: parameters, flops, peak_bytes, transient_bytes, transient_lower_bound, peak_at, roles, layers, total_bytes,
/// budget_bytes; card: name or null; rematerialised {activations, offloaded, extra_flops_percent, extra_traffic_percent};
/// merged {patterns: a list of {name, count}, before and after: {passes, traffic_bytes, total_bytes}}; levels: a list of
/// {activations, offloaded, total_bytes, flops, extra_flops_percent, extra_traffic_percent, roofline_seconds (null without
/// a named card), chosen}; timeline {steps: a list of {name, stage, flops, traffic, start, end}, blocks: a list of {name,
/// kind, offset, bytes, first, last}, peak_bytes, peak_node}, where start and end are shares of the predicted time, first
/// and last count steps.
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    network: NetworkOptions,
    #[command(flatten)]
    optimizer: OptimizerOptions,
    #[command(flatten)]
    device: DeviceOptions,
    #[command(flatten)]
    fuse: FuseOptions,
    #[command(flatten)]
    memory: MemoryOptions,

    /// Plan for a GPU that need not be here: its name (rtx3090, h200, ...; a wrong one lists all) or the bytes that it has
    /// free (11GiB). Without it the layout is that of the CPU device
    #[arg(long, value_parser = target, value_name = "NAME|SIZE", help_heading = "Device")]
    card: Option<CardName>,

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

    /// Write a page with the timeline and the tables
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,

    /// Write the timeline alone: time runs right, bytes rise, every value is a rectangle
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// The GPU that a plan is for.
#[derive(Clone, Copy, Debug)]
enum CardName {
    /// One of the table.
    Known(Card),
    /// Any, with this many bytes free.
    Bytes(usize),
}

fn target(text: &str) -> Result<CardName, String> {
    match size::parse(text) {
        Ok(bytes) => Ok(CardName::Bytes(bytes)),
        Err(_) => cards::find(text).map(CardName::Known),
    }
}

impl CardName {
    fn free_bytes(&self) -> usize {
        match self {
            Self::Known(card) => card.free_bytes(),
            Self::Bytes(bytes) => *bytes,
        }
    }

    fn rates(&self) -> Option<&Rates> {
        match self {
            Self::Known(card) => Some(&card.rates),
            Self::Bytes(_) => None,
        }
    }

    fn name(&self) -> Option<&'static str> {
        match self {
            Self::Known(card) => Some(card.name),
            Self::Bytes(_) => None,
        }
    }
}

/// Runs the command.
pub fn run(options: Options, given: &Given) -> Result<()> {
    let network = options.network.network(options.device.precision, None, None);
    let extent = options.network.extent();
    network.check(extent)?;
    network.check_batch("--train-batch-size", options.train_batch_size, extent)?;
    network.check_batch("--val-batch-size", options.val_batch_size, extent)?;
    options.optimizer.check()?;
    let training = StepConfig {
        network,
        batch: options.train_batch_size,
        extent,
        loss: options.loss.into(),
        optimizer: Optimizer { rule: options.optimizer.rule(), clip: options.optimizer.clip_value },
    };
    let run = Run { training, validation_batch: options.val_batch_size, fuse: options.fuse.fuse };
    let (layout, limit) = options.target()?;
    given.remark(&options.idle());
    let rates = options.card.as_ref().and_then(CardName::rates);
    let chosen = run.fit(layout, limit)?;
    let graphs = run.graphs_for(layout.target)?;
    let levels = budget::levels(&graphs, layout, options.memory.offload(), &rates.copied().unwrap_or_default());
    let merged = run.merged(layout)?;
    let report = Report::new(&chosen.graphs, &chosen.plan, 0);
    let timeline = Timeline::new(&chosen.graphs, &chosen.plan, 0);

    let [depth, width, height] = extent;
    let title = format!(
        "{}, factor {}, {height}x{width}x{depth}, batch {}",
        network.architecture, network.resize_factor, training.batch
    );
    if let Some(path) = &options.svg {
        files::write(path, Existing::Replace, |file| file.write_all(timeline.svg(&title).as_bytes()))?;
    }
    if let Some(path) = &options.html {
        let page = page::html(&title, &report, &chosen, &levels, &timeline, rates);
        files::write(path, Existing::Replace, |file| file.write_all(page.as_bytes()))?;
    }
    if options.json {
        let mut value = serde_json::to_value(&report).expect("plain data");
        value["total_bytes"] = chosen.plan.total.into();
        value["budget_bytes"] = limit.budget.bytes.into();
        value["card"] = options.card.as_ref().and_then(CardName::name).into();
        value["rematerialised"] = level_json(&chosen);
        value["merged"] = serde_json::to_value(&merged).expect("plain data");
        let line = |level: &Fitted| {
            let mut line = level_json(level);
            line["total_bytes"] = level.plan.total.into();
            line["flops"] = level.work.flops.into();
            line["roofline_seconds"] = rates.map(|rates| rates.step_seconds(level)).into();
            line["chosen"] = is_same(level, &chosen).into();
            line
        };
        value["levels"] = levels.iter().map(line).collect();
        value["timeline"] = serde_json::to_value(&timeline).expect("plain data");
        super::output::print_json(&value)?;
        return Ok(());
    }
    print_table(&report, chosen.plan.total)?;
    print_merged(&merged)?;
    print_levels(&levels, &chosen, rates)
}

impl Options {
    /// What has no effect beside the other options.
    fn idle(&self) -> Vec<Idle> {
        let mut rows = vec![
            ("device", self.card.is_some(), "--card plans for a GPU that need not be here"),
            ("threads", self.card.is_some(), "--card plans for a GPU that need not be here"),
        ];
        // Options as those of a training that is planned, so that its command line need not be rewritten.
        let numbers = ["unet-dropout-rate", "momentum", "epsilon", "clip-value"].map(|option| (option, true));
        let switches = [("use-nesterov-sgd", self.optimizer.use_nesterov_sgd)];
        rows.extend(
            numbers
                .into_iter()
                .chain(switches)
                .map(|(option, is_idle)| (option, is_idle, "neither memory nor work depend on it")),
        );
        rows.extend(self.optimizer.idle().into_iter().filter(|(option, ..)| *option == "use-amsgrad-adam"));
        rows
    }

    /// What is planned for, and what there is.
    fn target(&self) -> Result<(plan::Options, Limit)> {
        let Some(card) = &self.card else {
            let mut device = self.device.open()?;
            self.memory.check(&device.runs_on)?;
            let limit = match device.device {
                Device::Cuda(_) => self.memory.of_device(&mut device.runs_on)?,
                _ => self.memory.chosen(BUDGET),
            };
            return Ok((device.runs_on.options(), limit));
        };
        self.device.check()?;
        if self.device.device == Device::Cpu {
            return Err(Error::usage("--card", "contradicts --device cpu", "leave one of them out"));
        }
        if let CardName::Known(card) = card
            && card.compute < 80
            && self.device.precision == Some(Precision::Bf16)
        {
            let cause = format!("{} does not compute in bf16", card.name);
            return Err(Error::usage("--precision", cause, "use --precision fp16"));
        }
        Ok((plan::Options::for_gpu(), self.memory.of_card(card.free_bytes())))
    }
}

fn level_json(level: &Fitted) -> serde_json::Value {
    json!({
        "activations": level.forgotten,
        "offloaded": level.is_offloaded(),
        "extra_flops_percent": level.extra_flops_percent(),
        "extra_traffic_percent": level.extra_traffic_percent(),
    })
}

fn is_same(level: &Fitted, chosen: &Fitted) -> bool {
    (level.plan.total, level.work, level.plan.staged) == (chosen.plan.total, chosen.work, chosen.plan.staged)
}

/// What less memory costs: one line per level of rematerialisation.
fn print_levels(levels: &[Fitted], chosen: &Fitted, rates: Option<&Rates>) -> Result<()> {
    let time = |text: String| if rates.is_some() { format!(" {text:>14}") } else { String::new() };
    say!("");
    say!(
        "{:<28} {:<6} {:>9}{} {:>14} {:>14}",
        "activations computed again",
        "state",
        "MiB",
        time("ms at peak".to_owned()),
        "extra FLOP %",
        "extra bytes %"
    );
    for level in levels {
        let milliseconds = rates.map_or(0.0, |rates| 1e3 * rates.step_seconds(level));
        say!(
            "{:<28} {:<6} {:>9.0}{} {:>14.2} {:>14.2}{}",
            level.forgotten,
            if level.is_offloaded() { "host" } else { "device" },
            mib(level.plan.total),
            time(format!("{milliseconds:.1}")),
            level.extra_flops_percent(),
            level.extra_traffic_percent(),
            if is_same(level, chosen) { "  <- chosen" } else { "" },
        );
    }
    if rates.is_some() {
        say!(
            "ms at peak: each operation at the card's peak arithmetic or bandwidth, whichever binds; no run is faster"
        );
    }
    Ok(())
}

fn print_table(report: &Report, total: usize) -> Result<()> {
    say!("{:<34} {:>22} {:>14} {:>14} {:>12}", "layer", "output", "forward GFLOP", "backward GFLOP", "MiB");
    for layer in &report.layers {
        let giga = |flops: u64| if flops == 0 { String::new() } else { format!("{:.3}", flops as f64 / 1e9) };
        say!(
            "{:<34} {:>22} {:>14} {:>14} {:>12.2}",
            layer.layer,
            layer.output.trim_end_matches(" fp32"),
            giga(layer.forward_flops),
            giga(layer.backward_flops),
            mib(layer.activation_bytes),
        );
    }
    say!("");
    say!("{:<34} {:>10} {:>14}", "bytes by role", "values", "MiB");
    for line in &report.roles {
        say!("{:<34} {:>10} {:>14.2}", line.role, line.values, mib(line.bytes));
    }
    say!("");
    say!("parameters    {}", report.parameters);
    say!("work          {:.1} GFLOP per step", report.flops as f64 / 1e9);
    say!("peak          {:.2} MiB, at {}", mib(report.peak_bytes), report.peak_at);
    say!(
        "transient     {:.2} MiB; no layout can be below {:.2} MiB",
        mib(report.transient_bytes),
        mib(report.transient_lower_bound),
    );
    say!("allocated     {:.2} MiB, with the validation pass in the same arena", mib(total));
    Ok(())
}

fn mib(bytes: usize) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
