//! Known tasks: tasks with enough labels to compare other samples with theirs.

use rustc_hash::FxHashSet;
use timely::dataflow::channels::pact::Exchange;

use crate::data::{TaskId, View};
use crate::epochs::Epochs;
use crate::flow::Flow;

/// Emits each task once, when it reaches `labels` labels. `restored` are the tasks of this worker
/// that have reached them before.
pub fn known<'scope>(
    views: Flow<'scope, View>,
    labels: i64,
    restored: impl IntoIterator<Item = TaskId>,
) -> Flow<'scope, TaskId> {
    let mut known: FxHashSet<TaskId> = restored.into_iter().collect();
    // Differential dataflow spreads tasks over workers by a hash of its own.
    let by_task = Exchange::new(|(task, _): &View| task.0);
    views.per_epoch(by_task, "Known", move |_epoch, views, out| {
        let labelled = views
            .into_iter()
            .filter(|(_, standing)| standing.total.labelled >= labels);
        let tasks = labelled.map(|(task, _)| task);
        out.give_iterator(tasks.filter(|task| known.insert(*task)));
    })
}
