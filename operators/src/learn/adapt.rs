//! Adaptation: adapters of tasks learn from the labels of an epoch.

use std::rc::Rc;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use timely::dataflow::channels::pact::Exchange;

use crate::algorithms::adapter::{AdapterSum, to_fixed_point};
use crate::algorithms::pool::{Adapters, KINDS};
use crate::data::{LabelKind, TaskId, in_scales};
use crate::epochs::Epochs;
use crate::flow::{AdapterMoved, Flow, Labelled, LabelledEpoch, Predicted};

/// Sums by task, and by the task whose model predicted. Labels of an epoch can be for predictions
/// of several models.
type Sums = FxHashMap<(TaskId, TaskId), AdapterSum>;

/// Sum over the labels of one group of a batch, not yet by task.
struct GroupSum {
    /// Index of the group in the batch.
    number: usize,
    samples: i64,
    last: u64,
    /// Start of the group's sums in [`GroupSums::sums`].
    start: usize,
}

/// Sums over the labels of a batch, by group. They share one buffer: with many tasks, few labels
/// are of one group.
struct GroupSums {
    groups: Vec<GroupSum>,
    /// For each group of the batch, its index in `groups` from 1, or 0.
    index_of: Vec<u32>,
    /// For each group in fixed point: labels by class, outputs of each of the pool's models by
    /// class, excess loss by slot. Where the label is a number: number of labels, errors of each of
    /// the models in scales, excess loss by slot.
    sums: Vec<i64>,
}

/// Sums the labels of an epoch.
fn sums(labelled: &LabelledEpoch, kind: LabelKind) -> Sums {
    let mut sums = Sums::default();
    for batch in &labelled.batches {
        if !batch.predicted.is_predicted() {
            continue;
        }
        let by_group = GroupSums::of(batch, kind);
        for group in &by_group.groups {
            let of_group = &by_group.sums[group.start..];
            add_to_path(&batch.predicted, group, of_group, kind.width(), &mut sums);
        }
    }
    sums
}

impl GroupSums {
    /// Sums the labels of one batch by group.
    fn of(labelled: &Labelled, kind: LabelKind) -> Self {
        let predicted = &labelled.predicted;
        let allocated = &predicted.allocated;
        let mut by_group = GroupSums {
            groups: Vec::new(),
            index_of: vec![0; allocated.groups.len()],
            sums: Vec::new(),
        };
        let width = kind.width();
        let mut logits = Vec::with_capacity(width);
        for (row, label) in labelled.rows.iter().zip(&labelled.labels) {
            let (row, label) = (*row as usize, *label);
            let number = allocated.group_of[row] as usize;
            let pool = &predicted.pools[number];
            let (group, sums) = by_group.group(predicted, number, width);
            group.samples += 1;
            group.last = group.last.max(allocated.batch.sequence(row));
            let (labels, rest) = sums.split_at_mut(width);
            let (expected, excess) = rest.split_at_mut(pool.models.len() * width);
            labels[match kind {
                LabelKind::Classes(_) => label as usize,
                LabelKind::Number => 0,
            }] += to_fixed_point(1.0);
            let outputs = predicted.outputs.row(row);
            let prediction = predicted.probabilities.row(row);
            let (Some(outputs), Some(prediction)) = (outputs.as_slice(), prediction.as_slice())
            else {
                continue;
            };
            match pool.scale {
                None => {
                    for (sum, output) in expected.iter_mut().zip(outputs) {
                        *sum += to_fixed_point(*output);
                    }
                }
                Some(scale) => {
                    for (sum, output) in expected.iter_mut().zip(outputs) {
                        if !output.is_nan() {
                            *sum += to_fixed_point(in_scales(label - output, scale));
                        }
                    }
                }
            }
            let pool_loss = pool.loss(prediction, label);
            pool.losses(outputs, label, &mut logits, |expert, loss| {
                excess[expert.slot as usize] += to_fixed_point(loss - pool_loss);
            });
        }
        by_group
    }

