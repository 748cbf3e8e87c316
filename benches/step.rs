//! A whole training step on the CPU device: forward, loss, backward, clipping, Adam.
//!
//! `cargo bench --bench step`. A: 48x64x48, 1 channel, 3 classes, factor 4; B: 64x64x64, 4 channels, 4 classes, factor 2.
//! `gyrus bench` shows where the time goes.

use std::time::Duration;

use criterion::{Criterion, Throughput};
use gyrus::{
    cpu::Threads,
    nn::{StepConfig, UNetConfig, initial_parameters, names, record_training},
    ops::{
        dice::LossKind,
        optimizer::{Optimizer, Rule},
    },
    random::Stream,
    session::Session,
    train::state,
};

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(5))
        .configure_from_args();
    for (name, extent, channels, classes, resize_factor) in [("A", [48, 64, 48], 1, 3, 4), ("B", [64, 64, 64], 4, 4, 2)]
    {
        let network = UNetConfig { resize_factor, channels, classes, ..UNetConfig::default() };
        let rule = Rule::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-7, amsgrad: false };
        let optimizer = Optimizer { rule, clip: 50.0 };
        let step = StepConfig { network, batch: 1, extent, loss: LossKind::LogDice, optimizer };
        let graph = record_training(&step).expect("the extents are multiples of 16");
        let mut session = Session::bind(std::slice::from_ref(&graph), Threads::new(0)).expect("the memory is there");
        let mut stream = Stream::new(0, name);
        session.f32_mut(names::IMAGES).iter_mut().for_each(|x| *x = stream.normal() as f32);
        session.u8_mut(names::LABELS).iter_mut().for_each(|x| *x = stream.below(classes) as u8);
        session.f32_mut(names::CLASS_WEIGHTS).fill(1.0);
        session.f32_mut(names::LOSS_SCALE)[0] = 1.0;
        session.f32_mut(names::HYPER).copy_from_slice(&[1e-4, 0.0, 0.0, 1.0]);
        state::initialise(&mut session, &initial_parameters(&graph, 0));
        let mut group = criterion.benchmark_group("step");
        group.throughput(Throughput::Elements(graph.flops()));
        group.bench_function(name, |bencher| bencher.iter(|| session.run(0)));
        group.finish();
    }
}
