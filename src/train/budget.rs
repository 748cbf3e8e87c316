//! Fits a training run into memory before it starts, or says in one sentence what would fit.

use serde::Serialize;

use crate::{
    Error, Result,
    fuse::{Fuse, PATTERNS, fuse_with, passes},
    graph::Graph,
    lowering::Processor,
    nn::{Precision, StepConfig, feed_raw, record_training, record_validation},
    plan::{
        Options,
        budget::{self, Budget, Fitted, Offload, Rematerialise, TooMuch},
        plan,
    },
    size::bytes,
};

/// What a run may use, and how the user knows that number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limit {
    /// Bytes, and how much may be computed again.
    pub budget: Budget,
    /// What the bytes are called in a refusal, such as `the budget is`.
    pub name: &'static str,
}

/// What merging operations saves.
#[derive(Clone, Debug, Serialize)]
pub struct Merged {
    /// How often each pattern was applied to the training step.
    pub patterns: Vec<PatternLine>,
    /// As recorded.
    pub before: Moved,
    /// As it runs.
    pub after: Moved,
}

/// A pattern and how often it was applied.
#[derive(Clone, Debug, Serialize)]
pub struct PatternLine {
    /// Its name.
    pub name: &'static str,
    /// How often.
    pub count: usize,
}

/// What a training step moves and holds.
#[derive(Clone, Debug, Serialize)]
pub struct Moved {
    /// How often an operation reads or writes an activation or a gradient of one from end to end.
    pub passes: usize,
    /// Bytes of all operands, each counted once per operation.
    pub traffic_bytes: u64,
    /// Bytes of the arena, with the validation pass.
    pub total_bytes: usize,
}

/// A training step and a validation pass over the same network.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// The training step.
    pub training: StepConfig,
    /// The validation pass: like the training step but for its batch.
    pub validation_batch: usize,
    /// Whether operations are merged.
    pub fuse: Fuse,
}

impl Run {
    /// The program: training step, validation pass.
    ///
    /// # Errors
    /// If the extents do not fit the network.
    pub fn graphs(&self) -> Result<Vec<Graph>> {
        let validation = StepConfig { batch: self.validation_batch, ..self.training };
        Ok(vec![record_training(&self.training)?, record_validation(&validation)?])
    }

    /// What merging operations saves in a training step, with nothing computed again.
    ///
    /// # Errors
    /// If the extents do not fit the network.
    pub fn merged(&self, options: Options) -> Result<Merged> {
        let plain = Self { fuse: Fuse::None, ..*self }.graphs_for(options.processor)?;
        let merged = self.graphs_for(options.processor)?;
        let counts = match self.fuse {
            Fuse::Auto => fuse_with(&record_training(&self.training)?, options.processor, &PATTERNS).1,
            Fuse::None => vec![0; PATTERNS.len()],
        };
        let patterns = PATTERNS.iter().zip(counts).map(|(pattern, count)| PatternLine { name: pattern.name, count });
        let moved = |graphs: &[Graph]| Moved {
            passes: passes(&graphs[0]),
            traffic_bytes: graphs[0].traffic(),
            total_bytes: plan(graphs, options).total,
        };
        Ok(Merged { patterns: patterns.collect(), before: moved(&plain), after: moved(&merged) })
    }

    /// The program as it is laid out for this kind of device, with operations merged if they shall be. On a GPU a
    /// step begins with the augmentation of its batch, so that the next one can be uploaded during the rest of it.
    ///
    /// # Errors
    /// If the extents do not fit the network.
    pub fn graphs_for(&self, processor: Processor) -> Result<Vec<Graph>> {
        let graphs = self.graphs()?.into_iter().map(|graph| self.fuse.apply(graph, processor));
        Ok(match processor {
            Processor::Cpu { .. } => graphs.collect(),
            Processor::Gpu => graphs.map(feed_raw).collect(),
        })
    }

    /// Lays the run out within the limit, with as little computed again as that takes.
    ///
    /// # Errors
    /// [`Error::Memory`] with what it needs, what there is, and the nearest runs that fit, each of them laid out.
    pub fn fit(&self, options: Options, limit: Limit) -> Result<Fitted> {
        let refusal = match budget::fit(&self.graphs_for(options.processor)?, options, limit.budget) {
            Ok(fitted) => return Ok(fitted),
            Err(refusal) => refusal,
        };
        let TooMuch { least, budget } = *refusal;
        let (needs, has) = distinguishable(least.plan.total, budget);
        let alternatives = self.alternatives(options, limit.budget);
        let advice = if alternatives.is_empty() {
            "nothing smaller fits either: raise `memory_budget`".to_owned()
        } else {
            let fits = |(change, needs): &(String, usize)| format!("{change} fits in {}", bytes(*needs));
            alternatives.iter().map(fits).collect::<Vec<_>>().join("; ")
        };
        Err(Error::Memory { cause: format!("memory: needs {needs}, {} {has}", limit.name), advice })
    }

