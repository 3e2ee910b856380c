//! Adaptation: what an epoch's labels teach the adapters of their tasks.

use std::rc::Rc;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use timely::dataflow::channels::pact::Exchange;

use crate::algorithms::adapter::{AdapterSum, to_fixed_point};
use crate::algorithms::pool::{Adapters, KINDS};
use crate::data::{LabelKind, TaskId, in_scales};
use crate::epochs::Epochs;
use crate::flow::{AdapterMoved, Flow, Labelled, LabelledEpoch};

/// Sums by task, and by the task whose model answered: within an epoch labels come in for predictions of several.
type Sums = FxHashMap<(TaskId, TaskId), AdapterSum>;

/// What the labels of one group of a batch say, before it is known for which tasks.
struct GroupSum {
    /// Which group.
    number: usize,
    samples: i64,
    last: u64,
    /// Where its part of [`GroupSums::sums`] begins.
    start: usize,
}

/// What the labels of a batch say, by finest task. One buffer for all: with many tasks, few labels are of one group.
struct GroupSums {
    groups: Vec<GroupSum>,
    /// For each group of the batch its number in `groups`, plus one.
    place_of: Vec<u32>,
    /// Group by group: labels by class, what each of the pool's models expected by class, excess by slot. Where the label
    /// is a number: their count, how far above each of the models' answers they were, excess by slot.
    sums: Vec<i64>,
}

/// Sums up the labels of an epoch.
fn sums(labelled: &LabelledEpoch, kind: LabelKind) -> Sums {
    let mut sums = Sums::default();
    for part in &labelled.batches {
        if !part.predicted.is_predicted() {
            continue;
        }
        let by_group = GroupSums::of(part, kind);
        for group in &by_group.groups {
            to_path(
                part,
                group,
                &by_group.sums[group.start..],
                kind.width(),
                &mut sums,
            );
        }
    }
    sums
}

impl GroupSums {
    /// Sums up the labels of one batch by finest task.
    fn of(part: &Labelled, kind: LabelKind) -> Self {
        let scored = &part.predicted;
        let allocated = &scored.allocated;
        let mut by_group = GroupSums {
            groups: Vec::new(),
            place_of: vec![0; allocated.groups.len()],
            sums: Vec::new(),
        };
        let width = kind.width();
        let mut logits = Vec::with_capacity(width);
        for (row, label) in part.rows.iter().zip(&part.labels) {
            let (row, label) = (*row as usize, *label);
            let number = allocated.group_of[row] as usize;
            let pool = &scored.pools[number];
            let (group, sums) = by_group.group(part, number, width);
            group.samples += 1;
            group.last = group.last.max(allocated.batch.sequence(row));
            let (labels, sums) = sums.split_at_mut(width);
            let (expected, excess) = sums.split_at_mut(pool.models.len() * width);
            labels[match kind {
                LabelKind::Classes(_) => label as usize,
                LabelKind::Number => 0,
            }] += to_fixed_point(1.0);
            let (answers, answer) = (scored.outputs.row(row), scored.probabilities.row(row));
            let (Some(answers), Some(answer)) = (answers.as_slice(), answer.as_slice()) else {
                continue;
            };
            match pool.scale {
                None => {
                    for (sum, said) in expected.iter_mut().zip(answers) {
                        *sum += to_fixed_point(*said);
                    }
                }
                Some(scale) => {
                    let known = expected.iter_mut().zip(answers);
                    for (sum, said) in known.filter(|(_, said)| !said.is_nan()) {
                        *sum += to_fixed_point(in_scales(label - said, scale));
                    }
                }
            }
            let lost = pool.loss(answer, label);
            pool.losses(answers, label, &mut logits, |expert, loss| {
                excess[expert.slot as usize] += to_fixed_point(loss - lost);
            });
        }
        by_group
    }

    /// A group's sums, which begin at zero.
    fn group(
        &mut self,
        part: &Labelled,
        number: usize,
        width: usize,
    ) -> (&mut GroupSum, &mut [i64]) {
        if self.place_of[number] == 0 {
            let start = self.sums.len();
            let models = part.predicted.pools[number].models.len();
            let slots = slots(part, number);
            self.sums.resize(start + (1 + models) * width + slots, 0);
            self.groups.push(GroupSum {
                number,
                samples: 0,
                last: 0,
                start,
            });
            self.place_of[number] = self.groups.len() as u32;
        }
        let group = &mut self.groups[self.place_of[number] as usize - 1];
        let sums = &mut self.sums[group.start..];
        (group, sums)
    }
}

/// How many experts there can be along a group's path.
fn slots(part: &Labelled, number: usize) -> usize {
    KINDS * part.predicted.allocated.groups[number].path.nodes.len()
}

/// Adds what a group says to every task on its path whose adapter had a say.
fn to_path(part: &Labelled, group: &GroupSum, said: &[i64], width: usize, sums: &mut Sums) {
    let path = &part.predicted.allocated.groups[group.number].path;
    let pool = &part.predicted.pools[group.number];
    let (labels, said) = said.split_at(width);
    let (all_expected, said) = said.split_at(pool.models.len() * width);
    let all_excess = &said[..slots(part, group.number)];
    for (depth, node) in path.nodes.iter().enumerate() {
        let is_leaf = depth + 1 == path.nodes.len();
        let Some(model) = pool.corrected(depth) else {
            continue;
        };
        let source = pool.models[model].task;
        let expected = &all_expected[model * width..(model + 1) * width];
        let excess = if is_leaf { all_excess } else { &[] };
        let sum = sums.entry((node.task, source)).or_default();
        sum.count(group.last, group.samples, [labels, expected, excess]);
    }
}

/// The adapters of one worker's tasks.
fn learn(adapters: &mut Adapters, mut sums: Vec<(TaskId, AdapterSum)>) -> Vec<AdapterMoved> {
    // By task, and of each the model that answered last in front: one that no longer answers needs no correction.
    sums.sort_unstable_by_key(|(task, sum)| (*task, sum.source));
    sums.dedup_by(|(task, sum), (kept_task, kept)| {
        let same = (*task, sum.source) == (*kept_task, kept.source);
        if same {
            kept.add(sum);
        }
        same
    });
    sums.dedup_by(|(task, sum), (kept_task, kept)| {
        let same = task == kept_task;
        if same && sum.last >= kept.last {
            std::mem::swap(sum, kept);
        }
        same
    });
    let moved = sums.into_iter().map(|(task, latest)| {
        let adapter = adapters.entry(task).or_default();
        let mut learned = (**adapter).clone();
        learned.learn(&latest);
        *adapter = Arc::new(learned);
        AdapterMoved {
            task,
            adapter: adapter.clone(),
        }
    });
    moved.collect()
}

/// Lets adapters learn from labels, each on the worker that its task belongs to. `restored` are that worker's adapters as
/// the knowledge base has them.
pub fn adapt<'scope>(
    labelled: Flow<'scope, Rc<LabelledEpoch>>,
    kind: LabelKind,
    restored: Adapters,
) -> Flow<'scope, AdapterMoved> {
    let mut adapters = restored;
    labelled
        .each("SumUp", move |labelled| {
            let sums = sums(&labelled, kind).into_iter();
            sums.map(|((task, source), sum)| (task, AdapterSum { source, ..sum }))
        })
        .per_epoch(
            Exchange::new(|(task, _): &(TaskId, AdapterSum)| task.0),
            "Adapt",
            move |_epoch, sums, out| out.give_iterator(learn(&mut adapters, sums).into_iter()),
        )
}
