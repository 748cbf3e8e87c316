//! One CTA: its shared state, and turns for its warps until all have exited.

use std::collections::HashMap;

use super::barrier::BarrierState;
use super::warp::{Group, Turn, Wait};
use super::{Context, Copies, Launch, Warp};
use crate::counters::Counters;
use crate::decode::{Kernel, Special};
use crate::fault::{Fault, FaultKind, Problem, Site};
use crate::memory::{Clocks, SharedMemory, Worker};
use crate::tensor::Scratch;

/// Rounds in which every turn ended in a failed wait before the CTA counts as deadlocked.
const PATIENCE: u32 = 2_000;

/// What the warps of a CTA share.
pub(crate) struct Cta {
    pub index: [u32; 3],
    pub shared: SharedMemory,
    pub clocks: Clocks,
    pub barriers: [BarrierState; 16],
    /// Who initialised each mbarrier, by address: warp, lane and clock.
    pub initialised: HashMap<u64, (usize, usize, u32)>,
    /// What arriving at an mbarrier tells those who wait for it, by address.
    pub signals: HashMap<u64, [u32; 32]>,
    /// What fences and releases tell those who read a word with strong loads, by address.
    pub published: HashMap<u64, [u32; 32]>,
    pub copies: Copies,
    pub counters: Counters,
    /// Storage of matrix products.
    pub scratch: Box<Scratch>,
    /// Steps of warps whose turn is over.
    pub steps: u64,
    /// What its threads have printed.
    pub printed: String,
}

impl Cta {
    pub(super) fn new() -> Cta {
        Cta {
            index: [0; 3],
            shared: SharedMemory::default(),
            clocks: Clocks::new(0),
            barriers: Default::default(),
            initialised: HashMap::new(),
            signals: HashMap::new(),
            published: HashMap::new(),
            copies: Copies::default(),
            counters: Counters::default(),
            scratch: Box::default(),
            steps: 0,
            printed: String::new(),
        }
    }
}

