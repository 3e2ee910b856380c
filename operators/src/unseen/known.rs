//! Known tasks: those of which there are enough labels.

use rustc_hash::FxHashSet;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::Operator;

use crate::data::{TaskId, View};
use crate::flow::Flow;

/// Tells of each task once that has so many labels. `restored` are those of this worker's tasks that are known already.
pub fn known<'scope>(
    views: Flow<'scope, View>,
    labels: i64,
    restored: impl IntoIterator<Item = TaskId>,
) -> Flow<'scope, TaskId> {
    let mut known: FxHashSet<TaskId> = restored.into_iter().collect();
    // Differential dataflow has workers of its own for tasks.
    let by_task = Exchange::new(|(task, _): &View| task.0);
    views.unary(by_task, "Known", move |_capability, _info| {
        move |input, output| {
            input.for_each(|capability, views| {
                let mut session = output.session(&capability);
                let labelled = views
                    .drain(..)
                    .filter(|(_, standing)| standing.total.labelled >= labels);
                session.give_iterator(
                    labelled
                        .map(|(task, _)| task)
                        .filter(|task| known.insert(*task)),
                );
            });
        }
    })
}
