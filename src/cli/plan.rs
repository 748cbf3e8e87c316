//! `gyrus plan`: what a training step will need, before it starts.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::{
    choice::choice,
    device::DeviceOptions,
    fuse::{FuseOptions, print_merged},
    given::{Given, Idle},
    memory::MemoryOptions,
    options::{NetworkOptions, OptimizerOptions},
};
use crate::{
    Result,
    files::{self, Existing},
    ops::dice::LossKind,
    plan::{Report, budget::Fitted, cards, page},
    run::{self, PlanRecipe, Planned},
    size,
};

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
    #[arg(long, value_parser = card, value_name = "NAME|SIZE", help_heading = "Device")]
    card: Option<String>,

    /// The loss
    #[arg(long, value_parser = choice::<LossKind>(), default_value = "log_dice")]
    loss: LossKind,

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

    /// Replace the page and the timeline if they are there already
    #[arg(long)]
    overwrite: bool,

    /// Write the timeline alone: time runs right, bytes rise, every value is a rectangle
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// Checks the name of a card while the line is parsed, where the table of names is at hand.
fn card(text: &str) -> Result<String, String> {
    size::parse(text).map(drop).or_else(|_| cards::find(text).map(drop)).map(|()| text.to_owned())
}

/// Runs the command.
pub fn run(options: Options, given: &Given) -> Result<()> {
    let existing = if options.overwrite { Existing::Replace } else { Existing::Keep };
    for path in [&options.html, &options.svg].into_iter().flatten().filter(|_| existing == Existing::Keep) {
        files::refuse_existing(path)?;
    }
    let planned = run::plan(&options.recipe())?;
    given.remark(&options.idle());
    let rates = planned.rates();
    let Planned { title, chosen, levels, report, merged, timeline, .. } = &planned;
    if let Some(path) = &options.svg {
        files::write(path, existing, |file| file.write_all(timeline.svg(title).as_bytes()))?;
    }
    if let Some(path) = &options.html {
        let page = page::html(title, report, chosen, levels, timeline, rates);
        files::write(path, existing, |file| file.write_all(page.as_bytes()))?;
    }
    if options.json {
        return super::output::print_json(&json(&planned));
    }
    print_table(report, chosen.plan.total)?;
    print_merged(merged)?;
    print_levels(&planned)
}

impl Options {
    fn recipe(&self) -> PlanRecipe {
        PlanRecipe {
            network: self.network.recipe(),
            optimizer: self.optimizer.recipe(),
            device: self.device.recipe(),
            memory: self.memory.recipe(None),
            card: self.card.clone(),
            loss: self.loss,
            train_batch_size: self.train_batch_size,
            val_batch_size: self.val_batch_size,
            fuse: self.fuse.fuse,
        }
    }

    /// What has no effect beside the other options.
    fn idle(&self) -> Vec<Idle> {
        let mut rows = vec![
            ("device", self.card.is_some(), "--card plans for a GPU that need not be here"),
            ("overwrite", self.html.is_none() && self.svg.is_none(), "only --html and --svg write files"),
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
}

fn json(planned: &Planned) -> serde_json::Value {
    let mut value = serde_json::to_value(&planned.report).expect("plain data");
    value["total_bytes"] = planned.chosen.plan.total.into();
    value["budget_bytes"] = planned.budget.into();
    value["card"] = planned.card.map(|card| card.name).into();
    value["rematerialised"] = level_json(&planned.chosen);
    value["merged"] = serde_json::to_value(&planned.merged).expect("plain data");
    let line = |level: &Fitted| {
        let mut line = level_json(level);
        line["total_bytes"] = level.plan.total.into();
        line["flops"] = level.work.flops.into();
        line["roofline_seconds"] = planned.rates().map(|rates| rates.step_seconds(level)).into();
        line["chosen"] = planned.is_chosen(level).into();
        line
    };
    value["levels"] = planned.levels.iter().map(line).collect();
    value["timeline"] = serde_json::to_value(&planned.timeline).expect("plain data");
    value
}

fn level_json(level: &Fitted) -> serde_json::Value {
    json!({
        "activations": level.forgotten,
        "offloaded": level.is_offloaded(),
        "extra_flops_percent": level.extra_flops_percent(),
        "extra_traffic_percent": level.extra_traffic_percent(),
    })
}

/// What less memory costs: one line per level of rematerialisation.
fn print_levels(planned: &Planned) -> Result<()> {
    let rates = planned.rates();
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
    for level in &planned.levels {
        let milliseconds = rates.map_or(0.0, |rates| 1e3 * rates.step_seconds(level));
        say!(
            "{:<28} {:<6} {:>9.0}{} {:>14.2} {:>14.2}{}",
            level.forgotten,
            if level.is_offloaded() { "host" } else { "device" },
            mib(level.plan.total),
            time(format!("{milliseconds:.1}")),
            level.extra_flops_percent(),
            level.extra_traffic_percent(),
            if planned.is_chosen(level) { "  <- chosen" } else { "" },
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
