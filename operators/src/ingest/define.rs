//! New tasks: which tasks of the samples' paths nobody has defined yet.

use std::rc::Rc;

use rustc_hash::FxHashSet;
use timely::dataflow::channels::pact::Exchange;

use crate::data::{TaskDefinition, TaskId};
use crate::epochs::Epochs;
use crate::flow::{Allocated, Flow};

/// Gives the definition of each task once, in the epoch of its first sample. `known` are the tasks
/// that the knowledge base has already.
pub fn define<'scope>(
    allocated: Flow<'scope, Rc<Allocated>>,
    known: Vec<TaskId>,
) -> Flow<'scope, TaskDefinition> {
    let mut met: FxHashSet<TaskId> = known.into_iter().collect();
    let mut defined = met.clone();
    allocated
        .each("Meet", move |allocated| {
            let mut new = Vec::new();
            for group in &allocated.groups {
                // A leaf that was met needs no look at its ancestors: they were met with it.
                if !met.contains(&group.path.leaf().task) {
                    let nodes = group.path.nodes.iter();
                    new.extend(nodes.filter(|node| met.insert(node.task)).cloned());
                }
            }
            new
        })
        // Two workers can meet a task in one epoch; or in two, the later epoch on the faster worker.
        // So each epoch is looked at once it is complete.
        .per_epoch(
            Exchange::new(|task: &TaskDefinition| task.task.0),
            "Define",
            move |_epoch, tasks, out| {
                out.give_iterator(tasks.into_iter().filter(|task| defined.insert(task.task)));
            },
        )
}
