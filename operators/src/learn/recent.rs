//! Recent samples: the latest labelled samples of each finest task.
//!
//! Samples find their [neighbours](crate::algorithms::neighbours) among them, and after
//! [drift](super::drift) models are fitted on them.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use timely::dataflow::channels::pact::Exchange;

use crate::data::{Epoch, RecentMoved, RecentSamples, TaskId};
use crate::epochs::Epochs;
use crate::flow::{Flow, Labelled, LabelledEpoch};

/// Labelled samples of one task in one batch.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct TaskSamples {
    task: TaskId,
    parent: Option<TaskId>,
    /// First sequence number of the batch. Batches do not overlap, so it orders them.
    first: u64,
    samples: RecentSamples,
}

/// Splits the samples of one batch by finest task.
fn by_task(labelled: &Labelled) -> Vec<TaskSamples> {
    let allocated = &labelled.predicted.allocated;
    let batch = &allocated.batch;
    let mut tasks: Vec<TaskSamples> = Vec::new();
    // For each group, the index of its task in `tasks` from 1, or 0.
    let mut index_of = vec![0; allocated.groups.len()];
    for (row, label) in labelled.rows.iter().zip(&labelled.labels) {
        let row = *row as usize;
        let group = allocated.group_of[row] as usize;
        if index_of[group] == 0 {
            let leaf = allocated.groups[group].path.leaf();
            tasks.push(TaskSamples {
                task: leaf.task,
                parent: leaf.parent,
                first: batch.first,
                samples: RecentSamples::default(),
            });
            index_of[group] = tasks.len();
        }
        let samples = &mut tasks[index_of[group] - 1].samples;
        samples.sequences.push(batch.sequence(row));
        samples.times.push(batch.times[row]);
        samples.labels.push(*label);
        samples.features.extend(batch.features.row(row));
    }
    tasks
}

/// Epochs of a task's recent samples, oldest first, each with its number of samples.
pub type WindowEpochs = VecDeque<(Epoch, usize)>;

/// Adds a task's samples of an epoch to its window, and removes the epochs that `most` samples no
/// longer need.
fn slide(
    epoch: Epoch,
    arrived: TaskSamples,
    most: usize,
    window: &mut WindowEpochs,
) -> RecentMoved {
    let TaskSamples {
        task,
        parent,
        mut samples,
        ..
    } = arrived;
    samples.keep_latest(most);
    window.push_back((epoch, samples.labels.len()));
    let mut total: usize = window.iter().map(|(_, count)| count).sum();
    let mut left = Vec::new();
    while let Some((oldest, count)) = window.front().filter(|(_, count)| total - count >= most) {
        left.push(*oldest);
        total -= count;
        window.pop_front();
    }
    RecentMoved {
        task,
        parent,
        samples: Arc::new(samples),
        left,
    }
}

/// Keeps the `most` latest labelled samples of each finest task, in whole epochs. `restored` are
/// the windows of this worker's tasks as the knowledge base has them.
pub fn recent<'scope>(
    labelled: Flow<'scope, Rc<LabelledEpoch>>,
    most: usize,
    restored: Vec<(TaskId, WindowEpochs)>,
) -> Flow<'scope, RecentMoved> {
    let mut windows: FxHashMap<TaskId, WindowEpochs> = restored.into_iter().collect();
    labelled
        .each("Split by task", |epoch| {
            let tasks = epoch.batches.iter().flat_map(by_task);
            tasks.collect::<Vec<_>>()
        })
        .per_epoch(
            Exchange::new(|arrived: &TaskSamples| arrived.task.0),
            "Recent",
            move |epoch, mut arrived, out| {
                arrived.sort_unstable_by_key(|part| (part.task, part.first));
                let mut parts = arrived.into_iter().peekable();
                while let Some(mut samples) = parts.next() {
                    while let Some(next) = parts.next_if(|next| next.task == samples.task) {
                        samples.samples.append(next.samples);
                    }
                    let window = windows.entry(samples.task).or_default();
                    out.give(slide(epoch, samples, most, window));
                }
            },
        )
}
