//! Statistics per task, differentially: totals, and windows that slide by retraction.

use std::collections::{BTreeMap, VecDeque};

use differential_dataflow::difference::{Abelian, Semigroup};
use differential_dataflow::operators::CountTotal;
use differential_dataflow::{AsCollection, VecCollection};
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::Operator;
use timely::dataflow::operators::vec::{Map, ToStream};
use timely::dataflow::operators::{Concat, core::Filter};

use crate::flow::{Effect, Flow};
use crate::stash::Stash;
use crate::{Epoch, KnowledgeChange, StatisticsMoved, TaskDifference, TaskId};

/// Over which labels a statistic goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Span {
    /// All there ever were.
    Total,
    /// The task's latest ones.
    Window,
}

/// The latest epochs of a task's labels: the fewest that hold the window's number of scored labels.
#[derive(Clone, Debug, Default)]
pub struct Window {
    epochs: VecDeque<(Epoch, TaskDifference)>,
    count: i64,
}

impl Window {
    /// Adds an epoch's labels and takes out the epochs that are no longer needed for `size` labels.
    pub fn slide(
        &mut self,
        epoch: Epoch,
        scores: TaskDifference,
        size: i64,
    ) -> Vec<(Epoch, TaskDifference)> {
        self.count += scores.score.count;
        self.epochs.push_back((epoch, scores));
        let mut left = Vec::new();
        while let Some((_, oldest)) = self.epochs.front() {
            if self.count - oldest.score.count < size {
                break;
            }
            self.count -= oldest.score.count;
            left.extend(self.epochs.pop_front());
        }
        left
    }
}

/// What the knowledge base has of a task's statistics when the dataflow starts.
#[derive(Clone, Debug)]
pub struct RestoredStatistics {
    /// The task.
    pub task: TaskId,
    /// Its total.
    pub total: TaskDifference,
    /// The epochs in its window, oldest first.
    pub window: Vec<(Epoch, TaskDifference)>,
}

/// A task's statistics moved in an epoch.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Moved {
    task: TaskId,
    epoch: Epoch,
    difference: TaskDifference,
    left: Vec<(Epoch, TaskDifference)>,
}

/// Sums the workers' summaries and slides the windows, once an epoch is complete.
fn slide<'scope>(
    summaries: Flow<'scope, (TaskId, TaskDifference)>,
    size: i64,
    restored: &[RestoredStatistics],
) -> Flow<'scope, Moved> {
    let mut windows: FxHashMap<TaskId, Window> = FxHashMap::default();
    for task in restored {
        let window = windows.entry(task.task).or_default();
        for (epoch, scores) in &task.window {
            window.slide(*epoch, scores.clone(), i64::MAX);
        }
    }
    summaries.unary_frontier(
        Exchange::new(|(task, _): &(TaskId, TaskDifference)| task.0),
        "Slide",
        move |_capability, _info| {
            let mut stash = Stash::new();
            move |(input, frontier), output| {
                input.for_each(|capability, summaries| {
                    stash.hold(&capability, 0, summaries.drain(..));
                });
                while let Some((epoch, capability, summaries)) = stash.next(frontier) {
                    let mut sums: FxHashMap<TaskId, TaskDifference> = FxHashMap::default();
                    for (task, difference) in summaries {
                        sums.entry(task).or_default().plus_equals(&difference);
                    }
                    let mut session = output.session(&capability);
                    for (task, difference) in sums {
                        let window = windows.entry(task).or_default();
                        let left = if difference.score.count > 0 {
                            window.slide(epoch, difference.scores(), size)
                        } else {
                            Vec::new()
                        };
                        session.give(Moved {
                            task,
                            epoch,
                            difference,
                            left,
                        });
                    }
                }
            }
        },
    )
}

impl Moved {
    /// What the move adds to the collection: to the total and the window, and what the window loses.
    fn updates(self) -> Vec<((TaskId, Span), Epoch, TaskDifference)> {
        let Moved {
            task,
            epoch,
            difference,
            left,
        } = self;
        let mut updates = Vec::with_capacity(2);
        // Labels without a score, those of the bootstrap, are in no window.
        let mut window = TaskDifference::default();
        if difference.score.count > 0 {
            window = difference.scores();
        }
        for (_, mut scores) in left {
            scores.negate();
            window.plus_equals(&scores);
        }
        updates.push(((task, Span::Window), epoch, window));
        updates.push(((task, Span::Total), epoch, difference));
        updates
    }
}

/// The current value of a statistic.
pub type View = ((TaskId, Span), TaskDifference);

/// Keeps the statistics of all tasks; `restored` are those of this worker's tasks. The first stream carries the new value of each statistic that
/// moved; the second what is committed: the changes, and the new totals.
pub fn statistics<'scope>(
    summaries: Flow<'scope, (TaskId, TaskDifference)>,
    window: i64,
    restored: Vec<RestoredStatistics>,
) -> (Flow<'scope, View>, Flow<'scope, Effect>) {
    let scope = summaries.scope();
    let moved = slide(summaries, window, &restored);
    let changes = moved.clone().map(|moved| {
        Effect::Change(KnowledgeChange::StatisticsMoved(StatisticsMoved {
            task: moved.task,
            difference: moved.difference,
            left: moved.left.into_iter().map(|(epoch, _)| epoch).collect(),
        }))
    });
    // What is known at the start enters at the first epoch of all, before anything moves.
    let known = restored
        .into_iter()
        .flat_map(initial)
        .collect::<Vec<_>>()
        .to_stream(scope);
    let collection: VecCollection<'scope, Epoch, (TaskId, Span), TaskDifference> =
        moved.flat_map(Moved::updates).concat(known).as_collection();
    let counted = collection.count_total().inner;
    let views = at_their_epochs(counted.filter(|(_, _, difference)| *difference > 0));
    let totals = views
        .clone()
        .filter(|((_, span), _)| *span == Span::Total)
        .map(|((task, _), total)| Effect::Statistics(task, total));
    (views, changes.concat(totals))
}

/// Gives each view the timestamp of its epoch: what differential dataflow counts when several epochs
/// are complete at once, it sends with that of the earliest.
fn at_their_epochs<'scope>(counted: Flow<'scope, (View, Epoch, isize)>) -> Flow<'scope, View> {
    counted.unary(Pipeline, "AtTheirEpochs", |_capability, _info| {
        |input, output| {
            input.for_each(|capability, counted| {
                let mut epochs: BTreeMap<Epoch, Vec<View>> = BTreeMap::new();
                for (view, epoch, _) in counted.drain(..) {
                    epochs.entry(epoch).or_default().push(view);
                }
                for (epoch, views) in epochs {
                    let capability = capability.delayed(&epoch, 0);
                    output.session(&capability).give_iterator(views.into_iter());
                }
            });
        }
    })
}

fn initial(restored: RestoredStatistics) -> Vec<((TaskId, Span), Epoch, TaskDifference)> {
    let mut window = TaskDifference::default();
    for (_, scores) in &restored.window {
        window.plus_equals(scores);
    }
    vec![
        ((restored.task, Span::Total), Epoch(0), restored.total),
        ((restored.task, Span::Window), Epoch(0), window),
    ]
}