    /// Changes that would make the run fit, nearest first within each kind, with the bytes that each comes to.
    pub fn alternatives(&self, options: Options, budget: Budget) -> Vec<(String, usize)> {
        let needs = |run: &Self, budget| {
            let graphs = run.graphs_for(options.processor).ok()?;
            budget::fit(&graphs, options, budget).ok().map(|fitted| fitted.plan.total)
        };
        let mut list = Vec::new();
        if matches!(budget.rematerialise, Rematerialise::None | Rematerialise::Fraction(_)) {
            let full = Budget { rematerialise: Rematerialise::Full, ..budget };
            list.extend(needs(self, full).map(|bytes| ("`rematerialise = full`".to_owned(), bytes)));
        }
        if budget.offload == Offload::None && options.processor == Processor::Gpu {
            let optimizer = Budget { offload: Offload::Optimizer, ..budget };
            list.extend(needs(self, optimizer).map(|bytes| ("`offload = optimizer`".to_owned(), bytes)));
        }
        if self.training.network.precision == Precision::Fp32 {
            // fp16, which every GPU has that there are kernels for; bf16 takes the same.
            let mut narrow = *self;
            narrow.training.network.precision = Precision::Fp16;
            list.extend(needs(&narrow, budget).map(|bytes| ("`precision = fp16`".to_owned(), bytes)));
        }
        // A change that another one makes as well is kept out of it: each is the smallest of its own kind.
        let mut first_that_fits = |runs: Vec<(String, Self)>| {
            let at = runs.partition_point(|(_, run)| needs(run, budget).is_none());
            list.extend(runs.into_iter().nth(at).and_then(|(name, run)| Some((name, needs(&run, budget)?))));
        };
        first_that_fits(self.smaller_batches());
        first_that_fits(self.smaller_extents());
        first_that_fits(self.fewer_filters());
        list
    }

    fn smaller_batches(&self) -> Vec<(String, Self)> {
        let largest = self.training.batch.max(self.validation_batch);
        let smaller = |most: usize| {
            let training = StepConfig { batch: self.training.batch.min(most), ..self.training };
            let run = Self { training, validation_batch: self.validation_batch.min(most), ..*self };
            let mut changes = Vec::new();
            if training.batch != self.training.batch {
                changes.push(format!("`train_batch_size = {most}`"));
            }
            if run.validation_batch != self.validation_batch {
                changes.push(format!("`val_batch_size = {most}`"));
            }
            (changes.join(" "), run)
        };
        (1..largest).rev().map(smaller).collect()
    }

    /// The largest extents shrink first, by the 16 that the network's levels ask for.
    fn smaller_extents(&self) -> Vec<(String, Self)> {
        let shrink = |extent: &[usize; 3]| {
            let largest = *extent.iter().max()?;
            (largest > 16).then(|| extent.map(|axis| if axis == largest { axis - 16 } else { axis }))
        };
        std::iter::successors(shrink(&self.training.extent), shrink)
            .map(|extent| {
                // In the order of the file's axes, as the options name them: height, width, depth.
                let [depth, width, height] = extent;
                let training = StepConfig { extent, ..self.training };
                (format!("{height}x{width}x{depth}"), Self { training, ..*self })
            })
            .collect()
    }

    fn fewer_filters(&self) -> Vec<(String, Self)> {
        (self.training.network.resize_factor + 1..=32)
            .map(|factor| {
                let mut training = self.training;
                training.network.resize_factor = factor;
                (format!("`unet_resize_factor = {factor}`"), Self { training, ..*self })
            })
            .collect()
    }
}

/// Two numbers of bytes as text; exact where rounding would make them look alike.
fn distinguishable(a: usize, b: usize) -> (String, String) {
    let (rounded_a, rounded_b) = (bytes(a), bytes(b));
    if rounded_a == rounded_b { (format!("{a} bytes"), format!("{b} bytes")) } else { (rounded_a, rounded_b) }
}
