//! Merges operations that would each walk over a tensor of full resolution into their neighbours, for every processor alike.
//!
//! A pure pass over a recorded graph: a differentiated training step, a validation pass or a prediction. It runs before
//! rematerialisation, so that what is forgotten and computed again is the fused form. Each [`Pattern`] is independent of the
//! others and leaves a graph that computes the same numbers up to rounding:
//!
//! - a concatenation is read where it would be made: the convolution behind it reads two tensors side by side;
//! - its gradient is written apart: dgrad makes one tensor for each;
//! - batch norm's result is two numbers per channel, applied by whoever loads what was normalised;
//! - its statistics are sums that the convolution in front takes of its results in passing;
//! - a second gradient of the same value is added by the operation that makes the first one's partner;
//! - the ReLU's backward pass is a mask, applied by batch norm's backward pass or by wgrad and dgrad while they load;
//! - the max pool's gradient is found again by batch norm's backward pass, where nothing else stands between them.
//!
//! What a processor cannot run is left as it was: the pass asks it about every node that it would make ([`Processor::runs`]). Values keep
//! their ids, names and roles; those that nothing makes or reads any more have no producer and take no bytes.

mod concat;
mod editor;
mod forms;
mod gradients;
mod normalise;

use serde::{Deserialize, Serialize};

use self::editor::Editor;
use crate::{
    graph::{Graph, Role, ValueId},
    lowering::Processor,
};

/// Whether operations are merged. Results agree to rounding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fuse {
    /// Wherever the processor can run the merged form.
    #[default]
    Auto,
    /// Nowhere.
    None,
}

impl Fuse {
    /// The graph as it will run there.
    pub fn apply(self, graph: Graph, processor: Processor) -> Graph {
        match self {
            Self::Auto => fuse(&graph, processor),
            Self::None => graph,
        }
    }
}

/// One way of merging.
#[derive(Clone, Copy, Debug)]
pub struct Pattern {
    /// Its name, for people.
    pub name: &'static str,
    /// Applies it wherever it fits; returns how often.
    apply: fn(&mut Editor) -> usize,
}

/// All patterns, in the order in which they are applied: the earlier ones make room for the later ones.
pub const PATTERNS: [Pattern; 8] = [
    Pattern { name: "concatenation read side by side", apply: concat::join },
    Pattern { name: "gradients of a concatenation written apart", apply: concat::split },
    Pattern { name: "batch norm applied at the load", apply: normalise::at_load },
    Pattern { name: "statistics in the convolution's epilogue", apply: normalise::statistics },
    Pattern { name: "second gradient added in passing", apply: gradients::sums },
    Pattern { name: "ReLU mask in batch norm's backward", apply: gradients::masks_of_norms },
    Pattern { name: "ReLU mask at the gradient's load", apply: gradients::masks_at_load },
    Pattern { name: "max pool's gradient in batch norm's backward", apply: gradients::pools },
];

/// The graph with everything merged that the processor can run merged.
pub fn fuse(graph: &Graph, processor: Processor) -> Graph {
    fuse_with(graph, processor, &PATTERNS).0
}

/// Like [`fuse`], with these patterns alone; says how often each of them was applied.
pub fn fuse_with(graph: &Graph, processor: Processor, patterns: &[Pattern]) -> (Graph, Vec<usize>) {
    let mut editor = Editor::new(graph.clone(), processor);
    let counts = patterns.iter().map(|pattern| (pattern.apply)(&mut editor)).collect();
    (editor.finish(), counts)
}

/// How often the operations of a graph read or write an activation, or the gradient of one, from end to end.
pub fn passes(graph: &Graph) -> usize {
    let operands = graph.nodes.iter().flat_map(|node| node.inputs.iter().chain(&node.outputs));
    operands.filter(|&&id| is_tensor(graph, id)).count()
}

/// Whether a value has voxels: it is no filter, and no vector of a few numbers per channel.
fn is_tensor(graph: &Graph, id: ValueId) -> bool {
    let value = graph.value(id);
    value.spec.shape.volume().is_some() && value.role == Role::Activation
}
