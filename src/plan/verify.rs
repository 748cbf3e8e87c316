//! Checks a layout from the other direction: not by lifetimes, but by playing the run and asking, at every read, whose
//! bytes these are. It shares no code with the planner.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{EntryPlan, MemoryPlan, Persistent};
use crate::{
    graph::{Graph, Role, ValueId},
    tensor::{ALIGNMENT, Place},
};

/// Who wrote each byte last, as disjoint ranges: start -> (end, owner).
#[derive(Default)]
struct Owners {
    ranges: BTreeMap<usize, (usize, Owner)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Value(ValueId),
    Workspace(usize),
}

/// Plays every graph of the program over its layout.
///
/// # Errors
/// The first violation as a sentence: a value read after its bytes were overwritten, operands that overlap without being
/// declared in place, a range that is misaligned or outside the arena, a persistent value that is not where the host and
/// the other graphs look for it, transient bytes among the persistent ones.
pub fn verify(graphs: &[Graph], plan: &MemoryPlan) -> Result<(), String> {
    verify_apart(graphs, plan)?;
    if let Some(staged) = plan.staged {
        let stray = graphs.iter().enumerate().find(|(index, graph)| {
            let names_one = |value: &crate::graph::Value| {
                value.role.is_persistent()
                    && plan.persistent.iter().any(|other| {
                        other.name == value.name && other.place.bytes > 0 && other.place.overlaps(&staged.place)
                    })
            };
            *index != staged.entry && graph.values.iter().any(names_one)
        });
        if let Some((index, _)) = stray {
            return Err(format!("graph {index} uses a value that is on the host while it runs"));
        }
    }
    graphs.iter().zip(&plan.entries).try_for_each(|(graph, entry)| {
        verify_regions(graph, entry, plan)?;
        verify_entry(graph, entry, plan.total)
    })
}

/// Persistent values lie apart, but for batches of different graphs, of which only one is there at a time.
fn verify_apart(graphs: &[Graph], plan: &MemoryPlan) -> Result<(), String> {
    let apart = |mut values: Vec<&Persistent>| {
        values.sort_by_key(|value| (value.place.offset, value.place.end()));
        match values.windows(2).find(|pair| pair[0].place.end() > pair[1].place.offset) {
            Some(pair) => Err(format!("persistent {} reaches into {}", pair[0].name, pair[1].name)),
            None => Ok(()),
        }
    };
    let batches_of = |graph: &Graph| -> HashSet<String> {
        graph.with_role(Role::Batch).into_iter().map(|id| graph.value(id).name.clone()).collect()
    };
    let batches: Vec<HashSet<String>> = graphs.iter().map(batches_of).collect();
    let lasts = |value: &&Persistent| batches.iter().all(|names| !names.contains(&value.name));
    // Everything that lasts, with the batches of one graph at a time.
    batches.iter().try_for_each(|names| {
        apart(plan.persistent.iter().filter(|value| names.contains(&value.name) || lasts(value)).collect())
    })
}

/// What one graph cannot see: a pass that knows nothing of the optimizer must still not use its bytes, and all graphs
/// and the host must look for a value of one name in one place.
fn verify_regions(graph: &Graph, entry: &EntryPlan, plan: &MemoryPlan) -> Result<(), String> {
    let directory: HashMap<&str, Place> =
        plan.persistent.iter().map(|value| (value.name.as_str(), value.place)).collect();
    for value in &plan.persistent {
        let is_staged = plan
            .staged
            .is_some_and(|staged| value.place.offset >= staged.place.offset && value.place.end() <= staged.place.end());
        if value.place.end() > plan.persistent_bytes && !is_staged {
            return Err(format!("persistent {} reaches into the transient region", value.name));
        }
    }
    let values = graph.values.iter().zip(&entry.values);
    for (value, place) in values.clone().filter(|(value, _)| value.role.is_persistent()) {
        if directory.get(value.name.as_str()) != Some(place) {
            return Err(format!("{} is not where the host looks for it", value.name));
        }
    }
    let transient = values.filter(|(value, _)| !value.role.is_persistent()).map(|(value, place)| (&value.name, place));
    let workspaces = graph.nodes.iter().zip(&entry.workspaces).map(|(node, place)| (&node.name, place));
    for (name, place) in transient.chain(workspaces).filter(|(_, place)| place.bytes > 0) {
        if place.offset < plan.persistent_bytes {
            return Err(format!("{name} lies in the persistent region"));
        }
    }
    Ok(())
}

