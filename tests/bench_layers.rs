//! What `cargo bench --bench layers` times: every family of operations, under names by which it can be asked for.

#[path = "../benches/common/mod.rs"]
mod common;

use common::{CPU, GPU, Network, PRECISIONS, layers::list};
use gyrus::{
    lowering::Processor,
    plan::Options,
    session::{Device, Target},
};

/// Families in every precision, as docs/benchmarks.md names them: each is the beginning of a name.
const IN_EVERY_PRECISION: [&str; 13] = [
    "conv3d fprop",
    "conv3d dgrad",
    "conv3d wgrad",
    "conv_transpose3d fprop",
    "conv_transpose3d dgrad",
    "conv_transpose3d wgrad",
    "upsample",
    "upsample backward",
    "max_pool",
    "batch_norm backward",
    "dropout",
    "softmax_dice",
    "softmax_dice backward",
];

/// Families over parameters and statistics, which are fp32 in every precision.
const IN_FP32: [&str; 3] = ["batch_norm finish", "batch_norm running", "optimizer"];

fn everywhere() -> Vec<(Network, Processor)> {
    let cpu = CPU.map(|network| (network, Options::for_threads(2).processor));
    cpu.into_iter().chain(GPU.map(|network| (network, Options::for_gpu().processor))).collect()
}

#[test]
fn every_family_is_timed_in_every_precision_on_every_device() {
    for (network, processor) in everywhere() {
        let layers = list(&network, processor);
        let has = |start: String| layers.iter().any(|layer| layer.name.starts_with(&start));
        for family in IN_EVERY_PRECISION {
            for precision in PRECISIONS {
                assert!(has(format!("{family} {precision} ")), "{}: {family} in {precision}", network.name);
            }
        }
        for family in IN_FP32 {
            assert!(has(format!("{family} fp32 ")), "{}: {family}", network.name);
        }
    }
}

#[test]
fn names_say_what_is_timed_and_fit_the_folders_that_hold_baselines() {
    for (network, processor) in everywhere() {
        let layers = list(&network, processor);
        // Criterion cuts longer names, and which of two that become alike keeps its own depends on the filter.
        let longest = layers.iter().map(|layer| layer.name.as_str()).max_by_key(|name| name.len()).unwrap();
        assert!(longest.len() <= 64, "{longest} has {} letters", longest.len());
        println!("{}: {} operations, the longest name is {longest}", network.name, layers.len());
    }
    let names: Vec<String> = list(&GPU[0], Options::for_gpu().processor).into_iter().map(|layer| layer.name).collect();
    for expected in ["conv3d fprop bf16 32->32 240x240x160", "conv_transpose3d dgrad fp16 64->16 240x240x160"] {
        assert!(names.iter().any(|name| name.starts_with(expected)), "{expected} is not among {names:#?}");
    }
}

/// A device without a merged kernel must not lose the operation: whatever a step does is timed somewhere.
#[test]
fn a_step_has_no_operation_that_the_list_lacks() {
    use gyrus::{
        fuse::Fuse,
        nn::{Architecture, record_training},
    };
    for (network, processor) in everywhere() {
        let layers = list(&network, processor);
        for (architecture, precision) in Architecture::ALL.into_iter().flat_map(|each| PRECISIONS.map(|p| (each, p))) {
            let graph = Fuse::Auto.apply(record_training(&network.step(architecture, precision)).unwrap(), processor);
            for node in &graph.nodes {
                let kind = node.op.kind();
                let is_timed = layers.iter().any(|layer| layer.graph.nodes[0].op.kind() == kind);
                assert!(is_timed, "{} {architecture} {precision}: {kind}", network.name);
            }
        }
    }
}

/// Where there is no GPU, its layers are never timed: that they run at all shows in the emulator, at the least extents.
#[test]
fn every_layer_of_a_gpu_runs_alone_on_the_emulated_one() {
    let network = Network { name: "least", extent: [16; 3], batch: 1, channels: 1, classes: 3, resize_factor: 32 };
    let mut target = Target::open(Device::Emulated(None), 0).unwrap();
    for layer in list(&network, Options::for_gpu().processor) {
        let mut program = layer.bind(target);
        program.run(0).unwrap_or_else(|error| panic!("{}: {error}", layer.name));
        target = program.release().unwrap();
    }
}
