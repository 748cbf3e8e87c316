//! Which transient bytes must exist when.

use super::Options;
use crate::{
    graph::{Graph, ValueId},
    tensor::align,
};

/// A run of transient bytes with one lifetime: a value, several that hand the same bytes on, or a node's workspace.
#[derive(Clone, Debug)]
pub struct Buffer {
    /// The values that live in it, one after the other.
    pub values: Vec<ValueId>,
    /// The node whose scratch memory it is, if it is no value's.
    pub workspace_of: Option<usize>,
    /// Bytes of content.
    pub content: usize,
    /// Bytes to reserve: content, guard, padding.
    pub bytes: usize,
    /// The first node during which it must exist.
    pub first: usize,
    /// The last node during which it must exist.
    pub last: usize,
}

/// The transient buffers of a graph.
///
/// A value dies after its last reader, except when that reader may work in place: then its bytes pass to the output and
/// the two share one lifetime. `verify` checks that from the other direction.
pub(super) fn buffers(graph: &Graph, options: Options) -> Vec<Buffer> {
    let last_use = last_uses(graph);
    let mut buffers: Vec<Buffer> = Vec::new();
    let mut buffer_of: Vec<Option<usize>> = vec![None; graph.values.len()];
    for (index, node) in graph.nodes.iter().enumerate() {
        let mut taken = Vec::new();
        for (position, &output) in node.outputs.iter().enumerate() {
            let value = graph.value(output);
            if value.role.is_persistent() {
                continue;
            }
            if let Some(earlier) = value.updates {
                let buffer = buffer_of[earlier.0].expect("an updated activation was made before");
                extend(&mut buffers[buffer], output, last_use[output.0].max(index));
                buffer_of[output.0] = Some(buffer);
                continue;
            }
            let reused = node.op.in_place().into_iter().find_map(|(input, target)| {
                let source = node.inputs[input];
                let buffer = buffer_of[source.0]?;
                let fits = graph.value(source).spec.bytes() == value.spec.bytes();
                let dies = last_use[source.0] == index && buffers[buffer].last == index;
                let read_once = node.inputs.iter().filter(|&&id| id == source).count() == 1;
                (options.in_place && target == position && fits && dies && read_once && !taken.contains(&buffer))
                    .then_some(buffer)
            });
            let buffer = match reused {
                Some(buffer) => {
                    taken.push(buffer);
                    extend(&mut buffers[buffer], output, last_use[output.0].max(index));
                    buffer
                }
                None => {
                    buffers.push(fresh(vec![output], None, value.spec.bytes(), options, index, last_use[output.0]));
                    buffers.len() - 1
                }
            };
            buffer_of[output.0] = Some(buffer);
        }
        let (inputs, outputs) = (graph.specs(&node.inputs), graph.specs(&node.outputs));
        let workspace = options.processor.workspace_bytes(&*node.op, &inputs, &outputs);
        if workspace > 0 {
            buffers.push(fresh(Vec::new(), Some(index), workspace, options, index, index));
        }
    }
    buffers
}

/// The sum of the bytes that exist during each node.
pub(super) fn alive(buffers: &[Buffer], nodes: usize) -> Vec<usize> {
    let mut alive = vec![0; nodes];
    for buffer in buffers {
        for sum in &mut alive[buffer.first..=buffer.last] {
            *sum += buffer.bytes;
        }
    }
    alive
}

/// The largest sum of bytes that exist at once, and where.
pub(super) fn lower_bound(buffers: &[Buffer], nodes: usize) -> (usize, usize) {
    alive(buffers, nodes)
        .iter()
        .enumerate()
        .map(|(node, &sum)| (sum, node))
        .max_by_key(|(sum, node)| (*sum, usize::MAX - node))
        .unwrap_or((0, 0))
}

fn fresh(
    values: Vec<ValueId>,
    workspace_of: Option<usize>,
    content: usize,
    options: Options,
    first: usize,
    last: usize,
) -> Buffer {
    Buffer { values, workspace_of, content, bytes: align(content + options.guard), first, last: last.max(first) }
}

fn extend(buffer: &mut Buffer, value: ValueId, last: usize) {
    buffer.values.push(value);
    buffer.last = buffer.last.max(last);
}

/// The last node that reads each value, or the one that makes it.
fn last_uses(graph: &Graph) -> Vec<usize> {
    let mut last: Vec<usize> = graph.values.iter().map(|value| value.producer.map_or(0, |node| node.0)).collect();
    for (index, node) in graph.nodes.iter().enumerate() {
        for input in &node.inputs {
            last[input.0] = last[input.0].max(index);
        }
    }
    last
}
