//! Finds the cheapest rematerialisation level whose plan fits into a memory budget.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{MemoryPlan, Options, ladder, ladder::Level, plan, roofline::Rates};
use crate::{
    graph::{Graph, split_optimizer},
    lowering::Processor,
    rematerialise::Forgotten,
};

/// How much may be computed again.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Rematerialise {
    /// As little as the budget allows.
    #[default]
    Auto,
    /// Nothing.
    None,
    /// As little as gives this share of the memory that `Full` would save.
    Fraction(f64),
    /// Whatever brings the peak down.
    Full,
}

/// What may live on the host between the steps in which it is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Offload {
    /// Optimizer state, if that is faster than computing again what would not fit beside it. Never on the CPU.
    #[default]
    Auto,
    /// Nothing.
    None,
    /// Optimizer state.
    Optimizer,
}

/// What a program may use.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Budget {
    /// Bytes of the arena; none: as many as it takes.
    pub bytes: Option<usize>,
    /// How much may be computed again.
    pub rematerialise: Rematerialise,
    /// What may live on the host.
    pub offload: Offload,
}

/// A program with its layout, and what it cost to make it fit.
#[derive(Clone, Debug)]
pub struct Fitted {
    /// The graphs; the first is the training step, with copies of what it forgets. If optimizer state is on the host, the
    /// last is the optimizer, which the first lacks.
    pub graphs: Vec<Graph>,
    /// Their layout.
    pub plan: MemoryPlan,
    /// Number of activations that are computed again.
    pub forgotten: usize,
    /// What a step costs.
    pub work: Work,
    /// What it costs when everything is kept.
    pub plain: Work,
}

/// What a step costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// Floating-point operations.
    pub flops: u64,
    /// Bytes moved.
    pub traffic: u64,
}

impl Work {
    /// Of a training step in one graph, or in two.
    fn of(graphs: &[&Graph]) -> Self {
        let sum = |of: fn(&Graph) -> u64| graphs.iter().map(|graph| of(graph)).sum();
        Self { flops: sum(Graph::flops), traffic: sum(Graph::traffic) }
    }
}

/// The least that a program could be brought to under its options is still too much.
#[derive(Clone, Debug)]
pub struct TooMuch {
    /// What it came to.
    pub least: Fitted,
    /// What there is.
    pub budget: usize,
}

impl Fitted {
    /// Operations done again, in percent of those of a step that forgets nothing.
    pub fn extra_flops_percent(&self) -> f64 {
        percent(self.work.flops, self.plain.flops)
    }

    /// Bytes moved again, in percent of those of a step that forgets nothing.
    pub fn extra_traffic_percent(&self) -> f64 {
        percent(self.work.traffic, self.plain.traffic)
    }

    /// Whether optimizer state is on the host.
    pub fn is_offloaded(&self) -> bool {
        self.plan.staged.is_some()
    }

    /// The layout of a program of which the first graph is at this level.
    fn new(level: &Level, others: &[Graph], plain: Work, options: Options) -> Self {
        let mut graphs = vec![level.graph.clone()];
        graphs.extend_from_slice(others);
        let plan = plan(&graphs, options);
        let update = plan.staged.map(|staged| &graphs[staged.entry]);
        let work = Work::of(&[&level.graph].into_iter().chain(update).collect::<Vec<_>>());
        Self { graphs, plan, forgotten: level.forgotten.len(), work, plain }
    }
}

/// The same program with its optimizer in a graph of its own behind the others, and the layout of its state on the host.
fn offloaded(graphs: &[Graph], options: Options) -> (Vec<Graph>, Options) {
    let (training, others) = graphs.split_first().expect("a program has a training step");
    let [step, update] = split_optimizer(training);
    let graphs = [step].into_iter().chain(others.iter().cloned()).chain([update]).collect();
    (graphs, Options { offload: true, ..options })
}

fn percent(with: u64, without: u64) -> f64 {
    100.0 * (with as f64 / without.max(1) as f64 - 1.0)
}

/// Lays out a program whose first graph is a training step, so that it fits into the budget and takes as little time as that
/// allows.
///
/// # Errors
/// The smallest layout that was allowed, if it is too big.
///
/// # Panics
/// Without a graph. If optimizer state is to be on the host and the host is where the program runs.
pub fn fit(graphs: &[Graph], options: Options, budget: Budget) -> Result<Fitted, Box<TooMuch>> {
    let may_offload = options.processor == Processor::Gpu;
    assert!(may_offload || budget.offload != Offload::Optimizer, "the CPU's state is on the host as it is");
    let elsewhere = || {
        let (graphs, options) = offloaded(graphs, options);
        fit_here(&graphs, options, budget)
    };
    if budget.offload == Offload::Optimizer {
        return elsewhere();
    }
    let here = fit_here(graphs, options, budget);
    let is_plain = here.as_ref().is_ok_and(|fitted| fitted.forgotten == 0);
    if is_plain || !may_offload || budget.offload == Offload::None {
        return here;
    }
    let rates = Rates::default();
    match (here, elsewhere()) {
        (Ok(here), Ok(there)) if rates.step_seconds(&there) < rates.step_seconds(&here) => Ok(there),
        (Ok(here), _) => Ok(here),
        (Err(_), there) => there,
    }
}

