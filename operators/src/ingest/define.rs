//! Definition of new tasks: those of the samples' paths that are not defined yet.

use std::rc::Rc;

use rustc_hash::FxHashSet;
use timely::dataflow::channels::pact::Exchange;

use crate::data::{TaskDefinition, TaskId};
use crate::epochs::Epochs;
use crate::flow::{Allocated, Flow};

/// Emits the definition of each task once, in the epoch of its first sample. `known` are the tasks
/// that the knowledge base has already.
pub fn define<'scope>(
    allocated: Flow<'scope, Rc<Allocated>>,
    known: Vec<TaskId>,
) -> Flow<'scope, TaskDefinition> {
    let mut seen: FxHashSet<TaskId> = known.into_iter().collect();
    let mut defined = seen.clone();
    allocated
        .each("New tasks", move |allocated| {
            let mut new = Vec::new();
            for group in &allocated.groups {
                // The ancestors of a leaf that was seen were seen with it.
                if !seen.contains(&group.path.leaf().task) {
                    let nodes = group.path.nodes.iter();
                    new.extend(nodes.filter(|node| seen.insert(node.task)).cloned());
                }
            }
            new
        })
        // Two workers can see a task first in the same epoch, or a faster worker in a later one. So
        // the worker that defines it waits until an epoch is complete.
        .per_epoch(
            Exchange::new(|task: &TaskDefinition| task.task.0),
            "Define",
            move |_epoch, tasks, out| {
                out.give_iterator(tasks.into_iter().filter(|task| defined.insert(task.task)));
            },
        )
}
