//! Which activations to forget, in which order: a ladder of rematerialisation levels, each with less memory and more work.
//!
//! First what costs only memory traffic (normalisation, pooling, concatenation, upsampling, dropout), then whole
//! convolutions by what they relieve per operation. Both phases are greedy. The peak alone is a poor guide, because
//! forgetting one of two values that are alive at two equal peaks shows only when the other is forgotten too; so the
//! measure is a *soft peak*, the sum over all nodes of a high power of the bytes alive there.

use super::{Options, lifetime};
use crate::{
    graph::{Graph, Node},
    rematerialise::{Candidate, Forgotten, Reuse, candidates, rematerialise},
};

/// The power of the soft peak. Nodes at 90 % of the peak still count a twelfth, nodes at half of it nothing.
const SOFTNESS: i32 = 24;

/// Operations that take as long as moving one byte: what bytes moved again weigh against operations done again. Between a
/// desktop processor's (about 10) and a data centre GPU's (over 100); only the order of the choices depends on it.
const OPERATIONS_PER_BYTE: f64 = 16.0;

/// One level of rematerialisation.
#[derive(Clone, Debug)]
pub struct Level {
    /// What is forgotten.
    pub forgotten: Forgotten,
    /// The graph with that.
    pub graph: Graph,
    /// The largest sum of transient bytes that are alive at once: no layout can be smaller.
    pub lower_bound: usize,
}

/// A change that the search may make to what is forgotten.
#[derive(Clone, Copy)]
struct Move {
    candidate: Candidate,
    reuse: Reuse,
    /// What it relieved for its cost when it was last tried.
    gain: f64,
}

struct Search<'a> {
    graph: &'a Graph,
    options: Options,
    scale: f64,
}

/// A graph's state during the search.
struct Trial {
    graph: Graph,
    soft_peak: f64,
    lower_bound: usize,
    cost: f64,
}

/// All levels of a training graph, from `none` (everything is kept) to `full` (as little memory as this search finds).
/// Lower bounds fall strictly from level to level.
pub fn ladder(graph: &Graph, options: Options) -> Vec<Level> {
    let (none, _) = lifetime::lower_bound(&lifetime::buffers(graph, options), graph.nodes.len());
    let mut levels = vec![Level { forgotten: Forgotten::default(), graph: graph.clone(), lower_bound: none }];
    let search = Search { graph, options, scale: none.max(1) as f64 };
    let mut forgotten = Forgotten::default();
    let mut state = search.apply(&forgotten);
    let (cheap, costly): (Vec<_>, Vec<_>) = candidates(graph).into_iter().partition(|candidate| candidate.flops == 0);
    let moves = |of: &[Candidate], reuse| -> Vec<Move> {
        of.iter().map(|&candidate| Move { candidate, reuse, gain: f64::INFINITY }).collect()
    };
    // Cheap copies never wait, whatever their reuse says.
    let phases = [moves(&cheap, Reuse::Near), [moves(&costly, Reuse::Shared), moves(&costly, Reuse::Near)].concat()];
    let mut open = Vec::new();
    for phase in phases {
        open.extend(phase);
        while let Some((next, taken)) = search.best(&mut open, &forgotten, &state) {
            forgotten.insert(taken.candidate.value, taken.reuse);
            state = next;
            if state.lower_bound < levels.last().map_or(usize::MAX, |level| level.lower_bound) {
                levels.push(Level {
                    forgotten: forgotten.clone(),
                    graph: state.graph.clone(),
                    lower_bound: state.lower_bound,
                });
            }
        }
        // What did not help on its own may help once convolutions are forgotten.
        open.iter_mut().for_each(|option| option.gain = f64::INFINITY);
    }
    levels
}

/// The predicted time of a node, in operations.
pub(super) fn cost(graph: &Graph, node: &Node) -> f64 {
    let (inputs, outputs) = (graph.specs(&node.inputs), graph.specs(&node.outputs));
    node.op.flops(&inputs, &outputs) as f64 + OPERATIONS_PER_BYTE * node.op.traffic(&inputs, &outputs) as f64
}

impl Search<'_> {
    fn apply(&self, forgotten: &Forgotten) -> Trial {
        let graph = rematerialise(self.graph, forgotten);
        let buffers = lifetime::buffers(&graph, self.options);
        let alive = lifetime::alive(&buffers, graph.nodes.len());
        let soft_peak = alive.iter().map(|&bytes| (bytes as f64 / self.scale).powi(SOFTNESS)).sum();
        let cost = graph.nodes.iter().map(|node| cost(&graph, node)).sum();
        Trial { soft_peak, lower_bound: alive.into_iter().max().unwrap_or(0), cost, graph }
    }

    /// Takes the move that relieves most for its cost out of `open`. Gains found earlier serve as estimates: moves are tried
    /// again in their order until one is better than all estimates behind it, and all are tried before the search gives up.
    fn best(&self, open: &mut Vec<Move>, forgotten: &Forgotten, state: &Trial) -> Option<(Trial, Move)> {
        open.retain(|option| forgotten.get(option.candidate.value).is_none_or(|reuse| option.reuse > reuse));
        open.sort_by(|a, b| b.gain.total_cmp(&a.gain));
        let mut found: Option<(usize, Trial)> = None;
        for index in 0..open.len() {
            let best = found.as_ref().map_or(0.0, |(at, _)| open[*at].gain);
            if best > 0.0 && best >= open[index].gain {
                break;
            }
            let mut tried = forgotten.clone();
            tried.insert(open[index].candidate.value, open[index].reuse);
            let trial = self.apply(&tried);
            // Relative to the present soft peak: it falls by orders of magnitude on the way down.
            let relief = (state.soft_peak - trial.soft_peak) / state.soft_peak;
            let is_noise = relief < 1e-6;
            open[index].gain = if is_noise { 0.0 } else { relief / (trial.cost - state.cost).max(1.0) };
            if open[index].gain > best {
                found = Some((index, trial));
            }
        }
        let (index, trial) = found?;
        Some((trial, open.remove(index)))
    }
}
