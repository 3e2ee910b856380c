//! Retention: a bounded sample of each task's past, for training and for judging.
//!
//! Every sample gets a priority that is a hash of its sequence number, and of each class a task keeps the
//! samples of lowest priority: bottom-k sampling (Cohen & Kaplan 2007, "Summarizing data using bottom-k
//! sketches"). Of one class each subset is as likely to be kept as any other of its size, and
//! what is kept depends neither on the number of workers nor on who saw a sample first.
//!
//! Two bounds hold: one for each task, and one for all together, which becomes a [`Quota`] that all tasks share. An epoch's
//! level follows from the number of labels that each task has had, so it is known before anything is kept, and
//! no epoch ever leaves more than there is room for.

use std::collections::BTreeMap;
use std::rc::Rc;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::core::{Filter, OkErr};
use timely::dataflow::operators::generic::operator::empty;
use timely::dataflow::operators::vec::{Broadcast, Map};
use timely::dataflow::operators::{Concat, Exchange as _};

pub use crate::algorithms::retain::{Quota, Reservoir, Turnover, class_of};
pub use crate::data::priority;
use crate::data::{Epoch, MemoryBounded, RetainedSample, SamplesRetained, TaskId};
use crate::epochs::{Epochs, once};
use crate::flow::{Effect, Flow, KnowledgeChange, Labelled, LabelledEpoch};

/// How much may be retained.
#[derive(Clone, Copy, Debug)]
pub struct MemoryRules {
    /// The most samples of a finest task.
    pub samples_per_task: usize,
    /// The most bytes of all samples.
    pub bytes: u64,
    /// Number of features.
    pub features: usize,
    /// Number of classes.
    pub classes: usize,
}

impl MemoryRules {
    /// The bound at a level.
    fn bounded(&self, level: &Quota) -> MemoryBounded {
        MemoryBounded {
            samples_per_task: level.samples_per_task(),
            bytes: self.bytes,
            sample_bytes: RetainedSample::bytes(self.features),
        }
    }
}

/// What the knowledge base has of samples when the dataflow starts.
#[derive(Clone, Debug, Default)]
pub struct RestoredMemory {
    /// The first epoch.
    pub start: Epoch,
    /// The bound as it was.
    pub bounded: Option<MemoryBounded>,
    /// This worker's tasks.
    pub reservoirs: Vec<(TaskId, Reservoir)>,
    /// Of all tasks that miss samples, up to which priority each class is complete.
    pub limits: Vec<(TaskId, Vec<Option<u64>>)>,
    /// How many labels each of all tasks has had.
    pub seen: Vec<(TaskId, u64)>,
}

/// What an epoch means for what is retained.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum RetentionEvent {
    /// A sample may be retained.
    Candidate(TaskId, RetainedSample),
    /// A task had so many labels of each class.
    Met(TaskId, Vec<u64>),
    /// From this epoch on a task may keep so many samples.
    Quota(usize),
}

/// Retains labelled samples for each finest task.
pub fn retain<'scope>(
    labelled: Flow<'scope, Rc<LabelledEpoch>>,
    rules: MemoryRules,
    restored: RestoredMemory,
) -> Flow<'scope, Effect> {
    let RestoredMemory {
        start,
        bounded,
        reservoirs,
        limits,
        seen,
    } = restored;
    let (candidates, met) = sift(labelled, rules, limits).ok_err(|notice| match notice {
        RetentionEvent::Met(task, met) => Err((task, met)),
        other => Ok(other),
    });
    let bounds = bound(met.clone(), rules, start, (bounded, seen));
    let levels = bounds
        .clone()
        .map(|(bounded, _)| bounded.samples_per_task)
        .broadcast()
        .map(|level| RetentionEvent::Quota(level as usize));
    let bounded = bounds.filter(|(_, is_new)| *is_new);
    let bounded =
        bounded.map(|(bounded, _)| Effect::Change(KnowledgeChange::MemoryBounded(bounded)));
    let of_tasks = candidates
        .concat(met.map(|(task, met)| RetentionEvent::Met(task, met)))
        .exchange(|notice| match notice {
            RetentionEvent::Candidate(task, _) | RetentionEvent::Met(task, _) => task.0,
            RetentionEvent::Quota(_) => 0,
        });
    let reservoirs = Reservoirs {
        of: reservoirs.into_iter().collect(),
        level: 0,
    };
    turn_over(of_tasks.concat(levels), reservoirs).concat(bounded)
}

/// Keeps the level, all on worker 0: what it is from the first epoch on, and whenever it falls; with it, whether
/// the knowledge base does not know it yet.
fn bound<'scope>(
    met: Flow<'scope, (TaskId, Vec<u64>)>,
    rules: MemoryRules,
    start: Epoch,
    (mut known, seen): (Option<MemoryBounded>, Vec<(TaskId, u64)>),
) -> Flow<'scope, (MemoryBounded, bool)> {
    let scope = met.scope();
    let mut quota = Quota::new(
        rules.samples_per_task as u64,
        rules.bytes / RetainedSample::bytes(rules.features),
    );
    for (task, seen) in seen {
        quota.grow(task, seen);
    }
    // The first epoch comes even if nothing is met in it.
    let first = match scope.index() {
        0 => once(scope, start, (TaskId::BASE, Vec::new())),
        _ => empty(scope),
    };
    let to_one = Exchange::new(|_: &(TaskId, Vec<u64>)| 0);
    first
        .concat(met)
        .per_epoch(to_one, "Bound", move |epoch, met, out| {
            for (task, met) in met.into_iter().filter(|(_, met)| !met.is_empty()) {
                quota.grow(task, met.iter().sum());
            }
            if quota.fall() || epoch == start {
                let bounded = rules.bounded(&quota);
                let is_new = known != Some(bounded);
                known = Some(bounded);
                out.give((bounded, is_new));
            }
        })
}