fn verify_entry(graph: &Graph, entry: &EntryPlan, total: usize) -> Result<(), String> {
    let place = |id: ValueId| entry.values[id.0];
    let mut owners = Owners::default();
    for (index, value) in graph.values.iter().enumerate() {
        if place(ValueId(index)).end() > total {
            return Err(format!("{} ends outside the arena of {total} bytes", value.name));
        }
        if !place(ValueId(index)).offset.is_multiple_of(ALIGNMENT) {
            return Err(format!("{} is misaligned", value.name));
        }
        if value.producer.is_none() {
            owners.write(place(ValueId(index)), Owner::Value(ValueId(index)));
        }
    }
    for (index, node) in graph.nodes.iter().enumerate() {
        let name = &node.name;
        for &input in &node.inputs {
            if !owners.holds(place(input), Owner::Value(input)) {
                let lost = &graph.value(input).name;
                return Err(format!("{name} reads {lost} after its bytes were overwritten"));
            }
        }
        let workspace = entry.workspaces[index];
        if workspace.end() > total || !workspace.offset.is_multiple_of(ALIGNMENT) {
            return Err(format!("{name}: the workspace is misaligned or outside the arena of {total} bytes"));
        }
        let mut written: Vec<Place> = vec![workspace];
        for (position, &output) in node.outputs.iter().enumerate() {
            let target = place(output);
            if target.bytes != graph.value(output).spec.bytes() {
                return Err(format!("{name}: output {position} has {} bytes", target.bytes));
            }
            if written.iter().any(|other| other.overlaps(&target)) {
                return Err(format!("{name}: output {position} overlaps another output or the workspace"));
            }
            for (operand, &input) in node.inputs.iter().enumerate() {
                let pair = (operand, position);
                let update = node.op.updates(node.inputs.len()).contains(&pair);
                let allowed = update || node.op.in_place().contains(&pair);
                let same = place(input).offset == target.offset;
                if place(input).overlaps(&target) && !(allowed && same) {
                    return Err(format!("{name}: output {position} overlaps input {operand}"));
                }
                if update && !same {
                    return Err(format!("{name}: output {position} must lie where input {operand} does"));
                }
            }
            written.push(target);
        }
        if node.inputs.iter().any(|&input| place(input).overlaps(&workspace)) {
            return Err(format!("{name}: the workspace overlaps an input"));
        }
        owners.write(workspace, Owner::Workspace(index));
        for &output in &node.outputs {
            owners.write(place(output), Owner::Value(output));
        }
    }
    for (index, value) in graph.values.iter().enumerate() {
        let id = ValueId(index);
        let is_newest = !graph.values.iter().any(|other| other.updates == Some(id));
        if value.role.is_persistent() && is_newest && !owners.holds(place(id), Owner::Value(id)) {
            return Err(format!("{} does not survive the run", value.name));
        }
    }
    Ok(())
}

impl Owners {
    fn write(&mut self, place: Place, owner: Owner) {
        if place.bytes == 0 {
            return;
        }
        let touched: Vec<usize> = self
            .ranges
            .range(..place.end())
            .rev()
            .take_while(|(_, (end, _))| *end > place.offset)
            .map(|(start, _)| *start)
            .collect();
        for start in touched {
            let (end, other) = self.ranges.remove(&start).expect("it was just seen");
            if start < place.offset {
                self.ranges.insert(start, (place.offset, other));
            }
            if end > place.end() {
                self.ranges.insert(place.end(), (end, other));
            }
        }
        self.ranges.insert(place.offset, (place.end(), owner));
    }

    fn holds(&self, place: Place, owner: Owner) -> bool {
        place.bytes == 0 || self.ranges.get(&place.offset) == Some(&(place.end(), owner))
    }
}
