//! The README's table of memory: planned bytes of the seed default, held to their goals, beside what autograd would keep.
//!
//!     cargo test --release --test memory_table -- --nocapture
//!
//! `GYRUS_UPDATE_DOCS=1` corrects the table.

mod common;

use common::document::{correct, rows};
use gyrus::{
    fuse::Fuse,
    graph::{Graph, Role, Stage},
    nn::{Precision, StepConfig, UNetConfig, record_training},
    ops::{
        dice::LossKind,
        optimizer::{Optimizer, Rule},
    },
    plan::{
        Options,
        budget::{self, Fitted, Offload},
        roofline::Rates,
    },
    train::budget::Run,
};

const GIB: f64 = (1u64 << 30) as f64;

fn training(resize_factor: usize, batch: usize, precision: Precision) -> StepConfig {
    let network = UNetConfig { resize_factor, precision, ..UNetConfig::default() };
    assert_eq!((network.channels, network.classes), (4, 4));
    let rule = Rule::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-7, amsgrad: false };
    let optimizer = Optimizer { rule, clip: 50.0 };
    StepConfig { network, batch, extent: [160, 240, 240], loss: LossKind::LogDice, optimizer }
}

/// The least that a framework with automatic differentiation, one operation after the other, has on the device when the
/// forward pass ends: the results that the derivatives read, the pooling's positions in 64 bits, weights, their gradients and
/// two moments, and one batch. Gradients of activations, workspaces, the loss and gaps between allocations come on top.
fn kept_by_autograd(graph: &Graph) -> usize {
    let is_kept = |id| {
        let value = graph.value(id);
        let made = value.producer.is_some_and(|node| is_forward(graph, node));
        let read = graph.nodes.iter().any(|node| node.stage == Stage::Backward && node.inputs.contains(&id));
        value.role == Role::Activation && made && read
    };
    let kept: usize = graph.ids().filter(|&id| is_kept(id)).map(|id| graph.value(id).spec.bytes()).sum();
    let pools = graph.nodes.iter().filter(|node| node.stage == Stage::Forward && node.op.kind() == "max_pool");
    let positions: usize = pools.map(|node| 8 * graph.value(node.outputs[0]).spec.shape.elements()).sum();
    let lasting =
        graph.ids().map(|id| graph.value(id)).filter(|value| value.role.is_persistent() && value.updates.is_none());
    kept + positions + lasting.map(|value| value.spec.bytes()).sum::<usize>()
}

fn is_forward(graph: &Graph, node: gyrus::graph::NodeId) -> bool {
    let made = |other: &&gyrus::graph::Node| other.outputs.iter().any(|&id| graph.value(id).producer == Some(node));
    graph.nodes.iter().find(made).is_some_and(|node| node.stage == Stage::Forward)
}

/// The bytes of everything kept, of nothing computed again that takes arithmetic, of at most 5 % more, and of the least.
fn levels(training: StepConfig) -> [f64; 4] {
    let run = Run { training, validation_batch: training.batch, fuse: Fuse::Auto };
    let options = Options::for_gpu();
    let graphs = run.graphs_for(options.processor).unwrap();
    let levels = budget::levels(&graphs, options, Offload::None, &Rates::default());
    let within = |percent: f64| levels.iter().rev().find(|level| level.extra_flops_percent() <= percent).unwrap();
    let gib = |level: &Fitted| level.plan.total as f64 / GIB;
    [gib(&levels[0]), gib(within(0.0)), gib(within(5.0)), gib(levels.last().unwrap())]
}

#[test]
fn the_seed_default_stays_within_its_goals() {
    let header = "| factor | batch | precision | autograd keeps | Gyrus, everything kept | no arithmetic added | at most 5 % | least |";
    println!("{header}");
    let mut table = Vec::new();
    let mut found = Vec::new();
    for (factor, batch) in [(2, 1), (2, 2), (1, 1), (1, 2)] {
        for precision in [Precision::Fp32, Precision::Bf16] {
            let training = training(factor, batch, precision);
            let autograd = kept_by_autograd(&record_training(&training).unwrap()) as f64 / GIB;
            let [none, cheap, little, full] = levels(training);
            table.push(format!(
                "| {factor} | {batch} | {precision} | {autograd:.2} | {none:.2} | {cheap:.2} | {little:.2} | {full:.2} |"
            ));
            println!("{}", table.last().unwrap());
            assert!(none < autograd, "keeping everything takes no more than autograd keeps");
            found.push(((factor, batch, precision), none, cheap, full));
        }
    }
    let stands = rows("README.md", header);
    assert_eq!(stands.len(), table.len(), "README.md has another table");
    correct("README.md", &stands.into_iter().zip(table).collect::<Vec<_>>());
    let of = |key| found.iter().find(|(other, ..)| *other == key).unwrap();
    let (_, none, _, full) = of((2, 1, Precision::Bf16));
    assert!(*none <= 6.0 && *full <= 3.5, "factor 2, bf16: {none} and {full}");
    let (_, none, _, full) = of((1, 1, Precision::Bf16));
    assert!(*none <= 12.0 && *full <= 7.0, "factor 1, bf16: {none} and {full}");
    let (_, none, ..) = of((1, 2, Precision::Bf16));
    assert!(*none <= 24.0, "factor 1, batch 2, bf16: {none}");
    let (_, _, cheap, _) = of((2, 1, Precision::Fp32));
    assert!(*cheap <= 10.5, "factor 2, fp32: {cheap} with no arithmetic added");
}
