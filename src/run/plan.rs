//! What a training step will need, before it starts and on devices that need not be here.

use serde::{Deserialize, Serialize};

use super::{DeviceRecipe, MemoryRecipe, NetworkRecipe, OptimizerRecipe, Recipe};
use crate::{
    Error, Result,
    fuse::Fuse,
    nn::{Precision, StepConfig},
    ops::{dice::LossKind, optimizer::Optimizer},
    plan::{
        self, Report,
        budget::{self, Fitted},
        cards::Card,
        roofline::Rates,
        timeline::Timeline,
    },
    session::Device,
    size,
    train::budget::{Limit, Merged, Run},
};

/// The budget when none is given: the memory of a large desktop GPU.
const BUDGET: usize = 24 << 30;

/// Everything that a plan is asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PlanRecipe {
    /// The network.
    pub network: NetworkRecipe,
    /// How weights are updated.
    pub optimizer: OptimizerRecipe,
    /// Where it would compute.
    pub device: DeviceRecipe,
    /// What may be used.
    pub memory: MemoryRecipe,
    /// A GPU that need not be here: its name, or the bytes that it has free.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub card: Option<String>,
    /// The loss.
    pub loss: LossKind,
    /// Samples per training step.
    pub train_batch_size: usize,
    /// Samples per validation pass.
    pub val_batch_size: usize,
    /// Whether operations are merged.
    pub fuse: Fuse,
}

impl Recipe for PlanRecipe {}

impl Default for PlanRecipe {
    fn default() -> Self {
        Self {
            network: NetworkRecipe::default(),
            optimizer: OptimizerRecipe::default(),
            device: DeviceRecipe::default(),
            memory: MemoryRecipe::default(),
            card: None,
            loss: LossKind::LogDice,
            train_batch_size: 1,
            val_batch_size: 1,
            fuse: Fuse::default(),
        }
    }
}

/// A training step, laid out.
#[derive(Clone, Debug)]
pub struct Planned {
    /// What was planned, in one line.
    pub title: String,
    /// The level of rematerialisation that is in force, with its layout.
    pub chosen: Fitted,
    /// All that no other beats in both memory and time.
    pub levels: Vec<Fitted>,
    /// Layers, roles, peak.
    pub report: Report,
    /// What merging operations saves.
    pub merged: Merged,
    /// Who owns which bytes when.
    pub timeline: Timeline,
    /// Bytes that there are.
    pub budget: Option<usize>,
    /// The named card.
    pub card: Option<Card>,
}

/// The GPU that a plan is for.
#[derive(Clone, Copy, Debug)]
enum Wanted {
    /// One of the table.
    Known(Card),
    /// Any, with this many bytes free.
    Bytes(usize),
}

impl Planned {
    /// What the named card can do.
    pub fn rates(&self) -> Option<&Rates> {
        self.card.as_ref().map(|card| &card.rates)
    }

    /// Whether this level is the one in force.
    pub fn is_chosen(&self, level: &Fitted) -> bool {
        let key = |level: &Fitted| (level.plan.total, level.work, level.plan.staged);
        key(level) == key(&self.chosen)
    }
}

/// Plans a training step: exactly what training will allocate.
///
/// # Errors
/// Settings that cannot work; a step that does not fit, with what would.
pub fn plan(recipe: &PlanRecipe) -> Result<Planned> {
    let network = recipe.network.config(recipe.device.precision, None, None);
    let extent = recipe.network.extent();
    network.check(extent)?;
    network.check_batch("train_batch_size", recipe.train_batch_size, extent)?;
    network.check_batch("val_batch_size", recipe.val_batch_size, extent)?;
    recipe.optimizer.check()?;
    let optimizer = Optimizer { rule: recipe.optimizer.rule(), clip: recipe.optimizer.clip_value };
    let training = StepConfig { network, batch: recipe.train_batch_size, extent, loss: recipe.loss, optimizer };
    let run = Run { training, validation_batch: recipe.val_batch_size, fuse: recipe.fuse };
    let wanted = recipe.wanted()?;
    let (layout, limit) = recipe.layout(wanted)?;
    let card = wanted.and_then(|wanted| if let Wanted::Known(card) = wanted { Some(card) } else { None });
    let chosen = run.fit(layout, limit)?;
    let graphs = run.graphs_for(layout.processor)?;
    let rates = card.map(|card| card.rates).unwrap_or_default();
    let [depth, width, height] = extent;
    Ok(Planned {
        title: format!(
            "{}, factor {}, {height}x{width}x{depth}, batch {}",
            network.architecture, network.resize_factor, training.batch
        ),
        levels: budget::levels(&graphs, layout, recipe.memory.offload, &rates),
        report: Report::new(&chosen.graphs, &chosen.plan, 0),
        merged: run.merged(layout)?,
        timeline: Timeline::new(&chosen.graphs, &chosen.plan, 0),
        budget: limit.budget.bytes,
        card,
        chosen,
    })
}

impl PlanRecipe {
    fn wanted(&self) -> Result<Option<Wanted>> {
        let Some(text) = &self.card else { return Ok(None) };
        let wanted = match size::parse(text) {
            Ok(bytes) => Wanted::Bytes(bytes),
            Err(_) => Wanted::Known(plan::cards::find(text).map_err(|cause| {
                Error::usage("card", cause, "give one of these, or the bytes that it has free, such as 11GiB")
            })?),
        };
        Ok(Some(wanted))
    }

    /// How it is laid out, and what there is.
    fn layout(&self, wanted: Option<Wanted>) -> Result<(plan::Options, Limit)> {
        let Some(card) = wanted else {
            let mut opened = self.device.open()?;
            self.memory.check(&opened.target)?;
            let limit = match opened.device {
                Device::Cuda(_) => self.memory.of_device(&mut opened.target)?,
                _ => self.memory.chosen(BUDGET),
            };
            return Ok((opened.target.options(), limit));
        };
        self.device.check()?;
        if self.device.device == Device::Cpu {
            return Err(Error::usage("card", "contradicts `device = cpu`", "leave one of them out"));
        }
        let free = match card {
            Wanted::Known(card) if card.compute < 80 && self.device.precision == Some(Precision::Bf16) => {
                let cause = format!("{} does not compute in bf16", card.name);
                return Err(Error::usage("precision", cause, "use `precision = fp16`"));
            }
            Wanted::Known(card) => card.free_bytes(),
            Wanted::Bytes(bytes) => bytes,
        };
        Ok((plan::Options::for_gpu(), self.memory.of_card(free)))
    }
}
