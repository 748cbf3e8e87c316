//! A whole training step on the CPU and, where there is one, on the GPU: forward, loss, backward, clipping, Adam.
//!
//! `cargo bench --bench step`. A: 48x64x48, 1 channel, 3 classes, factor 4; B: 64x64x64, 4 channels, 4 classes, factor 2.
//! `gyrus bench` shows where the time goes.

use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use gyrus::{
    cpu::Threads,
    fuse::Fuse,
    machine,
    nn::{StepConfig, UNetConfig, initial_parameters, names},
    ops::{
        dice::LossKind,
        optimizer::{Optimizer, Rule},
    },
    plan::budget::Budget,
    random::Stream,
    session::{self, Device, Program, Target},
    train::budget::{Limit, Run},
};

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(5))
        .configure_from_args();
    bench(&mut criterion, "cpu", || Threads::new(0).into());
    match machine::first_usable() {
        Ok(gpu) => bench(&mut criterion, "cuda", || Target::open(Device::Cuda(gpu), 0).expect("a usable GPU opens")),
        Err(reason) => println!("no GPU: {reason}"),
    }
}

fn bench(criterion: &mut Criterion, device: &str, open: impl Fn() -> Target) {
    for (name, extent, channels, classes, resize_factor) in [("A", [48, 64, 48], 1, 3, 4), ("B", [64, 64, 64], 4, 4, 2)]
    {
        let network = UNetConfig { resize_factor, channels, classes, ..UNetConfig::default() };
        let rule = Rule::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-7, amsgrad: false };
        let optimizer = Optimizer { rule, clip: 50.0 };
        let training = StepConfig { network, batch: 1, extent, loss: LossKind::LogDice, optimizer };
        let target = open();
        let limit = Limit { budget: Budget::default(), name: "" };
        let step = Run { training, validation_batch: 1, fuse: Fuse::Auto }
            .fit(target.options(), limit)
            .expect("nothing limits it");
        let graph = &step.graphs[0];
        let mut session = session::bind_planned(&step.graphs, step.plan, target).expect("the memory is there");
        fill(&mut *session, name, extent.iter().product(), channels, classes).expect("the device works");
        session.set_all(&initial_parameters(graph, 0)).expect("the device works");
        let mut group = criterion.benchmark_group(format!("step {device}"));
        group.throughput(Throughput::Elements(graph.flops()));
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|runs| {
                let start = Instant::now();
                (0..runs).for_each(|_| session.run_captured(0).expect("the device works"));
                session.synchronise().expect("the device works");
                start.elapsed()
            });
        });
        group.finish();
    }
}

fn fill(session: &mut dyn Program, name: &str, voxels: usize, channels: usize, classes: usize) -> gyrus::Result<()> {
    let mut stream = Stream::new(0, name);
    let images: Vec<f32> = (0..voxels * channels).map(|_| stream.normal() as f32).collect();
    let labels: Vec<u8> = (0..voxels).map(|_| stream.below(classes) as u8).collect();
    session.set(names::IMAGES, &images)?;
    session.set(names::LABELS, &labels)?;
    session.set(names::CLASS_WEIGHTS, &vec![1.0f32; classes])?;
    session.set(names::LOSS_SCALE, &[1.0f32])?;
    session.set(names::HYPER, &[1e-4f32, 0.0, 0.0, 1.0])
}