/// The same with optimizer state where the options say.
fn fit_here(graphs: &[Graph], options: Options, budget: Budget) -> Result<Fitted, Box<TooMuch>> {
    let (training, others) = graphs.split_first().expect("a program has a training step");
    let bytes = budget.bytes.unwrap_or(usize::MAX);
    let fits = |fitted: &Fitted| fitted.plan.total <= bytes;
    let kept = || Level { forgotten: Forgotten::default(), graph: training.clone(), lower_bound: 0 };
    let plain = plain_work(training, others, options);
    if matches!(budget.rematerialise, Rematerialise::Auto | Rematerialise::None) {
        let fitted = Fitted::new(&kept(), others, plain, options);
        if fits(&fitted) {
            return Ok(fitted);
        }
        if budget.rematerialise == Rematerialise::None {
            return Err(Box::new(TooMuch { least: fitted, budget: bytes }));
        }
    }
    let levels = ladder::ladder(training, options);
    let at = |index: usize| Fitted::new(&levels[index], others, plain, options);
    let last = levels.len() - 1;
    let fitted = match budget.rematerialise {
        Rematerialise::Auto | Rematerialise::None => {
            // Everything but the transient bytes is the same at all levels, and lower bounds fall from level to level: what
            // lies below the first whose bound fits need not be laid out.
            let full = at(last);
            let fixed = full.plan.persistent_bytes;
            let first = levels.partition_point(|level| fixed.saturating_add(level.lower_bound) > bytes);
            (first..last).map(at).find(fits).unwrap_or(full)
        }
        Rematerialise::Fraction(share) => at(level_of(&levels, share)),
        Rematerialise::Full => at(last),
    };
    if fits(&fitted) { Ok(fitted) } else { Err(Box::new(TooMuch { least: fitted, budget: bytes })) }
}

/// What a step costs when everything is kept.
fn plain_work(training: &Graph, others: &[Graph], options: Options) -> Work {
    let update = others.last().filter(|_| options.offload);
    Work::of(&[training].into_iter().chain(update).collect::<Vec<_>>())
}

/// Every way to run a program that this choice of offloading allows, laid out, without those that save nothing over one that
/// is faster by these rates: from the fastest to the smallest.
pub fn levels(graphs: &[Graph], options: Options, offload: Offload, rates: &Rates) -> Vec<Fitted> {
    let mut all = Vec::new();
    if offload != Offload::Optimizer {
        all = levels_here(graphs, options);
    }
    if offload == Offload::Optimizer || (offload == Offload::Auto && options.processor == Processor::Gpu) {
        let (graphs, options) = offloaded(graphs, options);
        all.extend(levels_here(&graphs, options));
    }
    // Stable: of two that take the same time, the one with its state on the device comes first.
    all.sort_by(|a, b| rates.step_seconds(a).total_cmp(&rates.step_seconds(b)).then(a.plan.total.cmp(&b.plan.total)));
    let mut least = usize::MAX;
    all.retain(|fitted| {
        let saves = fitted.plan.total < least;
        least = least.min(fitted.plan.total);
        saves
    });
    all
}

fn levels_here(graphs: &[Graph], options: Options) -> Vec<Fitted> {
    let (training, others) = graphs.split_first().expect("a program has a training step");
    let plain = plain_work(training, others, options);
    let levels = ladder::ladder(training, options);
    levels.iter().map(|level| Fitted::new(level, others, plain, options)).collect()
}

/// The first level that gives this share of what the last one saves.
fn level_of(levels: &[Level], share: f64) -> usize {
    let (most, least) = (levels[0].lower_bound as f64, levels[levels.len() - 1].lower_bound as f64);
    let wanted = most - share * (most - least);
    levels.iter().position(|level| level.lower_bound as f64 <= wanted).unwrap_or(levels.len() - 1)
}

impl FromStr for Rematerialise {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "none" => Ok(Self::None),
            "full" => Ok(Self::Full),
            _ => match text.parse::<f64>() {
                Ok(share) if (0.0..=1.0).contains(&share) => Ok(Self::Fraction(share)),
                _ => Err("give auto, none, full or a number from 0 to 1".to_owned()),
            },
        }
    }
}

impl fmt::Display for Rematerialise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::None => f.write_str("none"),
            Self::Fraction(share) => write!(f, "{share}"),
            Self::Full => f.write_str("full"),
        }
    }
}