/// Numbers for shuffling: splitmix64.
pub(super) fn scramble(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

pub(super) fn shuffle<T>(items: &mut [T], mut seed: u64) {
    for i in (1..items.len()).rev() {
        seed = scramble(seed);
        items.swap(i, (seed % (i as u64 + 1)) as usize);
    }
}

/// A CTA that has begun: its state, its warps, and where its scheduler stands.
pub(super) struct Running {
    pub cta: Cta,
    warps: Vec<Warp>,
    linear: u64,
    order: Vec<usize>,
    round: u64,
    /// Rounds since a warp came forward.
    fruitless: u32,
}

impl Running {
    /// Storage for one CTA after the other.
    pub(super) fn new() -> Running {
        Running { cta: Cta::new(), warps: Vec::new(), linear: 0, order: Vec::new(), round: 0, fruitless: 0 }
    }

    /// Starts the CTA with this linear index.
    pub(super) fn start(&mut self, launch: &Launch, linear: u64) {
        let Running { cta, warps, .. } = self;
        let grid = launch.grid.map(u64::from);
        cta.index = [linear % grid[0], linear / grid[0] % grid[1], linear / grid[0] / grid[1]].map(|x| x as u32);
        let threads: u32 = launch.block.iter().product();
        let count = threads.div_ceil(32) as usize;
        cta.shared.reset(launch.shared_bytes as u64, launch.view.checks, launch.kernel.has_proxies);
        cta.clocks = Clocks::new(count);
        cta.barriers = Default::default();
        cta.initialised.clear();
        cta.signals.clear();
        cta.published.clear();
        cta.copies.reset(count);
        cta.steps = 0;
        cta.counters.ctas += 1;
        cta.counters.warps += count as u64;
        warps.resize_with(count, Warp::default);
        for (index, warp) in warps.iter_mut().enumerate() {
            start_warp(launch, cta, warp, index, threads);
        }
        self.order = (0..count).collect();
        (self.linear, self.round, self.fruitless) = (linear, 0, 0);
    }

    /// Runs it to its end, or until it has taken so many steps more; says whether it has ended.
    pub(super) fn run(&mut self, launch: &Launch, worker: &mut Worker, steps: u64) -> Result<bool, Box<Fault>> {
        let Running { cta, warps, linear, order, round, fruitless } = self;
        launch.view.enter_cta(worker, *linear);
        let end = cta.steps.saturating_add(steps);
        loop {
            if let Some(seed) = launch.seed {
                shuffle(order, scramble(seed ^ *linear) ^ *round);
            }
            *round += 1;
            let mut progress = false;
            let mut waiting = false;
            for &index in &*order {
                let warp = &mut warps[index];
                if warp.groups.is_empty() || !warp.groups.iter().any(|g| g.wait == Wait::Ready) {
                    continue;
                }
                let before = warp.steps;
                let turn = Context { launch, worker, cta, warp }.run_warp();
                cta.steps += warp.steps - before;
                warp.steps = 0;
                match turn {
                    Ok(Turn::Yielded) => waiting = true,
                    Ok(_) => progress = true,
                    Err(problem) => return Err(locate(launch, cta, &warps[index], *problem)),
                }
                progress |= cta.settle_barriers(warps);
            }
            if warps.iter().all(|warp| warp.groups.is_empty()) {
                return unread(launch, cta, warps).map_or(Ok(true), Err);
            }
            if let Some(limit) = launch.time_limit
                && launch.begun.elapsed() > limit
            {
                let message = format!("the launch has run for more than {:.1} s", limit.as_secs_f64());
                let kernel = launch.kernel.name.clone();
                return Err(Box::new(Fault { kind: FaultKind::TimeLimit, kernel, site: None, message }));
            }
            if progress {
                *fruitless = 0;
                if cta.steps >= end {
                    return Ok(false);
                }
                continue;
            }
            *fruitless += 1;
            if !waiting || *fruitless > PATIENCE {
                return Err(stuck(launch, cta, warps));
            }
        }
    }
}

fn start_warp(launch: &Launch, cta: &Cta, warp: &mut Warp, index: usize, threads: u32) {
    let kernel = launch.kernel;
    warp.index = index;
    warp.registers.reset(kernel);
    let first = index as u32 * 32;
    let present = (threads - first).min(32);
    warp.live = if present == 32 { u32::MAX } else { (1 << present) - 1 };
    warp.groups.clear();
    warp.groups.push(Group { pc: 0, mask: warp.live, wait: Wait::Ready });
    warp.local.clear();
    warp.local.resize(kernel.local_bytes.div_ceil(4) as usize, [0; 32]);
    warp.local_written.clear();
    warp.local_written.resize(warp.local.len(), [0; 32]);
    warp.steps = 0;
    warp.backward = 0;
    warp.pending_matrices.clear();
    warp.matrix_groups = 0;
    warp.held.clear();
    warp.published = None;
    warp.heard = [0; 32];
    warp.suspects.clear();
    warp.trail.clear();
    for &(slot, special) in &kernel.specials {
        let row = &mut warp.registers.w[slot as usize];
        for (lane, value) in row.iter_mut().enumerate() {
            let lane = lane as u32;
            *value = special_value(special, launch, cta, first, lane);
        }
    }
}

fn special_value(special: Special, launch: &Launch, cta: &Cta, first: u32, lane: u32) -> u32 {
    let thread = thread_index(launch.block, first + lane);
    let bit = 1u32 << lane;
    let linear = cta.index[0].wrapping_add(cta.index[1].wrapping_mul(launch.grid[0]));
    match special {
        Special::Tid(axis) => thread[axis],
        Special::Ntid(axis) => launch.block[axis],
        Special::Ctaid(axis) => cta.index[axis],
        Special::Nctaid(axis) => launch.grid[axis],
        Special::LaneId => lane,
        Special::WarpId => first / 32,
        Special::Nwarpid => 64,
        Special::Smid => linear % launch.multiprocessors.max(1),
        Special::Nsmid => launch.multiprocessors,
        Special::LanemaskEq => bit,
        Special::LanemaskLt => bit - 1,
        Special::LanemaskLe => bit | (bit - 1),
        Special::LanemaskGt => !(bit | (bit - 1)),
        Special::LanemaskGe => !(bit - 1),
        Special::DynamicShared => launch.dynamic_shared,
        Special::TotalShared => launch.shared_bytes,
        Special::DynamicBase => unreachable!("decoding turned it into a constant"),
    }
}

fn thread_index(block: [u32; 3], linear: u32) -> [u32; 3] {
    [linear % block[0], linear / block[0] % block[1], linear / block[0] / block[1]]
}

/// The place of an instruction for a diagnostic.
fn site(kernel: &Kernel, launch: &Launch, cta: &Cta, warp: &Warp, at: u32, lane: u32) -> Site {
    let instruction = &kernel.instructions[(at as usize).min(kernel.instructions.len() - 1)].about;
    let source = instruction.location.map(|location| {
        let file = kernel.files.get(&location.file).cloned();
        (file.unwrap_or_else(|| format!("file {}", location.file)), location.line)
    });
    Site {
        cta: cta.index,
        thread: thread_index(launch.block, warp.index as u32 * 32 + lane),
        ptx_line: instruction.line,
        instruction: instruction.opcode.clone(),
        source,
    }
}

fn locate(launch: &Launch, cta: &Cta, warp: &Warp, problem: Problem) -> Box<Fault> {
    Box::new(Fault {
        kind: problem.kind,
        kernel: launch.kernel.name.clone(),
        site: Some(site(launch.kernel, launch, cta, warp, warp.at, problem.lane)),
        message: problem.message,
    })
}

/// The shared memory of a CTA that ends is another one's: copies that have yet to read it read nonsense.
fn unread(launch: &Launch, cta: &Cta, warps: &[Warp]) -> Option<Box<Fault>> {
    let mut stores = cta.copies.bulk.iter().filter(|bulk| bulk.barrier.is_none());
    let bulk = stores.next().filter(|_| launch.view.checks.in_flight)?;
    Some(Box::new(Fault {
        kind: FaultKind::AsyncInFlight,
        kernel: launch.kernel.name.clone(),
        site: Some(site(launch.kernel, launch, cta, &warps[bulk.warp], bulk.at, bulk.lane as u32)),
        message: "the CTA ends before this copy has read its shared memory: nothing has waited for it".to_owned(),
    }))
}

/// No warp can go on: says at what the first of them waits.
fn stuck(launch: &Launch, cta: &Cta, warps: &[Warp]) -> Box<Fault> {
    let waiting = warps.iter().filter(|warp| !warp.groups.is_empty());
    let (mut kind, mut message) =
        (FaultKind::Deadlock, "every warp waits for an mbarrier that nobody completes".to_owned());
    let mut place = None;
    for warp in waiting {
        for group in &warp.groups {
            let lane = group.mask.trailing_zeros();
            let here = Some((warp, group.pc, lane));
            match group.wait {
                Wait::Members(want) => {
                    let site = Some(site(launch.kernel, launch, cta, warp, group.pc, lane));
                    let message = format!("lanes 0x{:08x} wait for the rest of mask 0x{want:08x}", group.mask);
                    return Box::new(Fault {
                        kind: FaultKind::SyncMask,
                        kernel: launch.kernel.name.clone(),
                        site,
                        message,
                    });
                }
                Wait::Barrier(_) if kind == FaultKind::Deadlock => {
                    kind = FaultKind::BarrierDivergence;
                    message = cta.stuck_barriers();
                    place = here;
                }
                _ => place = place.or(here),
            }
        }
    }
    let site = place.map(|(warp, at, lane)| site(launch.kernel, launch, cta, warp, at, lane));
    Box::new(Fault { kind, kernel: launch.kernel.name.clone(), site, message })
}
