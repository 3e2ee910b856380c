//! Summaries: sums the labels of an epoch by task, before anything is exchanged or arranged.

use std::collections::hash_map::Entry;
use std::rc::Rc;

use differential_dataflow::difference::Semigroup;
use ndarray::ArrayView1;
use rustc_hash::FxHashMap;

use super::statistics::Summary;
use crate::data::{LabelKind, Score, TaskDifference, TaskId};
use crate::epochs::Epochs;
use crate::flow::{Flow, Labelled, LabelledEpoch, Predicted, predicted_class};

/// Sums the labels of an epoch by task. A task's labels count for its ancestors too.
pub fn summary(labelled: &LabelledEpoch, kind: LabelKind) -> Vec<Summary> {
    let mut tasks: FxHashMap<TaskId, Box<TaskDifference>> = FxHashMap::default();
    for batch in &labelled.batches {
        let groups = by_group(batch, kind);
        for (group, difference) in batch.predicted.allocated.groups.iter().zip(groups) {
            let Some(difference) = difference else {
                continue;
            };
            let leaf = group.path.leaf().task;
            let above = group.path.nodes.iter().map(|node| node.task);
            for task in above.filter(|task| *task != leaf) {
                add(tasks.entry(task).or_default(), &difference);
            }
            // Nearly always this is the first difference of the leaf, which is moved, not added.
            match tasks.entry(leaf) {
                Entry::Occupied(mut sum) => add(sum.get_mut(), &difference),
                Entry::Vacant(entry) => {
                    entry.insert(difference);
                }
            }
        }
    }
    tasks.into_iter().collect()
}

fn add(sum: &mut TaskDifference, difference: &TaskDifference) {
    sum.plus_equals(difference);
}

/// Sums the rows of one batch by group. Of many groups, few may have labels.
fn by_group(labelled: &Labelled, kind: LabelKind) -> Vec<Option<Box<TaskDifference>>> {
    let predicted = &labelled.predicted;
    let allocated = &predicted.allocated;
    let is_predicted = predicted.is_predicted();
    let mut groups = vec![None; allocated.groups.len()];
    for (row, label) in labelled.rows.iter().zip(&labelled.labels) {
        let row = *row as usize;
        let features = allocated.batch.features.row(row);
        let sum: &mut Box<TaskDifference> =
            groups[allocated.group_of[row] as usize].get_or_insert_default();
        if sum.labelled == 0 {
            sum.moments.resize_with(features.len(), Default::default);
        }
        sum.labelled += 1;
        for (moments, value) in sum.moments.iter_mut().zip(features) {
            moments.count_value(*value);
        }
        if is_predicted {
            score(sum, predicted, row, *label, kind);
        }
    }
    groups
}

/// Scores the prediction of a row, and those of the baselines.
fn score(sum: &mut TaskDifference, predicted: &Predicted, row: usize, label: f32, kind: LabelKind) {
    if sum.score.count == 0 {
        sum.baselines
            .resize(predicted.baselines.len(), Score::default());
    }
    match kind {
        LabelKind::Classes(classes) => score_class(sum, predicted, row, label as usize, classes),
        LabelKind::Number => score_number(sum, predicted, row, label),
    }
}

fn score_class(
    sum: &mut TaskDifference,
    predicted: &Predicted,
    row: usize,
    label: usize,
    classes: usize,
) {
    if sum.confusion.is_empty() {
        sum.confusion.resize(classes * classes, 0);
    }
    let score = |probabilities: ArrayView1<'_, f32>| {
        let class = predicted_class(probabilities);
        (class, Score::one(class == label, probabilities[label]))
    };
    let (class, of_pipeline) = score(predicted.probabilities.row(row));
    sum.confusion[label * classes + class] += 1;
    sum.score.add(&of_pipeline);
    for (sum, baseline) in sum.baselines.iter_mut().zip(&predicted.baselines) {
        sum.add(&score(baseline.row(row)).1);
    }
}

fn score_number(sum: &mut TaskDifference, predicted: &Predicted, row: usize, label: f32) {
    let number = predicted.probabilities[[row, 0]];
    sum.labels.count_value(label);
    sum.score.add(&Score::of_number(number, label));
    for (sum, baseline) in sum.baselines.iter_mut().zip(&predicted.baselines) {
        sum.add(&Score::of_number(baseline[[row, 0]], label));
    }
}

/// Sums the labels that became known on this worker, epoch by epoch.
pub fn summarize<'scope>(
    labelled: Flow<'scope, Rc<LabelledEpoch>>,
    kind: LabelKind,
) -> Flow<'scope, Summary> {
    labelled.each("Summarize", move |labelled| summary(&labelled, kind))
}
