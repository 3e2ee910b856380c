//! Retention: a bounded sample of each task's past, for training and for judging.
//!
//! The priority of a sample is a hash of its sequence number. Of each class, a task keeps the
//! samples of lowest priority: bottom-k sampling (Cohen & Kaplan 2007, "Summarizing data using
//! bottom-k sketches"). Within a class, each subset is as likely to be kept as any other of its
//! size, and which samples are kept depends neither on the number of workers nor on the order of
//! arrival.
//!
//! Two bounds hold: one for each task, and one for all tasks together, which becomes a [`Quota`]
//! that all tasks share. An epoch's quota follows from the number of labels that each task has had,
//! so it is known before anything is kept, and no epoch ever leaves more than there is room for.

use std::collections::BTreeMap;
use std::rc::Rc;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::core::{Filter, OkErr};
use timely::dataflow::operators::generic::operator::empty;
use timely::dataflow::operators::vec::{Broadcast, Map};
use timely::dataflow::operators::{Concat, Exchange as _};

use crate::algorithms::retain::{Quota, Reservoir, Turnover, class_of};
use crate::data::{Epoch, MemoryBounded, RetainedSample, SamplesRetained, TaskId, priority};
use crate::epochs::{Epochs, once};
use crate::flow::{Effect, Flow, KnowledgeChange, Labelled, LabelledEpoch};

/// Bounds on retained samples.
#[derive(Clone, Copy, Debug)]
pub struct MemoryRules {
    /// Most samples of a finest task.
    pub samples_per_task: usize,
    /// Most bytes of all samples.
    pub bytes: u64,
    /// Number of features.
    pub features: usize,
    /// Number of classes.
    pub classes: usize,
}

impl MemoryRules {
    /// The bounds under a quota.
    fn bounded(&self, quota: &Quota) -> MemoryBounded {
        MemoryBounded {
            samples_per_task: quota.samples_per_task(),
            bytes: self.bytes,
            sample_bytes: RetainedSample::bytes(self.features),
        }
    }
}

/// Retained samples as the knowledge base has them when the dataflow starts.
#[derive(Clone, Debug, Default)]
pub struct RestoredMemory {
    /// The first epoch of the run.
    pub start: Epoch,
    /// Bounds at the last commit.
    pub bounded: Option<MemoryBounded>,
    /// Reservoirs of this worker's tasks.
    pub reservoirs: Vec<(TaskId, Reservoir)>,
    /// For each task of any worker that has dropped samples: for each class, the priority up to
    /// which it is complete.
    pub limits: Vec<(TaskId, Vec<Option<u64>>)>,
    /// Number of labels of each task of any worker.
    pub seen: Vec<(TaskId, u64)>,
}

/// Event that changes what is retained.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum RetentionEvent {
    /// A sample may be retained.
    Candidate(TaskId, RetainedSample),
    /// Labels of a task arrived: their number by class.
    Counted(TaskId, Vec<u64>),
    /// The most samples that a task may keep changed.
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
    let (candidates, counts) = sift(labelled, rules, limits).ok_err(|event| match event {
        RetentionEvent::Counted(task, counts) => Err((task, counts)),
        other => Ok(other),
    });
    let bounds = bound(counts.clone(), rules, start, (bounded, seen));
    let quotas = bounds
        .clone()
        .map(|(bounded, _)| bounded.samples_per_task)
        .broadcast()
        .map(|quota| RetentionEvent::Quota(quota as usize));
    let new_bounds = bounds
        .filter(|(_, is_new)| *is_new)
        .map(|(bounded, _)| KnowledgeChange::MemoryBounded(bounded).into());
    let of_tasks = candidates
        .concat(counts.map(|(task, counts)| RetentionEvent::Counted(task, counts)))
        .exchange(|event| match event {
            RetentionEvent::Candidate(task, _) | RetentionEvent::Counted(task, _) => task.0,
            RetentionEvent::Quota(_) => 0,
        });
    let reservoirs = Reservoirs {
        tasks: reservoirs.into_iter().collect(),
        quota: 0,
    };
    turn_over(of_tasks.concat(quotas), reservoirs).concat(new_bounds)
}

/// Keeps the quota, all on worker 0. Emits the bounds in the first epoch and whenever they fall,
/// each with whether they are new to the knowledge base.
fn bound<'scope>(
    counts: Flow<'scope, (TaskId, Vec<u64>)>,
    rules: MemoryRules,
    start: Epoch,
    (mut known, seen): (Option<MemoryBounded>, Vec<(TaskId, u64)>),
) -> Flow<'scope, (MemoryBounded, bool)> {
    let scope = counts.scope();
    let mut quota = Quota::new(
        rules.samples_per_task as u64,
        rules.bytes / RetainedSample::bytes(rules.features),
    );
    for (task, seen) in seen {
        quota.grow(task, seen);
    }
    // An empty count, so that the first epoch comes even if it has no labels.
    let first = match scope.index() {
        0 => once(scope, start, (TaskId::BASE, Vec::new())),
        _ => empty(scope),
    };
    let to_one = Exchange::new(|_: &(TaskId, Vec<u64>)| 0);
    first
        .concat(counts)
        .per_epoch(to_one, "Bound", move |epoch, counts, out| {
            for (task, counts) in counts.into_iter().filter(|(_, counts)| !counts.is_empty()) {
                quota.grow(task, counts.iter().sum());
            }
            if quota.fall() || epoch == start {
                let bounded = rules.bounded(&quota);
                let is_new = known != Some(bounded);
                known = Some(bounded);
                out.give((bounded, is_new));
            }
        })
}

