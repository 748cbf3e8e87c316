//! On machines, too, what is planned is what is allocated and what kernels touch, and nothing is allocated after binding.

use std::sync::{Arc, Mutex};

use gyrus::{
    Result,
    data::augment::numbers::Layout,
    fuse::Fuse,
    machine::{Capabilities, Emulated, Launch, Machine, Null, Recording},
    nn::{Architecture, Precision, StepConfig, UNetConfig, initial_parameters, names, record_training},
    ops::{
        dice::LossKind,
        optimizer::{Optimizer, Rule},
    },
    plan::{
        Options,
        budget::{Budget, Offload, Rematerialise},
    },
    session,
    tensor::align,
    train::budget::{Limit, Run},
};

/// What a machine was asked for.
#[derive(Debug, Default)]
struct Asked {
    /// Every allocation: address and bytes.
    allocations: Vec<(u64, usize)>,
    /// One past the highest byte that a launch may touch.
    touched: u64,
    launches: usize,
}

/// A machine, and what it was asked for.
#[derive(Debug)]
struct Watched<M> {
    machine: M,
    asked: Arc<Mutex<Asked>>,
}

impl<M> Watched<M> {
    fn note(&self, launches: &[Launch]) {
        let mut asked = self.asked.lock().unwrap();
        asked.launches += launches.len();
        for access in launches.iter().flat_map(|launch| launch.access.iter()) {
            asked.touched = asked.touched.max(access.address + access.bytes);
        }
    }
}

impl<M: Machine> Machine for Watched<M> {
    fn capabilities(&self) -> &Capabilities {
        self.machine.capabilities()
    }

    fn load(&mut self, family: &'static str, ptx: &str) -> Result<()> {
        self.machine.load(family, ptx)
    }

    fn is_loaded(&self, family: &str) -> bool {
        self.machine.is_loaded(family)
    }

    fn allocate(&mut self, bytes: usize) -> Result<u64> {
        let address = self.machine.allocate(bytes)?;
        self.asked.lock().unwrap().allocations.push((address, bytes));
        Ok(address)
    }

    fn free(&mut self, address: u64) -> Result<()> {
        self.machine.free(address)
    }

    fn free_memory(&mut self) -> Result<u64> {
        self.machine.free_memory()
    }

    fn upload(&mut self, address: u64, bytes: &[u8]) -> Result<()> {
        self.machine.upload(address, bytes)
    }

    fn download(&mut self, address: u64, bytes: &mut [u8]) -> Result<()> {
        self.machine.download(address, bytes)
    }

    fn launch(&mut self, launch: &Launch) -> Result<()> {
        self.note(std::slice::from_ref(launch));
        self.machine.launch(launch)
    }

    fn capture(&mut self, launches: &[Launch]) -> Result<Recording> {
        self.note(launches);
        self.machine.capture(launches)
    }

    fn replay(&mut self, recording: Recording) -> Result<()> {
        self.machine.replay(recording)
    }

    fn synchronise(&mut self) -> Result<()> {
        self.machine.synchronise()
    }
}

/// A run of the matrix.
#[derive(Clone, Copy, Debug)]
struct Cell {
    architecture: Architecture,
    precision: Precision,
    batch: usize,
    level: Rematerialise,
    offload: Offload,
    resize_factor: usize,
    extent: [usize; 3],
}

/// Bits of what a run leaves, by name.
type Outcome = Vec<(String, Vec<u8>)>;

