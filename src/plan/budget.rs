//! Finds the cheapest rematerialisation level whose plan fits into a memory budget.

use std::{fmt, str::FromStr};

use super::{MemoryPlan, Options, ladder, ladder::Level, plan};
use crate::graph::Graph;

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

/// What a program may use.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Budget {
    /// Bytes of the arena; none: as many as it takes.
    pub bytes: Option<usize>,
    /// How much may be computed again.
    pub rematerialise: Rematerialise,
}

/// A program with its layout, and what it cost to make it fit.
#[derive(Clone, Debug)]
pub struct Fitted {
    /// The graphs; the first is the training step, with copies of what it forgets.
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
    fn of(graph: &Graph) -> Self {
        Self { flops: graph.flops(), traffic: graph.traffic() }
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

    /// The layout of a program of which the first graph is at this level.
    fn new(level: &Level, others: &[Graph], plain: Work, options: Options) -> Self {
        let mut graphs = vec![level.graph.clone()];
        graphs.extend_from_slice(others);
        let plan = plan(&graphs, options);
        Self { graphs, plan, forgotten: level.forgotten.len(), work: Work::of(&level.graph), plain }
    }
}

fn percent(with: u64, without: u64) -> f64 {
    100.0 * (with as f64 / without.max(1) as f64 - 1.0)
}

/// Lays out a program whose first graph is a training step, so that it fits into the budget with as little work done
/// again as the ladder of levels allows.
///
/// # Errors
/// The smallest layout that was allowed, if it is too big.
///
/// # Panics
/// Without a graph.
pub fn fit(graphs: &[Graph], options: Options, budget: Budget) -> Result<Fitted, Box<TooMuch>> {
    let (training, others) = graphs.split_first().expect("a program has a training step");
    let bytes = budget.bytes.unwrap_or(usize::MAX);
    let plain = Work::of(training);
    let fits = |fitted: &Fitted| fitted.plan.total <= bytes;
    if matches!(budget.rematerialise, Rematerialise::Auto | Rematerialise::None) {
        let plan = plan(graphs, options);
        let fitted = Fitted { graphs: graphs.to_vec(), plan, forgotten: 0, work: plain, plain };
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

/// Every level of a program, laid out, without those that cost more than one before them and save nothing.
pub fn levels(graphs: &[Graph], options: Options) -> Vec<Fitted> {
    let (training, others) = graphs.split_first().expect("a program has a training step");
    let plain = Work::of(training);
    let mut kept: Vec<Fitted> = Vec::new();
    for level in ladder::ladder(training, options) {
        let fitted = Fitted::new(&level, others, plain, options);
        if kept.last().is_none_or(|best| fitted.plan.total < best.plan.total) {
            kept.push(fitted);
        }
    }
    kept
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