/// Reservoirs of a worker's tasks.
struct Reservoirs {
    tasks: FxHashMap<TaskId, Reservoir>,
    /// Most samples of each.
    quota: usize,
}

impl Reservoirs {
    /// Takes in the events of an epoch and returns the changes of each task, by task.
    fn turn_over(&mut self, events: Vec<RetentionEvent>) -> Vec<SamplesRetained> {
        let mut tasks: BTreeMap<TaskId, (Vec<RetainedSample>, Vec<u64>)> = BTreeMap::new();
        for event in events {
            match event {
                RetentionEvent::Candidate(task, sample) => {
                    tasks.entry(task).or_default().0.push(sample);
                }
                RetentionEvent::Counted(task, counts) => {
                    add(&mut tasks.entry(task).or_default().1, &counts);
                }
                RetentionEvent::Quota(quota) => {
                    for (task, reservoir) in &self.tasks {
                        if reservoir.len() > quota {
                            tasks.entry(*task).or_default();
                        }
                    }
                    self.quota = quota;
                }
            }
        }
        tasks
            .into_iter()
            .map(|(task, (candidates, counts))| {
                let reservoir = self.tasks.entry(task).or_default();
                let Turnover { samples, dropped } =
                    reservoir.update(candidates, &counts, self.quota);
                SamplesRetained {
                    task,
                    samples,
                    dropped,
                    classes: reservoir.standing(),
                }
            })
            .collect()
    }
}

fn add(to: &mut Vec<u64>, more: &[u64]) {
    to.resize(to.len().max(more.len()), 0);
    for (to, more) in to.iter_mut().zip(more) {
        *to += more;
    }
}

/// Retains and drops samples of each task, epoch by epoch.
fn turn_over<'scope>(
    events: Flow<'scope, RetentionEvent>,
    mut reservoirs: Reservoirs,
) -> Flow<'scope, Effect> {
    events.per_epoch(Pipeline, "Retain", move |_epoch, events, out| {
        let retained = reservoirs.turn_over(events).into_iter();
        let changes = retained.map(KnowledgeChange::SamplesRetained);
        out.give_iterator(changes.map(Effect::from));
    })
}

/// State of a task on a worker that its samples arrive at.
#[derive(Default)]
struct Sieve {
    /// Samples seen here, to rule out those that cannot be among the retained ones.
    possible: Reservoir,
    /// Labels of the current epoch, by class.
    counts: Vec<u64>,
}

/// Emits the samples that this worker cannot rule out, and the number of labels of each task.
fn sift<'scope>(
    labelled: Flow<'scope, Rc<LabelledEpoch>>,
    rules: MemoryRules,
    limits: Vec<(TaskId, Vec<Option<u64>>)>,
) -> Flow<'scope, RetentionEvent> {
    let mut sieves: FxHashMap<TaskId, Sieve> = limits
        .into_iter()
        .map(|(task, limits)| {
            let possible = Reservoir::limited(limits);
            let counts = Vec::new();
            (task, Sieve { possible, counts })
        })
        .collect();
    labelled.each("Sift", move |epoch| {
        let (mut events, mut counted) = (Vec::new(), Vec::new());
        for batch in &epoch.batches {
            sift_batch(batch, &rules, &mut sieves, &mut counted, |event| {
                events.push(event);
            });
        }
        for task in counted {
            let sieve = sieves.entry(task).or_default();
            let counts = std::mem::take(&mut sieve.counts);
            events.push(RetentionEvent::Counted(task, counts));
        }
        events
    })
}

/// Emits the samples of one batch that their tasks' sieves hold, and adds the tasks to `counted`
/// that have their first label of the epoch.
fn sift_batch(
    labelled: &Labelled,
    rules: &MemoryRules,
    sieves: &mut FxHashMap<TaskId, Sieve>,
    counted: &mut Vec<TaskId>,
    mut emit: impl FnMut(RetentionEvent),
) {
    let allocated = &labelled.predicted.allocated;
    let batch = &allocated.batch;
    let leaf = |group: usize| allocated.groups[group].path.leaf().task;
    for (row, label) in labelled.rows.iter().zip(&labelled.labels) {
        let row = *row as usize;
        let task = leaf(allocated.group_of[row] as usize);
        let sequence = batch.sequence(row);
        let class = class_of(*label, rules.classes);
        let sieve = sieves.entry(task).or_default();
        if sieve.counts.is_empty() {
            sieve.counts.resize(rules.classes.max(1), 0);
            counted.push(task);
        }
        sieve.counts[class] += 1;
        let possible = &mut sieve.possible;
        if possible.holds(class, priority(sequence), rules.samples_per_task) {
            emit(RetentionEvent::Candidate(
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
