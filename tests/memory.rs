//! What is planned is what is allocated: the arena has exactly the plan's bytes, and nothing is allocated after bind.
//!
//! The only test of its binary, because its allocator counts what the whole process does.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
};

use gyrus::{
    cpu::Threads,
    fuse::Fuse,
    graph::Role,
    nn::{Architecture, Precision, StepConfig, UNetConfig, initial_parameters, names, record_training},
    ops::{
        dice::LossKind,
        optimizer::{Optimizer, Rule},
    },
    plan::{
        Options,
        budget::{self, Budget, Fitted, Rematerialise},
    },
    session,
    train::budget::Run,
};

/// Counts allocations while it is watching, and keeps the largest.
struct Counting;

static WATCHING: AtomicBool = AtomicBool::new(false);
static COUNT: AtomicUsize = AtomicUsize::new(0);
static LARGEST: AtomicUsize = AtomicUsize::new(0);
/// Bytes in use, always counted.
static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

fn grown(bytes: usize) {
    let live = LIVE.fetch_add(bytes, SeqCst) + bytes;
    if WATCHING.load(SeqCst) {
        COUNT.fetch_add(1, SeqCst);
        LARGEST.fetch_max(bytes, SeqCst);
        PEAK.fetch_max(live, SeqCst);
    }
}

// SAFETY: every call is handed to the system's allocator as it is; the counters allocate nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), SeqCst);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        LIVE.fetch_sub(layout.size(), SeqCst);
        grown(bytes);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, bytes) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What happened while a closure ran.
struct Watched<T> {
    result: T,
    allocations: usize,
    largest: usize,
    /// Bytes in use at most, beyond those at the start.
    peak: usize,
}

fn watch<T>(work: impl FnOnce() -> T) -> Watched<T> {
    let start = LIVE.load(SeqCst);
    COUNT.store(0, SeqCst);
    LARGEST.store(0, SeqCst);
    PEAK.store(start, SeqCst);
    WATCHING.store(true, SeqCst);
    let result = work();
    WATCHING.store(false, SeqCst);
    Watched { result, allocations: COUNT.load(SeqCst), largest: LARGEST.load(SeqCst), peak: PEAK.load(SeqCst) - start }
}

#[test]
fn planned_allocated_and_measured_bytes_are_the_same_and_steps_allocate_nothing() {
    let mut checked = 0;
    for architecture in Architecture::ALL {
        for (precision, batch) in [Precision::Fp32, Precision::Bf16, Precision::Fp16]
            .into_iter()
            .flat_map(|precision| [(precision, 1), (precision, 2)])
        {
            let levels = [Rematerialise::None, Rematerialise::Fraction(0.5), Rematerialise::Full];
            let outcomes = levels.map(|level| check(architecture, precision, batch, level));
            // What is computed again has the same bits, so whatever a level does, training ends the same.
            let same = outcomes.iter().all(|(_, weights)| *weights == outcomes[0].1);
            assert!(same, "{architecture}, {precision}, batch {batch}");
            assert!(outcomes.iter().is_sorted_by_key(|(bytes, _)| std::cmp::Reverse(*bytes)));
            checked += levels.len();
        }
    }
    assert_eq!(checked, 72);
    // The instrument itself: an allocation on another thread is seen.
    let seen = watch(|| std::thread::spawn(|| vec![1u8; 4321].len()).join().unwrap());
    assert!(seen.allocations > 0 && seen.largest >= 4321);
}

/// Trains for three steps; returns the arena's bytes and the bits of what was trained.
fn check(architecture: Architecture, precision: Precision, batch: usize, level: Rematerialise) -> (usize, Vec<u32>) {
    let what = format!("{architecture}, {precision}, batch {batch}, rematerialise {level}");
    let (channels, classes) = (2, 3);
    let network = UNetConfig { architecture, resize_factor: 16, channels, classes, precision, ..UNetConfig::default() };
    let rule = Rule::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-7, amsgrad: true };
    let optimizer = Optimizer { rule, clip: 50.0 };
    let config = StepConfig { network, batch, extent: [16, 32, 16], loss: LossKind::LogDice, optimizer };
    let recorded = record_training(&config).unwrap();
    let run = Run { training: config, validation_batch: batch, fuse: Fuse::Auto };
    let program = run.graphs_for(Options::for_threads(2).processor).unwrap();
    let threads = Threads::new(2);
    let budget = Budget { rematerialise: level, ..Budget::default() };
    let Fitted { graphs, plan, .. } = budget::fit(&program, Options::for_threads(2), budget).unwrap();

    let bind = watch(|| session::bind_planned(&graphs, plan, threads).unwrap());
    let mut session = bind.result;
    let planned = session.plan().total;
    assert_eq!(session.arena_bytes(), planned, "{what}: the arena is not the plan");
    assert_eq!(bind.largest, planned, "{what}: the largest allocation is not the arena");
    // Beside the arena there is what describes the program: nodes, names, places.
    let described = bind.peak - planned;
    assert!(described < 2 << 20, "{what}: {described} bytes beside the arena");

    for (name, data) in initial_parameters(&recorded, 3) {
        session.set(&name, &data).unwrap();
    }
    session.set(names::CLASS_WEIGHTS, &[1.0f32; 3]).unwrap();
    session.set(names::LOSS_SCALE, &[1.0f32]).unwrap();
    session.set(names::HYPER, &[1e-3f32, 0.0, 0.0, 1.0]).unwrap();
    for images in [names::IMAGES, names::VALIDATION_IMAGES] {
        let slot = session.slot(images).unwrap();
        let images: Vec<f32> = (0..slot.len()).map(|i| (i % 13) as f32 / 13.0).collect();
        session.write(slot, &images).unwrap();
    }
    for labels in [names::LABELS, names::VALIDATION_LABELS] {
        let slot = session.slot(labels).unwrap();
        let labels: Vec<u8> = (0..slot.len()).map(|i| (i / 5 % 3) as u8).collect();
        session.write(slot, &labels).unwrap();
    }
    let before = session.get::<f32>("head.output.weight").unwrap();
    let (rng, loss) = (session.slot::<u32>(names::RNG).unwrap(), session.slot::<f32>(names::VALIDATION_LOSS).unwrap());
    // The very first run counts too: nothing is set up lazily.
    let steps = watch(|| {
        for step in 0..3 {
            session.write(rng, &[3, 0, step, 0]).unwrap();
            session.run(0).unwrap();
        }
        session.run(1).unwrap();
        let mut found = [0.0];
        session.read_into(loss, &mut found).unwrap();
        found[0]
    });
    assert_eq!(steps.allocations, 0, "{what}: steps allocate, {} bytes at once", steps.largest);
    assert_eq!(steps.peak, 0, "{what}: steps use more than the arena");
    assert!(steps.result.is_finite() && steps.result > 0.0, "{what}: no loss was computed");
    assert_ne!(before, session.get::<f32>("head.output.weight").unwrap(), "{what}: nothing was trained");
    let gradients = program[0].ids().filter(|&id| matches!(program[0].value(id).role, Role::Gradient(_))).count();
    println!(
        "{what}: {planned} bytes planned = allocated = measured; {gradients} gradients; 3 steps, {} allocations",
        steps.allocations
    );
    let weights = program[0].with_role(Role::Parameter);
    let values = weights.iter().flat_map(|&id| session.get::<f32>(&program[0].value(id).name).unwrap());
    (planned, values.map(f32::to_bits).collect())
}
