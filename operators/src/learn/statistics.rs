//! Statistics of each task, kept differentially: totals, and windows that slide by retraction.

use std::collections::{BTreeMap, VecDeque};

use differential_dataflow::difference::{Abelian, Semigroup};
use differential_dataflow::operators::CountTotal;
use differential_dataflow::{AsCollection, VecCollection};
use rustc_hash::FxHashMap;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::Concat;
use timely::dataflow::operators::core::{Filter, OkErr};
use timely::dataflow::operators::generic::Operator;
use timely::dataflow::operators::vec::ToStream;

use crate::data::{Epoch, Standing, TaskDifference, TaskId, TaskScores, View};
use crate::epochs::Epochs;
use crate::flow::{Effect, Flow, KnowledgeChange, StatisticsMoved};

/// The latest epochs of a task's labels: the fewest that have the window's number of scored labels.
#[derive(Clone, Debug, Default)]
pub struct Window {
    epochs: VecDeque<(Epoch, TaskScores)>,
    count: i64,
}

impl Window {
    /// Adds an epoch's labels, and removes the epochs that `size` labels no longer need.
    pub fn slide(
        &mut self,
        epoch: Epoch,
        scores: TaskScores,
        size: i64,
    ) -> Vec<(Epoch, TaskScores)> {
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

/// A task's statistics as the knowledge base has them when the dataflow starts.
#[derive(Clone, Debug)]
pub struct RestoredStatistics {
    /// The task.
    pub task: TaskId,
    /// Sum over all of its labels.
    pub total: TaskScores,
    /// Epochs of its window, oldest first.
    pub window: Vec<(Epoch, TaskScores)>,
}

/// Windows of a worker's tasks.
struct Windows {
    size: i64,
    tasks: FxHashMap<TaskId, Window>,
}

impl Windows {
    fn restore(size: i64, restored: &[RestoredStatistics]) -> Self {
        let mut tasks: FxHashMap<TaskId, Window> = FxHashMap::default();
        for task in restored {
            let window = tasks.entry(task.task).or_default();
            for (epoch, scores) in &task.window {
                window.slide(*epoch, *scores, i64::MAX);
            }
        }
        Windows { size, tasks }
    }

    /// Takes in a task's labels of an epoch. Returns the change to commit, and the difference of
    /// the task's standing.
    fn slide(
        &mut self,
        epoch: Epoch,
        task: TaskId,
        difference: Box<TaskDifference>,
    ) -> (StatisticsMoved, Standing) {
        let mut standing = Standing {
            total: difference.scores(),
            window: TaskScores::default(),
        };
        let mut left = Vec::new();
        // Labels of the bootstrap have no score, and are in no window.
        if difference.score.count > 0 {
            standing.window = standing.total;
            let window = self.tasks.entry(task).or_default();
            for (epoch, mut scores) in window.slide(epoch, standing.total, self.size) {
                scores.negate();
                standing.window.plus_equals(&scores);
                left.push(epoch);
            }
        }
        let moved = StatisticsMoved {
            task,
            difference,
            left,
        };
        (moved, standing)
    }
}

/// A task, and the difference that an epoch's labels make to its statistics.
pub type Summary = (TaskId, Box<TaskDifference>);

/// Output of sliding: a change to commit, or the difference of a standing.
enum Slid {
    Change(StatisticsMoved),
    Standing(Epoch, TaskId, Standing),
}

/// Sums the workers' summaries and slides the windows, once an epoch is complete.
// The error of `ok_err` is only the second of two streams.
#[allow(clippy::result_large_err)]
fn slide<'scope>(
    summaries: Flow<'scope, Summary>,
    mut windows: Windows,
) -> (Flow<'scope, Effect>, Flow<'scope, Update>) {
    let by_task = Exchange::new(|(task, _): &Summary| task.0);
    let slid: Flow<'scope, Slid> =
        summaries.per_epoch(by_task, "Slide", move |epoch, mut summaries, out| {
            // Sorted, the workers' summaries of a task are side by side, and changes come in order.
            summaries.sort_unstable_by_key(|(task, _)| *task);
            let mut summaries = summaries.into_iter().peekable();
            while let Some((task, mut difference)) = summaries.next() {
                while let Some((_, other)) = summaries.next_if(|(next, _)| *next == task) {
                    TaskDifference::plus_equals(&mut difference, &*other);
                }
                let (moved, standing) = windows.slide(epoch, task, difference);
                out.give(Slid::Change(moved));
                out.give(Slid::Standing(epoch, task, standing));
            }
        });
    slid.ok_err(|slid| match slid {
        Slid::Change(moved) => Ok(Effect::from(KnowledgeChange::StatisticsMoved(moved))),
        Slid::Standing(epoch, task, standing) => Err((task, epoch, standing)),
    })
}

/// Update of a differential collection.
type Update = (TaskId, Epoch, Standing);

/// Keeps the standing of all tasks. The first returned stream has the new standing of each task
/// that moved, the second the changes to commit. `restored` are this worker's tasks.
pub fn statistics<'scope>(
    summaries: Flow<'scope, Summary>,
    window: i64,
    restored: Vec<RestoredStatistics>,
) -> (Flow<'scope, View>, Flow<'scope, Effect>) {
    let scope = summaries.scope();
    let (changes, moved) = slide(summaries, Windows::restore(window, &restored));
    // Restored standings enter at epoch 0, before anything moves.
    let initial = restored
        .iter()
        .map(restore)
        .collect::<Vec<_>>()
        .to_stream(scope);
    let collection: VecCollection<'scope, Epoch, TaskId, Standing> =
        moved.concat(initial).as_collection();
    let counted = collection.count_total().inner;
    let views = at_their_epochs(counted.filter(|(_, _, difference)| *difference > 0));
    (views, changes)
}

/// Sends each view with the timestamp of its epoch. Differential dataflow, when several epochs are
/// complete at once, sends all views with the timestamp of the earliest.
fn at_their_epochs<'scope>(counted: Flow<'scope, (View, Epoch, isize)>) -> Flow<'scope, View> {
    counted.unary(Pipeline, "At their epochs", |_capability, _info| {
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

fn restore(restored: &RestoredStatistics) -> Update {
    let mut window = TaskScores::default();
    for (_, scores) in &restored.window {
        window.plus_equals(scores);
    }
    let standing = Standing {
        total: restored.total,
        window,
    };
    (restored.task, Epoch(0), standing)
}
