//! Adaptation: what an epoch's labels teach the adapters of their tasks.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::Operator;

use crate::adapter::{AdapterSum, steps};
use crate::flow::{Flow, Labelled, LabelledEpoch};
use crate::integrate::{Adapters, log};
use crate::stash::Stash;
use crate::{AdapterMoved, TaskId};

/// Sums by task, and by the task whose model answered: within an epoch labels come in for predictions of several.
type Sums = FxHashMap<(TaskId, TaskId), AdapterSum>;

/// What the labels of one group of a batch say, before it is known for which tasks.
#[derive(Clone, Default)]
struct GroupSum {
    samples: i64,
    last: u64,
    /// By class.
    labels: Vec<i64>,
    /// Models × classes.
    expected: Vec<i64>,
    /// By slot.
    excess: Vec<i64>,
}

/// Sums up the labels of an epoch.
fn sums(labelled: &LabelledEpoch, classes: usize) -> Sums {
    let mut sums = Sums::default();
    for part in &labelled.parts {
        if !part.scored.is_predicted() {
            continue;
        }
        let groups = by_group(part, classes);
        for (number, group) in groups.iter().enumerate().filter(|(_, sum)| sum.samples > 0) {
            to_path(part, number, group, classes, &mut sums);
        }
    }
    sums
}

/// Sums up the labels of one batch by finest task.
fn by_group(part: &Labelled, classes: usize) -> Vec<GroupSum> {
    let scored = &part.scored;
    let allocated = &scored.allocated;
    let mut groups = vec![GroupSum::default(); allocated.groups.len()];
    let mut logits = Vec::with_capacity(classes);
    for (row, label) in part.rows.iter().zip(&part.labels) {
        let (row, label) = (*row as usize, *label as usize);
        let number = allocated.group_of[row] as usize;
        let (sum, pool) = (&mut groups[number], &scored.pools[number]);
        if sum.samples == 0 {
            sum.labels.resize(classes, 0);
            sum.expected.resize(pool.models.len() * classes, 0);
            sum.excess
                .resize(2 * allocated.groups[number].path.nodes.len(), 0);
        }
        sum.samples += 1;
        sum.last = sum.last.max(allocated.batch.sequence(row));
        sum.labels[label] += steps(1.0);
        let answers = scored.answers.row(row);
        let Some(answers) = answers.as_slice() else {
            continue;
        };
        for (sum, said) in sum.expected.iter_mut().zip(answers) {
            *sum += steps(*said);
        }
        let lost = -log(scored.probabilities[[row, label]]);
        pool.losses(answers, label, &mut logits, |expert, loss| {
            sum.excess[expert.slot as usize] += steps(loss - lost);
        });
    }
    groups
}

/// Adds what a group says to every task on its path whose adapter had a say.
fn to_path(part: &Labelled, number: usize, group: &GroupSum, classes: usize, sums: &mut Sums) {
    let path = &part.scored.allocated.groups[number].path;
    let pool = &part.scored.pools[number];
    for (depth, node) in path.nodes.iter().enumerate() {
        let is_leaf = depth + 1 == path.nodes.len();
        let Some(model) = pool.corrected(depth) else {
            continue;
        };
        let source = pool.models[model].task;
        let expected = &group.expected[model * classes..(model + 1) * classes];
        let excess = if is_leaf { &*group.excess } else { &[] };
        let sum = sums.entry((node.task, source)).or_default();
        sum.count(group.last, group.samples, [&group.labels, expected, excess]);
    }
}

/// The adapters of one worker's tasks.
fn learn(adapters: &mut Adapters, sums: Vec<(TaskId, AdapterSum)>) -> Vec<AdapterMoved> {
    let mut tasks: BTreeMap<TaskId, BTreeMap<TaskId, AdapterSum>> = BTreeMap::new();
    for (task, sum) in sums {
        let sources = tasks.entry(task).or_default();
        let to = sources.entry(sum.source).or_insert_with(|| AdapterSum {
            source: sum.source,
            ..AdapterSum::default()
        });
        to.add(&sum);
    }
    let moved = tasks.into_iter().filter_map(|(task, sources)| {
        // A model that no longer answers needs no correction.
        let latest = sources.into_values().max_by_key(|sum| sum.last)?;
        let mut adapter = adapters
            .get(&task)
            .map(|known| (**known).clone())
            .unwrap_or_default();
        adapter.learn(&latest);
        let adapter = Arc::new(adapter);
        adapters.insert(task, adapter.clone());
        Some(AdapterMoved { task, adapter })
    });
    moved.collect()
}

/// Lets adapters learn from labels, each on the worker that its task belongs to. `restored` are that worker's adapters as
/// the knowledge base has them.
pub fn adapt<'scope>(
    labelled: Flow<'scope, Rc<LabelledEpoch>>,
    classes: usize,
    restored: Adapters,
) -> Flow<'scope, AdapterMoved> {
    let mut adapters = restored;
    labelled
        .unary(Pipeline, "SumUp", move |_capability, _info| {
            move |input, output| {
                input.for_each(|capability, epochs| {
                    let mut session = output.session(&capability);
                    for labelled in epochs.drain(..) {
                        let sums = sums(&labelled, classes).into_iter();
                        session.give_iterator(
                            sums.map(|((task, source), sum)| (task, AdapterSum { source, ..sum })),
                        );
                    }
                });
            }
        })
        .unary_frontier(
            Exchange::new(|(task, _): &(TaskId, AdapterSum)| task.0),
            "Adapt",
            move |_capability, _info| {
                let mut stash = Stash::new();
                move |(input, frontier), output| {
                    input.for_each(|capability, sums| {
                        stash.hold(&capability, 0, sums.drain(..));
                    });
                    while let Some((_, capability, sums)) = stash.next(frontier) {
                        let moved = learn(&mut adapters, sums);
                        output.session(&capability).give_iterator(moved.into_iter());
                    }
                }
            },
        )
}
