//! What the training steps that are measured against other engines (`benches/peers`) must do at the least on a CPU, counted:
//! passes over memory, operations and bytes moved. They depend on the graph and its fusions alone, so they guard the step's
//! time where no clock can be trusted. `GYRUS_UPDATE_COUNTERS=1` writes the table anew.

use std::collections::BTreeMap;

use gyrus::{
    fuse::Fuse,
    nn::{Architecture, Precision, StepConfig, UNetConfig},
    ops::{
        dice::LossKind,
        optimizer::{Optimizer, Rule},
    },
    plan::{Options, budget::Budget},
    train::budget::{Limit, Run},
};

const TABLE: &str = "benches/cpu_step.txt";

/// What is run, and the most memory that its arena may take, in GB: with the program itself and its stacks, that keeps the
/// process below what is asked of it (0.35 GB and 0.75 GB).
const STEPS: [(&str, Step, f64); 2] = [
    ("A", Step { extent: [48, 64, 48], channels: 1, classes: 3, resize_factor: 4 }, 0.30),
    ("B", Step { extent: [64, 64, 64], channels: 4, classes: 4, resize_factor: 2 }, 0.70),
];

#[derive(Clone, Copy)]
struct Step {
    extent: [usize; 3],
    channels: usize,
    classes: usize,
    resize_factor: usize,
}

impl Step {
    fn run(self, precision: Precision) -> Run {
        let Step { extent, channels, classes, resize_factor } = self;
        let architecture = Architecture::Conv3dTransposeBatchNormalization;
        let network = UNetConfig { architecture, channels, classes, resize_factor, precision, ..UNetConfig::default() };
        let rule = Rule::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-7, amsgrad: false };
        let optimizer = Optimizer { rule, clip: 50.0 };
        let training = StepConfig { network, batch: 1, extent, loss: LossKind::LogDice, optimizer };
        Run { training, validation_batch: 1, fuse: Fuse::Auto }
    }
}

#[test]
fn a_step_on_the_cpu_does_what_the_committed_table_says() {
    let mut table =
        format!("{:<4} {:<9} {:<36} {:>6} {:>10} {:>10}\n", "step", "precision", "operation", "passes", "MFLOP", "MiB");
    for (name, step, most_gb) in STEPS {
        for precision in [Precision::Fp32, Precision::Bf16] {
            let limit = Limit { budget: Budget::default(), name: "" };
            let fitted = step.run(precision).fit(Options::for_threads(2), limit).unwrap();
            let arena_gb = fitted.plan.total as f64 / 1e9;
            assert!(arena_gb <= most_gb, "{name} in {precision}: an arena of {arena_gb} GB");
            let graph = &fitted.graphs[0];
            let mut kinds: BTreeMap<&str, (usize, u64, u64)> = BTreeMap::new();
            for node in &graph.nodes {
                let (inputs, outputs) = (graph.specs(&node.inputs), graph.specs(&node.outputs));
                for kind in [node.op.kind(), "whole step"] {
                    let (passes, flops, bytes) = kinds.entry(kind).or_default();
                    *passes += 1;
                    *flops += node.op.flops(&inputs, &outputs);
                    *bytes += node.op.traffic(&inputs, &outputs);
                }
            }
            for (kind, (passes, flops, bytes)) in kinds {
                let [flops, bytes] = [flops as f64 / 1e6, bytes as f64 / f64::from(1 << 20)];
                let precision = precision.to_string();
                table += &format!("{name:<4} {precision:<9} {kind:<36} {passes:>6} {flops:>10.2} {bytes:>10.2}\n");
            }
        }
    }
    if std::env::var("GYRUS_UPDATE_COUNTERS").is_ok_and(|value| value == "1") {
        std::fs::write(TABLE, &table).unwrap();
    }
    assert_eq!(std::fs::read_to_string(TABLE).unwrap(), table, "GYRUS_UPDATE_COUNTERS=1 cargo test writes it anew");
}
