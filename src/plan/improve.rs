//! Searches for a denser layout when first-fit leaves gaps.
//!
//! Activations that are computed again break the nesting of lifetimes that first-fit lives on. What remains decides itself
//! among the few large buffers: the order in which they are placed is improved by small random changes (always the same
//! ones: a plan is a pure function of its graph), and the small buffers fill the gaps afterwards.

use super::Buffer;
use crate::random::Stream;

/// Parts of the lower bound, one over this, above which a buffer counts as large.
const LARGE: usize = 256;
/// Tries. Each takes some ten microseconds.
const TRIES: usize = 1500;
/// The search is content with a layout that exceeds the lower bound by one part in this many.
const CONTENT: usize = 256;

/// A layout at least as good as `found` (offsets and total bytes).
pub(super) fn improve(buffers: &[Buffer], lower_bound: usize, found: (Vec<usize>, usize)) -> (Vec<usize>, usize) {
    let enough = lower_bound + lower_bound / CONTENT;
    if found.1 <= enough {
        return found;
    }
    let (mut order, mut small): (Vec<usize>, Vec<usize>) =
        (0..buffers.len()).partition(|&index| buffers[index].bytes >= lower_bound / LARGE);
    small.sort_by_key(|&index| (std::cmp::Reverse(buffers[index].bytes), index));
    // The found layout, from the bottom up, is an order that gives it again, or something denser.
    order.sort_by_key(|&index| (found.0[index], index));
    let mut best = Shelf::filled(buffers, &order);
    let mut stream = Stream::new(0, "placement");
    for _ in 0..TRIES {
        if best.total <= enough || order.len() < 2 {
            break;
        }
        let mut changed = order.clone();
        // What reaches the top must come down: it goes earlier. Other changes open the way for it.
        let on_top = |&at: &usize| best.offsets[order[at]] + buffers[order[at]].bytes == best.total;
        let top: Vec<usize> = (0..order.len()).filter(on_top).collect();
        let from = if stream.chance(0.5) { top[stream.below(top.len())] } else { stream.below(order.len()) };
        let moved = changed.remove(from);
        changed.insert(stream.below(order.len()), moved);
        let shelf = Shelf::filled(buffers, &changed);
        if shelf.total <= best.total {
            (best, order) = (shelf, changed);
        }
    }
    small.iter().for_each(|&index| best.put(buffers, index));
    if best.total < found.1 { (best.offsets, best.total) } else { found }
}

/// Buffers at their offsets.
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
