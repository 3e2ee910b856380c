//! Known tasks: those of which there are enough labels.

use rustc_hash::FxHashSet;
use timely::dataflow::channels::pact::Exchange;

use crate::data::{TaskId, View};
use crate::epochs::Epochs;
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
    views.per_epoch(by_task, "Known", move |_epoch, views, out| {
        let labelled = views
            .into_iter()
            .filter(|(_, standing)| standing.total.labelled >= labels);
        let tasks = labelled.map(|(task, _)| task);
        out.give_iterator(tasks.filter(|task| known.insert(*task)));
    })
}