    /// The sums of a group, zero at first.
    fn group(
        &mut self,
        predicted: &Predicted,
        number: usize,
        width: usize,
    ) -> (&mut GroupSum, &mut [i64]) {
        if self.index_of[number] == 0 {
            let start = self.sums.len();
            let models = predicted.pools[number].models.len();
            let slots = slots(predicted, number);
            self.sums.resize(start + (1 + models) * width + slots, 0);
            self.groups.push(GroupSum {
                number,
                samples: 0,
                last: 0,
                start,
            });
            self.index_of[number] = self.groups.len() as u32;
        }
        let group = &mut self.groups[self.index_of[number] as usize - 1];
        let sums = &mut self.sums[group.start..];
        (group, sums)
    }
}

/// Most experts that there can be along a group's path.
fn slots(predicted: &Predicted, number: usize) -> usize {
    KINDS * predicted.allocated.groups[number].path.nodes.len()
}

/// Adds the sums of a group to each task on its path whose adapter corrects a model of its pool.
fn add_to_path(
    predicted: &Predicted,
    group: &GroupSum,
    of_group: &[i64],
    width: usize,
    sums: &mut Sums,
) {
    let path = &predicted.allocated.groups[group.number].path;
    let pool = &predicted.pools[group.number];
    let (labels, rest) = of_group.split_at(width);
    let (all_expected, rest) = rest.split_at(pool.models.len() * width);
    let all_excess = &rest[..slots(predicted, group.number)];
    for (depth, node) in path.nodes.iter().enumerate() {
        let is_leaf = depth + 1 == path.nodes.len();
        let Some(model) = pool.corrected_model(depth) else {
            continue;
        };
        let source = pool.models[model].task;
        let expected = &all_expected[model * width..(model + 1) * width];
        let excess = if is_leaf { all_excess } else { &[] };
        let sum = sums.entry((node.task, source)).or_default();
        sum.count(group.last, group.samples, [labels, expected, excess]);
    }
}

/// Teaches the adapters of a worker's tasks the sums of an epoch.
fn learn(adapters: &mut Adapters, mut sums: Vec<(TaskId, AdapterSum)>) -> Vec<AdapterMoved> {
    sums.sort_unstable_by_key(|(task, sum)| (*task, sum.source));
    sums.dedup_by(|(task, sum), (kept_task, kept)| {
        let same = (*task, sum.source) == (*kept_task, kept.source);
        if same {
            kept.add(sum);
        }
        same
    });
    // Of each task, only the sum for the model that predicted last is kept: a model that no longer
    // predicts needs no correction.
    sums.dedup_by(|(task, sum), (kept_task, kept)| {
        let same = task == kept_task;
        if same && sum.last >= kept.last {
            std::mem::swap(sum, kept);
        }
        same
    });
    sums.into_iter()
        .map(|(task, latest)| {
            let adapter = adapters.entry(task).or_default();
            let mut learned = (**adapter).clone();
            learned.learn(&latest);
            *adapter = Arc::new(learned);
            AdapterMoved {
                task,
                adapter: adapter.clone(),
            }
        })
        .collect()
}

/// Teaches adapters from labels, each on the worker of its task. `adapters` are this worker's as
/// the knowledge base has them.
pub fn adapt<'scope>(
    labelled: Flow<'scope, Rc<LabelledEpoch>>,
    kind: LabelKind,
    mut adapters: Adapters,
) -> Flow<'scope, AdapterMoved> {
    labelled
        .each("Sum", move |labelled| {
            let sums = sums(&labelled, kind).into_iter();
            sums.map(|((task, source), sum)| (task, AdapterSum { source, ..sum }))
        })
        .per_epoch(
            Exchange::new(|(task, _): &(TaskId, AdapterSum)| task.0),
            "Adapt",
            move |_epoch, sums, out| out.give_iterator(learn(&mut adapters, sums).into_iter()),
        )
}
