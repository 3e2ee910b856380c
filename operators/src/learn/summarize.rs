//! Summaries: what an epoch's labels move in the statistics of each task, summed before anything is
//! exchanged or arranged.

use std::collections::hash_map::Entry;
use std::rc::Rc;

use differential_dataflow::difference::Semigroup;
use rustc_hash::FxHashMap;

use super::statistics::Summary;
use crate::data::{LabelKind, Score, TaskDifference, TaskId};
use crate::epochs::Epochs;
use crate::flow::{Flow, Labelled, LabelledEpoch, predicted_class};

/// Sums the labels of an epoch by task; each task's sum is in those of its ancestors too.
pub fn summary(labelled: &LabelledEpoch, kind: LabelKind) -> Vec<Summary> {
    let mut tasks: FxHashMap<TaskId, Box<TaskDifference>> = FxHashMap::default();
    for part in &labelled.batches {
        let groups = by_group(part, kind);
        for (group, difference) in part.predicted.allocated.groups.iter().zip(groups) {
            let Some(difference) = difference else {
                continue;
            };
            let leaf = group.path.leaf().task;
            let above = group.path.nodes.iter().map(|node| node.task);
            for task in above.filter(|task| *task != leaf) {
                add(tasks.entry(task).or_default(), &difference);
            }
            // Nearly always the first of its task, which is then not copied.
            match tasks.entry(leaf) {
                Entry::Occupied(mut known) => add(known.get_mut(), &difference),
                Entry::Vacant(room) => {
                    room.insert(difference);
                }
            }
        }
    }
    tasks.into_iter().collect()
}

fn add(to: &mut TaskDifference, difference: &TaskDifference) {
    to.plus_equals(difference);
}

/// Sums the rows of one batch by finest task; of many groups, labels may have come for few.
fn by_group(part: &Labelled, kind: LabelKind) -> Vec<Option<Box<TaskDifference>>> {
    let scored = &part.predicted;
    let batch = &scored.allocated.batch;
    let predicted = scored.is_predicted();
    let mut groups = vec![None; scored.allocated.groups.len()];
    for (row, label) in part.rows.iter().zip(&part.labels) {
        let row = *row as usize;
        let to: &mut Box<TaskDifference> =
            groups[scored.allocated.group_of[row] as usize].get_or_insert_default();
        if to.labelled == 0 {
            to.moments
                .resize_with(batch.features.ncols(), Default::default);
        }
        to.labelled += 1;
        for (moments, value) in to.moments.iter_mut().zip(batch.features.row(row)) {
            moments.count_value(*value);
        }
        if predicted {
            score(to, part, row, *label, kind);
        }
    }
    groups
}

/// Scores one predicted row and the baselines' answers to it.
fn score(to: &mut TaskDifference, part: &Labelled, row: usize, label: f32, kind: LabelKind) {
    if to.score.count == 0 {
        to.baselines
            .resize(part.predicted.baselines.len(), Score::default());
    }
    match kind {
        LabelKind::Classes(classes) => score_class(to, part, row, label as usize, classes),
        LabelKind::Number => score_number(to, part, row, label),
    }
}

fn score_class(to: &mut TaskDifference, part: &Labelled, row: usize, label: usize, classes: usize) {
    if to.confusion.is_empty() {
        to.confusion.resize(classes * classes, 0);
    }
    let probabilities = part.predicted.probabilities.row(row);
    let class = predicted_class(probabilities);
    to.confusion[label * classes + class] += 1;
    to.score
        .add(&Score::one(class == label, probabilities[label]));
    for (to, answers) in to.baselines.iter_mut().zip(&part.predicted.baselines) {
        let probabilities = answers.row(row);
        let right = predicted_class(probabilities) == label;
        to.add(&Score::one(right, probabilities[label]));
    }
}

fn score_number(to: &mut TaskDifference, part: &Labelled, row: usize, label: f32) {
    let said = part.predicted.probabilities[[row, 0]];
    to.labels.count_value(label);
    to.score.add(&Score::of_number(said, label));
    for (to, answers) in to.baselines.iter_mut().zip(&part.predicted.baselines) {
        to.add(&Score::of_number(answers[[row, 0]], label));
    }
}

/// Sums what became known on this worker, epoch by epoch.
pub fn summarize<'scope>(
    labelled: Flow<'scope, Rc<LabelledEpoch>>,
    kind: LabelKind,
) -> Flow<'scope, Summary> {
    labelled.each("Summarize", move |labelled| summary(&labelled, kind))
}
