//! New tasks: which tasks of the samples' paths nobody has defined yet.

use std::rc::Rc;

use rustc_hash::FxHashSet;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::Operator;

use crate::data::{TaskDefinition, TaskId};
use crate::epochs::Stash;
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
        .unary(Pipeline, "Meet", move |_capability, _info| {
            move |input, output| {
                input.for_each(|capability, batches| {
                    let mut session = output.session(&capability);
                    for allocated in batches.drain(..) {
                        for group in &allocated.groups {
                            // The leaf tells: its ancestors were met with it.
                            if !met.contains(&group.path.leaf().task) {
                                for node in &group.path.nodes {
                                    if met.insert(node.task) {
                                        session.give(node.clone());
                                    }
                                }
                            }
                        }
                    }
                });
            }
        })
        // Two workers can meet a task in one epoch; or in two, the later epoch on the faster worker.
        // Each epoch is therefore looked at once it is complete.
        .unary_frontier(
            Exchange::new(|task: &TaskDefinition| task.task.0),
            "Define",
            move |_capability, _info| {
                let mut stash = Stash::new();
                move |(input, frontier), output| {
                    input.for_each(|capability, tasks| {
                        stash.hold(&capability, 0, tasks.drain(..));
                    });
                    while let Some((_, capability, tasks)) = stash.next(frontier) {
                        let mut session = output.session(&capability);
                        let new = |task: &TaskDefinition| defined.insert(task.task);
                        session.give_iterator(tasks.into_iter().filter(new));
                    }
                }
            },
        )
}
