//! Spreads the CTAs of a launch over host threads.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::Launch;
use super::cta::{Running, scramble, shuffle};
use crate::counters::Counters;
use crate::fault::Fault;
use crate::memory::Worker;

/// Grids up to this size are permuted when a seed is given; larger ones start at a drawn offset.
const SHUFFLED: u64 = 1 << 20;
/// CTAs that may wait for each other run one after the other, each to its end, as long as it takes no more warp instructions
/// than this. Then the next one begins, in case it is waited for.
const TURN: u64 = 1 << 20;
/// So many have begun at most: what a large GPU holds at once, an upper bound for grids that wait for all of themselves.
const RESIDENT: usize = 512;

/// Runs all CTAs. Of several faults, the one of the first CTA in running order is returned, whatever thread met it. With it:
/// what the threads have printed, in the order of CTAs.
pub(crate) fn run(launch: &Launch) -> (Result<Counters, Box<Fault>>, String) {
    let count: u64 = launch.grid.iter().map(|&n| n as u64).product();
    let order: Option<Vec<u32>> = launch.seed.filter(|_| count <= SHUFFLED).map(|seed| {
        let mut order: Vec<u32> = (0..count as u32).collect();
        shuffle(&mut order, scramble(seed));
        order
    });
    let nth = |i: u64| match (&order, launch.seed) {
        (Some(order), _) => order[i as usize] as u64,
        (None, Some(seed)) => (i + scramble(seed) % count) % count,
        (None, None) => i,
    };
    let next = AtomicU64::new(0);
    // CTAs at or after this place need not run: one before them failed.
    let stop = AtomicU64::new(u64::MAX);
    let failed: Mutex<Option<(u64, Box<Fault>)>> = Mutex::new(None);
    let total = Mutex::new(Counters::default());
    let printed: Mutex<BTreeMap<u64, String>> = Mutex::default();
    let ordered = launch.kernel.ordered;
    let work = || {
        let mut worker = Worker::default();
        let mut counters = Counters::default();
        let mut spare: Vec<Running> = Vec::new();
        // CTAs that have begun, with their places: more than one only where they may wait for each other.
        let mut begun: VecDeque<(u64, Running)> = VecDeque::new();
        loop {
            // Whoever has had its turn stands behind a new one, as long as there is room and one is left.
            if begun.len() < if ordered { RESIDENT } else { 1 } {
                let place = next.fetch_add(1, Relaxed);
                if place < count && place < stop.load(Relaxed) {
                    let mut running = spare.pop().unwrap_or_else(Running::new);
                    running.start(launch, nth(place));
                    begun.push_front((place, running));
                }
            }
            let Some((place, mut running)) = begun.pop_front() else { break };
            if place >= stop.load(Relaxed) {
                continue;
            }
            let steps = if ordered { TURN } else { u64::MAX };
            let done = running.run(launch, &mut worker, steps);
            if matches!(done, Ok(false)) {
                begun.push_back((place, running));
                continue;
            }
            if !running.cta.printed.is_empty() {
                let text = std::mem::take(&mut running.cta.printed);
                printed.lock().expect("no panics while locked").insert(nth(place), text);
            }
            if let Err(fault) = done {
                stop.fetch_min(place, Relaxed);
                let mut failed = failed.lock().expect("no panics while locked");
                if failed.as_ref().is_none_or(|(earlier, _)| place < *earlier) {
                    *failed = Some((place, fault));
                }
            }
            counters.add(&std::mem::take(&mut running.cta.counters));
            spare.push(running);
        }
        total.lock().expect("no panics while locked").add(&counters);
    };
    let threads = if ordered { 1 } else { launch.threads.min(count as usize).max(1) };
    if threads == 1 {
        work();
    } else {
        std::thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(work);
            }
            work();
        });
    }
    let result = match failed.into_inner().expect("no panics while locked") {
        Some((_, fault)) => Err(fault),
        None => Ok(total.into_inner().expect("no panics while locked")),
    };
    (result, printed.into_inner().expect("no panics while locked").into_values().collect())
}
