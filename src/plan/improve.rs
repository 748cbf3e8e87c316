//! Searches for a denser layout when first-fit leaves gaps.
//!
//! Activations that are computed again break the nesting of lifetimes that first-fit lives on. What remains decides itself
//! among the few large buffers: the order in which they are placed is improved by small random changes (always the same
//! ones: a plan is a pure function of its graph), and the small buffers fill the gaps afterwards.

use super::Buffer;
use crate::random::Stream;

/// What counts as large: parts of the lower bound, one over each of these. Few buffers are ordered quickly and well; with
/// more of them fewer are left to chance.
const LARGE: [usize; 3] = [32, 64, 256];
/// Searches for each of those.
const SEARCHES: u64 = 4;
/// Orders tried in a search. Each takes a few microseconds.
const TRIES: usize = 1500;
/// At first a worse order is accepted if it costs up to this share of the lower bound, at last only if it costs nothing.
const TOLERANCE: f64 = 0.06;
/// The search is content with a layout that exceeds the lower bound by one part in this many..
const CONTENT: usize = 256;
/// ..or by bytes that are not worth the time.
const NEGLIGIBLE: usize = 256 << 10;

/// A layout at least as good as `found` (offsets and total bytes).
pub(super) fn improve(buffers: &[Buffer], lower_bound: usize, found: (Vec<usize>, usize)) -> (Vec<usize>, usize) {
    let enough = enough(lower_bound);
    let mut best = found;
    for large in LARGE {
        for seed in 0..SEARCHES {
            if best.1 <= enough {
                return best;
            }
            anneal(buffers, lower_bound, lower_bound / large, seed, &mut best);
        }
    }
    best
}

fn enough(lower_bound: usize) -> usize {
    lower_bound + NEGLIGIBLE.max(lower_bound / CONTENT)
}

/// One search among the orders of the buffers of at least `large` bytes.
fn anneal(buffers: &[Buffer], lower_bound: usize, large: usize, seed: u64, best: &mut (Vec<usize>, usize)) {
    let (mut order, mut small): (Vec<usize>, Vec<usize>) =
        (0..buffers.len()).partition(|&index| buffers[index].bytes >= large);
    if order.len() < 2 {
        return;
    }
    small.sort_by_key(|&index| (std::cmp::Reverse(buffers[index].bytes), index));
    // The best layout so far, from the bottom up, is an order that gives it again, or something denser.
    order.sort_by_key(|&index| (best.0[index], index));
    let mut stream = Stream::new(seed, "placement");
    let mut current = Shelf::filled(buffers, &order);
    let mut least = usize::MAX;
    for tried in 0..TRIES {
        if current.total < least {
            least = current.total;
            let mut whole = current.clone();
            small.iter().for_each(|&index| whole.put(buffers, index));
            if whole.total < best.1 {
                *best = (whole.offsets, whole.total);
            }
            if best.1 <= enough(lower_bound) {
                return;
            }
        }
        // What reaches the top must come down: it goes elsewhere. Other changes open the way for it.
        let on_top = |&at: &usize| current.offsets[order[at]] + buffers[order[at]].bytes == current.total;
        let top: Vec<usize> = (0..order.len()).filter(on_top).collect();
        let from = if stream.chance(0.5) { top[stream.below(top.len())] } else { stream.below(order.len()) };
        let mut changed = order.clone();
        let moved = changed.remove(from);
        changed.insert(stream.below(order.len()), moved);
        let shelf = Shelf::filled(buffers, &changed);
        let tolerance = TOLERANCE * lower_bound as f64 * (1.0 - tried as f64 / TRIES as f64);
        if shelf.total <= current.total || ((shelf.total - current.total) as f64) < tolerance * stream.uniform() {
            (current, order) = (shelf, changed);
        }
    }
}

/// Buffers at their offsets.
#[derive(Clone)]
struct Shelf {
    offsets: Vec<usize>,
    /// What has an offset, by offset.
    placed: Vec<usize>,
    total: usize,
}

impl Shelf {
    fn filled(buffers: &[Buffer], order: &[usize]) -> Self {
        let mut shelf = Self { offsets: vec![0; buffers.len()], placed: Vec::with_capacity(buffers.len()), total: 0 };
        order.iter().for_each(|&index| shelf.put(buffers, index));
        shelf
    }

    /// Puts a buffer at the lowest offset that is free during its whole lifetime.
    fn put(&mut self, buffers: &[Buffer], index: usize) {
        let buffer = &buffers[index];
        let mut offset = 0;
        for &other in &self.placed {
            let neighbour = &buffers[other];
            if neighbour.last < buffer.first || buffer.last < neighbour.first {
                continue;
            }
            if offset + buffer.bytes <= self.offsets[other] {
                break;
            }
            offset = offset.max(self.offsets[other] + neighbour.bytes);
        }
        self.offsets[index] = offset;
        self.total = self.total.max(offset + buffer.bytes);
        let position = self.placed.partition_point(|&other| self.offsets[other] <= offset);
        self.placed.insert(position, index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layout_that_first_fit_misses_is_found() {
        // 2 + 2 are alive before the 3 comes; whoever puts the short one below leaves a hole that the 3 cannot use.
        let buffer = |bytes: usize, first, last| {
            let bytes = bytes << 20;
            Buffer { values: Vec::new(), workspace_of: None, content: bytes, bytes, first, last }
        };
        let buffers = [buffer(2, 0, 1), buffer(2, 0, 3), buffer(3, 2, 3), buffer(1, 1, 1)];
        let poor = vec![0, 2 << 20, 4 << 20, 4 << 20];
        let (offsets, total) = improve(&buffers, 5 << 20, (poor.clone(), 7 << 20));
        assert_eq!(total, 5 << 20);
        for (i, a) in buffers.iter().enumerate() {
            for (j, b) in buffers.iter().enumerate().skip(i + 1) {
                let together = a.first <= b.last && b.first <= a.last;
                let apart = offsets[i] + a.bytes <= offsets[j] || offsets[j] + b.bytes <= offsets[i];
                assert!(apart || !together, "{i} and {j}");
            }
        }
        assert_eq!(improve(&buffers, 7 << 20, (poor.clone(), 7 << 20)).0, poor, "good enough is left alone");
    }
}
