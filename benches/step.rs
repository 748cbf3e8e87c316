//! A whole training step at the sizes that matter: forward, loss, backward, clipping, Adam.
//!
//! `cargo bench --bench step [-- FILTER] [--save-baseline NAME | --baseline NAME]`: docs/benchmarks.md. `gyrus bench` shows
//! where the time goes.

mod common;

use std::time::{Duration, Instant};

use common::{Device, Network, PRECISIONS};
use criterion::{BenchmarkGroup, Criterion, SamplingMode, Throughput, measurement::WallTime};
use gyrus::{
    data::augment::numbers::Layout,
    fuse::Fuse,
    graph::Graph,
    nn::{Architecture, Precision, initial_parameters, names},
    plan::budget::{Budget, Fitted},
    random::Stream,
    session::{self, Program, Target},
    train::budget::{Limit, Run},
};

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(5))
        .configure_from_args();
    let device = Device::choose();
    for network in device.networks() {
        let mut group = criterion.benchmark_group(format!("{} {}", device.name(), network.name));
        group.sampling_mode(SamplingMode::Flat);
        for precision in PRECISIONS {
            bench(&mut group, &device, network, precision);
        }
        group.finish();
    }
}

/// What `gyrus train` would run here, computing again as little as the memory asks for.
fn bench(group: &mut BenchmarkGroup<'_, WallTime>, device: &Device, network: &Network, precision: Precision) {
    let mut target = device.open();
    let free = target.free_memory().expect("the device works");
    let bytes = free.map(|free| free - free / 16);
    let limit = Limit { budget: Budget { bytes, ..Budget::default() }, name: "free are" };
    let training = network.step(Architecture::default(), precision);
    let step = match (Run { training, validation_batch: 1, fuse: Fuse::Auto }).fit(target.options(), limit) {
        Ok(step) => step,
        Err(refusal) => return println!("skipped: step {precision}: {refusal}"),
    };
    group.throughput(Throughput::Elements(step.graphs[0].flops()));
    let (mut target, mut program) = (Some(target), None);
    group.bench_function(format!("step {precision}"), |bencher| {
        let program = program.get_or_insert_with(|| bind(&step, network, target.take().expect("it is bound once")));
        bencher.iter_custom(|runs| {
            let start = Instant::now();
            (0..runs).for_each(|_| program.run_captured(0).expect("the device works"));
            program.synchronise().expect("the device works");
            start.elapsed()
        });
    });
}

/// Ready to run on random images and labels.
fn bind(step: &Fitted, network: &Network, target: Target) -> Box<dyn Program> {
    let plan = step.plan.clone();
    let mut program = session::bind_planned(&step.graphs, plan, target).expect("the memory is there");
    fill(&mut *program, &step.graphs[0], network).expect("the device works");
    program
}

fn fill(program: &mut dyn Program, graph: &Graph, network: &Network) -> gyrus::Result<()> {
    let mut stream = Stream::new(0, network.name);
    let voxels = network.batch * network.extent.iter().product::<usize>();
    let images: Vec<f32> = (0..voxels * network.channels).map(|_| stream.normal() as f32).collect();
    let labels: Vec<u8> = (0..voxels).map(|_| stream.below(network.classes) as u8).collect();
    program.set(names::IMAGES, &images)?;
    program.set(names::LABELS, &labels)?;
    // On a GPU a step begins with the augmentation, which changes nothing here.
    if program.has(names::NUMBERS) {
        let layout = Layout { depth: network.extent[0], channels: network.channels };
        program.set(names::NUMBERS, &layout.identity(network.extent).repeat(network.batch))?;
    }
    program.set(names::CLASS_WEIGHTS, &vec![1.0f32; network.classes])?;
    program.set(names::LOSS_SCALE, &[1.0f32])?;
    program.set(names::HYPER, &[1e-4f32, 0.0, 0.0, 1.0])?;
    program.set_all(&initial_parameters(graph, 0))
}