/// The reservoirs of a worker's tasks.
struct Reservoirs {
    of: FxHashMap<TaskId, Reservoir>,
    /// The most samples of one.
    level: usize,
}

impl Reservoirs {
    /// What an epoch changes.
    fn turn_over(&mut self, notices: Vec<RetentionEvent>) -> Vec<SamplesRetained> {
        let mut tasks: BTreeMap<TaskId, (Vec<RetainedSample>, Vec<u64>)> = BTreeMap::new();
        for notice in notices {
            match notice {
                RetentionEvent::Candidate(task, sample) => {
                    tasks.entry(task).or_default().0.push(sample)
                }
                RetentionEvent::Met(task, met) => add(&mut tasks.entry(task).or_default().1, &met),
                RetentionEvent::Quota(level) => {
                    let larger = self.of.iter().filter(|(_, of)| of.len() > level);
                    for (task, _) in larger {
                        tasks.entry(*task).or_default();
                    }
                    self.level = level;
                }
            }
        }
        let changes = tasks.into_iter().map(|(task, (candidates, met))| {
            let reservoir = self.of.entry(task).or_default();
            let Turnover { samples, dropped } = reservoir.turn_over(candidates, &met, self.level);
            SamplesRetained {
                task,
                samples,
                dropped,
                classes: reservoir.standing(),
            }
        });
        changes.collect()
    }
}

fn add(to: &mut Vec<u64>, more: &[u64]) {
    to.resize(to.len().max(more.len()), 0);
    for (to, more) in to.iter_mut().zip(more) {
        *to += more;
    }
}

/// Lets each task's samples in and out, epoch by epoch.
fn turn_over<'scope>(
    notices: Flow<'scope, RetentionEvent>,
    mut reservoirs: Reservoirs,
) -> Flow<'scope, Effect> {
    notices.per_epoch(Pipeline, "Retain", move |_epoch, notices, out| {
        let changes = reservoirs.turn_over(notices).into_iter();
        out.give_iterator(
            changes.map(|change| Effect::Change(KnowledgeChange::SamplesRetained(change))),
        );
    })
}

/// What one worker knows of a task: the samples that it cannot rule out, and how many labels came in this epoch.
#[derive(Default)]
struct Sieve {
    possible: Reservoir,
    met: Vec<u64>,
}

/// The samples that this worker cannot rule out, and how many labels each task had.
fn sift<'scope>(
    labelled: Flow<'scope, Rc<LabelledEpoch>>,
    rules: MemoryRules,
    limits: Vec<(TaskId, Vec<Option<u64>>)>,
) -> Flow<'scope, RetentionEvent> {
    let limited = limits.into_iter().map(|(task, limits)| {
        let possible = Reservoir::limited(limits);
        let met = Vec::new();
        (task, Sieve { possible, met })
    });
    let mut sieves: FxHashMap<TaskId, Sieve> = limited.collect();
    labelled.each("Sift", move |epoch| {
        let (mut notices, mut met) = (Vec::new(), Vec::new());
        for part in &epoch.batches {
            sift_part(part, &rules, &mut sieves, &mut met, |notice| {
                notices.push(notice);
            });
        }
        for task in met {
            let counts = sieves.get_mut(&task).map(|sieve| &mut sieve.met);
            let counts = counts.map(std::mem::take).unwrap_or_default();
            notices.push(RetentionEvent::Met(task, counts));
        }
        notices
    })
}

/// Hands over the samples of one batch that their tasks' sieves hold, and notes which tasks had their first label.
fn sift_part(
    part: &Labelled,
    rules: &MemoryRules,
    sieves: &mut FxHashMap<TaskId, Sieve>,
    met: &mut Vec<TaskId>,
    mut each: impl FnMut(RetentionEvent),
) {
    let allocated = &part.predicted.allocated;
    let batch = &allocated.batch;
    let leaf = |group: usize| allocated.groups[group].path.leaf().task;
    for (row, label) in part.rows.iter().zip(&part.labels) {
        let row = *row as usize;
        let task = leaf(allocated.group_of[row] as usize);
        let sequence = batch.sequence(row);
        let class = class_of(*label, rules.classes);
        let sieve = sieves.entry(task).or_default();
        if sieve.met.is_empty() {
            sieve.met.resize(rules.classes.max(1), 0);
            met.push(task);
        }
        sieve.met[class] += 1;
        let possible = &mut sieve.possible;
        if possible.holds(class, priority(sequence), rules.samples_per_task) {
            each(RetentionEvent::Candidate(
                task,
                RetainedSample {
                    sequence,
                    time: batch.times[row],
                    label: *label,
                    features: batch.features.row(row).to_vec(),
                    weight: 1.0,
                },
            ));
        }
    }
}
