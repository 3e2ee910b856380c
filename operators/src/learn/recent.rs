//! Recent samples: the latest labelled samples of each finest task. Samples find their [neighbours](crate::algorithms::neighbours) among
//! them, and after [drift](super::drift) models are fitted on them.

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
struct Part {
    task: TaskId,
    parent: Option<TaskId>,
    /// The sequence number of the batch: no two have samples in between each other's.
    first: u64,
    samples: RecentSamples,
}

/// The samples of one batch by finest task.
fn parts(labelled: &Labelled) -> Vec<Part> {
    let allocated = &labelled.predicted.allocated;
    let batch = &allocated.batch;
    let mut parts: Vec<Part> = Vec::new();
    let mut place_of = vec![0; allocated.groups.len()];
    for (row, label) in labelled.rows.iter().zip(&labelled.labels) {
        let row = *row as usize;
        let group = allocated.group_of[row] as usize;
        if place_of[group] == 0 {
            let leaf = allocated.groups[group].path.leaf();
            parts.push(Part {
                task: leaf.task,
                parent: leaf.parent,
                first: batch.first,
                samples: RecentSamples::default(),
            });
            place_of[group] = parts.len();
        }
        let samples = &mut parts[place_of[group] - 1].samples;
        samples.sequences.push(batch.sequence(row));
        samples.times.push(batch.times[row]);
        samples.labels.push(*label);
        samples.features.extend(batch.features.row(row));
    }
    parts
}

/// The epochs that a task's recent samples are of, oldest first, and how many are of each.
pub type WindowEpochs = VecDeque<(Epoch, usize)>;

/// One task's samples of an epoch: the latest, and the epochs whose samples leave with them.
fn moved(epoch: Epoch, part: Part, most: usize, held: &mut WindowEpochs) -> RecentMoved {
    let Part {
        task,
        parent,
        mut samples,
        ..
    } = part;
    samples.keep_latest(most);
    held.push_back((epoch, samples.labels.len()));
    let mut total: usize = held.iter().map(|(_, count)| count).sum();
    let mut left = Vec::new();
    while let Some((oldest, count)) = held.front().filter(|(_, count)| total - count >= most) {
        left.push(*oldest);
        total -= count;
        held.pop_front();
    }
    RecentMoved {
        task,
        parent,
        samples: Arc::new(samples),
        left,
    }
}

/// Keeps the `most` latest labelled samples of each finest task, in whole epochs. `restored` are those of this worker's
/// tasks as the knowledge base has them.
pub fn recent<'scope>(
    labelled: Flow<'scope, Rc<LabelledEpoch>>,
    most: usize,
    restored: Vec<(TaskId, WindowEpochs)>,
) -> Flow<'scope, RecentMoved> {
    let mut held: FxHashMap<TaskId, WindowEpochs> = restored.into_iter().collect();
    labelled
        .each("SortOut", |epoch| {
            let parts = epoch.batches.iter().flat_map(parts);
            parts.collect::<Vec<_>>()
        })
        .per_epoch(
            Exchange::new(|part: &Part| part.task.0),
            "Recent",
            move |epoch, mut parts, out| {
                parts.sort_unstable_by_key(|part| (part.task, part.first));
                let mut parts = parts.into_iter().peekable();
                while let Some(mut part) = parts.next() {
                    while let Some(next) = parts.next_if(|next| next.task == part.task) {
                        part.samples.append(next.samples);
                    }
                    let held = held.entry(part.task).or_default();
                    out.give(moved(epoch, part, most, held));
                }
            },
        )
}
