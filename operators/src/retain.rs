//! Retention: a bounded, unbiased sample of each task's past, for training and for judging.
//!
//! Every sample gets a priority that is a hash of its sequence number, and a task keeps the samples
//! of lowest priority: bottom-k sampling (Cohen & Kaplan 2007, "Summarizing data using bottom-k
//! sketches"). Each subset of a task's samples is as likely to be kept as any other of its size, and
//! what is kept depends neither on the number of workers nor on who saw a sample first.

use std::collections::BinaryHeap;
use std::rc::Rc;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::Operator;

use crate::flow::{Effect, Flow, Labelled, LabelledEpoch};
use crate::stash::Stash;
use crate::{KnowledgeChange, RetainedSample, TaskId};

/// The priority of a sample: a bijective hash (SplitMix64's finalizer) of its sequence number, so
/// that no two samples share one.
pub fn priority(sequence: u64) -> u64 {
    let mut hash = sequence.wrapping_add(0x9e37_79b9_7f4a_7c15);
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

/// Lets through what can still be among one task's lowest priorities, seen from one worker.
#[derive(Default)]
struct Filter {
    lowest: BinaryHeap<u64>,
}

impl Filter {
    fn passes(&mut self, priority: u64, capacity: usize) -> bool {
        if self.lowest.len() < capacity {
            self.lowest.push(priority);
            return true;
        }
        match self.lowest.peek_mut() {
            Some(mut highest) if priority < *highest => {
                *highest = priority;
                true
            }
            _ => false,
        }
    }
}

/// A sample that may be retained.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Candidate {
    task: TaskId,
    sample: RetainedSample,
}

/// What one task retains: priority and slot of each sample, the highest priority first to go.
#[derive(Clone, Debug, Default)]
pub struct Reservoir {
    slots: BinaryHeap<(u64, u32)>,
}

impl Reservoir {
    /// A reservoir with samples in it: slot and sequence number of each.
    pub fn restore(samples: impl IntoIterator<Item = (u32, u64)>) -> Self {
        Reservoir {
            slots: samples
                .into_iter()
                .map(|(slot, sequence)| (priority(sequence), slot))
                .collect(),
        }
    }

    /// Takes in an epoch's candidates and returns those that stay, each with its slot.
    pub fn retain(
        &mut self,
        mut candidates: Vec<RetainedSample>,
        capacity: usize,
    ) -> Vec<RetainedSample> {
        let mut free = Vec::new();
        if self.slots.len() + candidates.len() > capacity {
            candidates.sort_unstable_by_key(|sample| priority(sample.sequence));
        }
        // The highest priorities go, of the old and the new together: the reservoir at the epoch's end
        // must not depend on the order of arrival within it.
        while self.slots.len() + candidates.len() > capacity {
            let highest = candidates.last().map(|sample| priority(sample.sequence));
            if highest > self.slots.peek().map(|last| last.0) {
                candidates.pop();
            } else {
                free.extend(self.slots.pop().map(|(_, slot)| slot));
            }
        }
        free.sort_unstable();
        let mut free = free.into_iter();
        let mut next = self.slots.len() as u32 + free.len() as u32;
        candidates.sort_unstable_by_key(|sample| sample.sequence);
        for sample in &mut candidates {
            sample.slot = free.next().unwrap_or_else(|| {
                next += 1;
                next - 1
            });
            self.slots.push((priority(sample.sequence), sample.slot));
        }
        candidates
    }
}

/// Retains up to `capacity` labelled samples for each finest task. `restored` are this worker's
/// tasks as the knowledge base has them.
pub fn retain<'scope>(
    labelled: Flow<'scope, Rc<LabelledEpoch>>,
    capacity: usize,
    restored: Vec<(TaskId, Reservoir)>,
) -> Flow<'scope, Effect> {
    let mut reservoirs: FxHashMap<TaskId, Reservoir> = restored.into_iter().collect();
    candidates(labelled, capacity).unary_frontier(
        Exchange::new(|candidate: &Candidate| candidate.task.0),
        "Retain",
        move |_capability, _info| {
            let mut stash = Stash::new();
            move |(input, frontier), output| {
                input.for_each(|capability, candidates| {
                    stash.hold(&capability, 0, candidates.drain(..));
                });
                while let Some((_, capability, mut candidates)) = stash.next(frontier) {
                    candidates.sort_unstable_by_key(|candidate| candidate.task);
                    let mut session = output.session(&capability);
                    let mut candidates = candidates.into_iter().peekable();
                    while let Some(Candidate { task, sample }) = candidates.next() {
                        let mut of_task = vec![sample];
                        while let Some(other) = candidates.next_if(|next| next.task == task) {
                            of_task.push(other.sample);
                        }
                        let reservoir = reservoirs.entry(task).or_default();
                        let samples = reservoir.retain(of_task, capacity);
                        if !samples.is_empty() {
                            let change = KnowledgeChange::SamplesRetained { task, samples };
                            session.give(Effect::Change(change));
                        }
                    }
                }
            }
        },
    )
}

/// The samples that this worker cannot rule out.
fn candidates<'scope>(
    labelled: Flow<'scope, Rc<LabelledEpoch>>,
    capacity: usize,
) -> Flow<'scope, Candidate> {
    labelled.unary(Pipeline, "Sift", move |_capability, _info| {
        let mut filters: FxHashMap<TaskId, Filter> = FxHashMap::default();
        move |input, output| {
            input.for_each(|capability, epochs| {
                let mut session = output.session(&capability);
                for part in epochs.iter().flat_map(|epoch| &epoch.parts) {
                    for_each_passing(part, &mut filters, capacity, |candidate| {
                        session.give(candidate);
                    });
                }
            });
        }
    })
}

/// Hands over the samples of one batch that their tasks' filters let through.
fn for_each_passing(
    part: &Labelled,
    filters: &mut FxHashMap<TaskId, Filter>,
    capacity: usize,
    mut each: impl FnMut(Candidate),
) {
    let allocated = &part.scored.allocated;
    let batch = &allocated.batch;
    let leaf = |group: usize| allocated.groups[group].path.leaf().task;
    for (row, label) in part.rows.iter().zip(&part.labels) {
        let row = *row as usize;
        let task = leaf(allocated.group_of[row] as usize);
        let sequence = batch.sequence(row);
        let filter = filters.entry(task).or_default();
        if filter.passes(priority(sequence), capacity) {
            each(Candidate {
                task,
                sample: RetainedSample {
                    slot: 0,
                    sequence,
                    time: batch.times[row],
                    label: *label,
                    features: batch.features.row(row).to_vec(),
                },
            });
        }
    }
}

/// Whether a sample is held back: no model is ever fitted on it, so that every model, early or late,
/// can be judged on it fairly. Independent of [`priority`], so that a task's reservoir holds the
/// given `share` of such samples.
pub fn is_held_back(sequence: u64, share: f64) -> bool {
    priority(!sequence) as f64 / u64::MAX as f64 <= share
}