impl Cell {
    /// Trains for two steps and validates; returns what was planned, and what was trained.
    fn check(&self, machine: impl Machine + 'static) -> (usize, Outcome) {
        let Self { architecture, precision, batch, resize_factor, extent, .. } = *self;
        let network =
            UNetConfig { architecture, resize_factor, channels: 2, classes: 3, precision, ..UNetConfig::default() };
        let rule = Rule::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-7, amsgrad: false };
        let optimizer = Optimizer { rule, clip: 50.0 };
        let training = StepConfig { network, batch, extent, loss: LossKind::LogDice, optimizer };
        let run = Run { training, validation_batch: batch, fuse: Fuse::Auto };
        let budget = Budget { bytes: None, rematerialise: self.level, offload: self.offload };
        let fitted = run.fit(Options::for_gpu(), Limit { budget, name: "" }).unwrap();
        let planned = fitted.plan.total;
        let asked = Arc::new(Mutex::new(Asked::default()));
        let machine: Box<dyn Machine> = Box::new(Watched { machine, asked: asked.clone() });
        let mut session = session::bind_planned(&fitted.graphs, fitted.plan, machine).unwrap();
        let base = match asked.lock().unwrap().allocations[..] {
            [(address, bytes)] => {
                assert_eq!(bytes, planned, "{self:?}: the arena is not the plan");
                address
            }
            ref others => panic!("{self:?}: {} allocations", others.len()),
        };
        for (name, values) in initial_parameters(&record_training(&training).unwrap(), 3) {
            session.set(&name, &values).unwrap();
        }
        let voxels = batch * extent.iter().product::<usize>();
        let images: Vec<f32> = (0..2 * voxels).map(|i| (i % 13) as f32 / 13.0 - 0.5).collect();
        let labels: Vec<u8> = (0..voxels).map(|i| (i / 5 % 3) as u8).collect();
        let layout = Layout { depth: extent[0], channels: 2 };
        let numbers = layout.identity(extent).repeat(batch);
        session.set(names::CLASS_WEIGHTS, &[1.0f32; 3]).unwrap();
        session.set(names::LOSS_SCALE, &[1.0f32]).unwrap();
        for step in 0..2u32 {
            session.set(names::IMAGES, &images).unwrap();
            session.set(names::LABELS, &labels).unwrap();
            session.set(names::NUMBERS, &numbers).unwrap();
            session.set(names::HYPER, &[1e-2f32, 0.0, 0.0, 1.0]).unwrap();
            session.set(names::RNG, &[3u32, 0, step, 0]).unwrap();
            session.run_captured(0).unwrap();
        }
        session.set(names::VALIDATION_IMAGES, &images).unwrap();
        session.set(names::VALIDATION_LABELS, &labels).unwrap();
        session.set(names::VALIDATION_NUMBERS, &numbers).unwrap();
        session.run_captured(1).unwrap();
        let batches = [names::TRAINING_BATCH, names::VALIDATION_BATCH].concat();
        let kept: Vec<String> = session.persistent().map(|(name, _)| name.to_owned()).collect();
        let kept = kept.into_iter().filter(|name| !batches.contains(&name.as_str()));
        let outcome: Outcome =
            kept.map(|name| (name.clone(), session.read(session.bytes(&name).unwrap()).unwrap())).collect();
        let asked = asked.lock().unwrap();
        assert_eq!(asked.allocations.len(), 1, "{self:?}: allocated after binding");
        assert!(asked.launches > 100, "{self:?}: nothing ran");
        let touched = align((asked.touched - base) as usize);
        assert_eq!(touched, planned, "{self:?}: kernels reach up to {touched} of the {planned} bytes planned");
        (planned, outcome)
    }
}

const LEVELS: [Rematerialise; 3] = [Rematerialise::None, Rematerialise::Fraction(0.5), Rematerialise::Full];
const PRECISIONS: [Precision; 3] = [Precision::Fp32, Precision::Bf16, Precision::Fp16];

#[test]
fn the_null_machine_gets_one_allocation_of_the_planned_bytes_and_every_byte_is_used() {
    let mut checked = 0;
    for architecture in Architecture::ALL {
        for precision in PRECISIONS {
            for (batch, offload) in [(1, Offload::None), (2, Offload::Optimizer)] {
                let cells = LEVELS.map(|level| Cell {
                    architecture,
                    precision,
                    batch,
                    level,
                    offload,
                    resize_factor: 4,
                    extent: [32, 64, 48],
                });
                let bytes = cells.map(|cell| cell.check(Null::new()).0);
                println!("{architecture}, {precision}, batch {batch}, offload {offload:?}: {bytes:?} bytes");
                assert!(bytes.is_sorted_by_key(|bytes| std::cmp::Reverse(*bytes)), "{bytes:?}");
                checked += bytes.len();
            }
        }
    }
    assert_eq!(checked, 72);
    // The seed default at its own size.
    let cell = Cell {
        architecture: Architecture::default(),
        precision: Precision::Bf16,
        batch: 1,
        level: Rematerialise::None,
        offload: Offload::None,
        resize_factor: 2,
        extent: [160, 240, 240],
    };
    cell.check(Null::new());
}

#[test]
fn emulated_training_has_the_same_bits_at_every_level_in_the_planned_bytes() {
    for (architecture, precision) in [
        (Architecture::Conv3dTransposeBatchNormalization, Precision::Bf16),
        (Architecture::UpsamplingDropout, Precision::Fp32),
    ] {
        let cell = |level, offload| Cell {
            architecture,
            precision,
            batch: 1,
            level,
            offload,
            resize_factor: 16,
            extent: [16, 16, 16],
        };
        let (_, expected) = cell(Rematerialise::None, Offload::None).check(Emulated::default());
        assert!(expected.len() > 100);
        for (level, offload) in
            [(Rematerialise::Fraction(0.5), Offload::None), (Rematerialise::Full, Offload::Optimizer)]
        {
            let (_, mut found) = cell(level, offload).check(Emulated::default());
            found.sort();
            let mut expected = expected.clone();
            expected.sort();
            for ((name, expected), (other, found)) in expected.iter().zip(&found) {
                assert_eq!(name, other);
                assert!(expected == found, "{architecture}, {level}, {name}");
            }
            assert_eq!(expected.len(), found.len());
        }
    }
}
