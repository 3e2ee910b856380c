//! Holding: labels of samples whose tasks are not all defined are kept from all that learns, and go to their groups.

use std::rc::Rc;
use std::sync::Arc;

use rustc_hash::FxHashSet;
use serde::{Deserialize, Serialize};
use timely::dataflow::operators::Concat;
use timely::dataflow::operators::core::OkErr;
use timely::dataflow::operators::vec::Map;

use super::candidates::{LeastSure, uncertainty};
use crate::Failure;
use crate::algorithms::recognize::{Calibration, Reference};
use crate::algorithms::unseen::{
    Candidate, HeldSample, MAX_OUTLIERS_PER_EPOCH, Outlier, TrialResult,
};
use crate::data::{LabelKind, TaskDefinition, TaskId, TaskPath, priority};
use crate::epochs::{Epochs, OnFailure};
use crate::flow::{Flow, Group, Labelled, LabelledEpoch, Phase, Predicted, TaskUpdate};

/// What happened to unseen tasks in an epoch; groups hear all of it on one worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum GroupEvent {
    /// Samples arrived: their path, their number, and the sequence number of the first.
    Samples(TaskPath, u64, u64),
    /// A label arrived.
    Labelled(TaskPath, HeldSample),
    /// A task was defined without having been unseen.
    Defined(TaskDefinition),
    /// A group was tried on the tasks beside it.
    Trial(TrialResult),
    /// The label of a sample could be asked for.
    Candidate(Box<Candidate>),
    /// A sample is far from all known tasks.
    Outlier(Outlier),
    /// What samples of known tasks look like.
    Reference(Arc<Reference>),
    /// Usual scores of samples of known tasks.
    Calibration(Arc<Calibration>),
    /// The stream's clock.
    Clock(i64),
    /// How much each feature varies, as standard deviations.
    Scales(Vec<f32>),
    /// The stream has ended.
    Ended,
}

/// Input of the operator.
enum Seen {
    Predicted(Rc<Predicted>),
    Labelled(Rc<LabelledEpoch>),
}

/// What is looked for.
#[derive(Clone, Copy, Debug)]
pub struct HoldRules {
    /// What is predicted.
    pub kind: LabelKind,
    /// Whether attribute values tell of unseen tasks.
    pub by_attributes: bool,
    /// Whether samples are told of whose labels could be asked for.
    pub asks: bool,
}

/// Tells samples of defined tasks from others.
struct Holder {
    rules: HoldRules,
    /// Unseen tasks by features.
    regions: FxHashSet<TaskId>,
    defined: FxHashSet<TaskId>,
    /// Other names of tasks, and tasks of regions that are no more. Samples that were predicted before this was known have
    /// them.
    gone: FxHashSet<TaskId>,
}

impl Holder {
    fn settle(&mut self, settled: &TaskUpdate) {
        match settled {
            TaskUpdate::Defined(task) => self.defined.insert(*task),
            TaskUpdate::Aliased(task, _) | TaskUpdate::RegionClosed(task) => {
                self.gone.insert(*task)
            }
            TaskUpdate::RegionOpened(task) => self.regions.insert(*task),
            TaskUpdate::LabelRequested(_) => false,
        };
    }

    /// Whether all tasks of a path are. The leaf tells: what is above a task is defined before it.
    fn is_defined(&self, group: &Group) -> bool {
        let leaf = group.path.leaf().task;
        self.defined.contains(&leaf) || !self.rules.by_attributes && !self.regions.contains(&leaf)
    }

    /// The path down to the first task that is not defined, if there is one.
    fn undefined(&self, group: &Group) -> Option<TaskPath> {
        let nodes = &group.path.nodes;
        if self.is_defined(group) {
            return None;
        }
        let is_new = |node: &TaskDefinition| !self.defined.contains(&node.task);
        let new = nodes.iter().position(is_new)?;
        let nodes = nodes[..=new].to_vec();
        Some(TaskPath { nodes })
    }

    /// The samples of a batch whose tasks are not all defined.
    fn sight(&self, scored: &Predicted, mut tell: impl FnMut(GroupEvent)) {
        let allocated = &scored.allocated;
        match allocated.header.phase {
            Phase::Live => {}
            Phase::Bootstrap | Phase::BootstrapEnds => return,
            Phase::Ended => return tell(GroupEvent::Ended),
        }
        for group in &allocated.groups {
            if let Some(path) = self.undefined(group) {
                let first = allocated
                    .batch
                    .sequence(allocated.order[group.start] as usize);
                tell(GroupEvent::Samples(
                    path,
                    (group.end - group.start) as u64,
                    first,
                ));
            }
        }
        for tried in &scored.trials {
            tell(GroupEvent::Trial(tried.clone()));
        }
        for strange in self.strange(scored) {
            tell(GroupEvent::Outlier(strange));
        }
        if self.rules.asks {
            tell(GroupEvent::Clock(allocated.header.clock));
            for candidate in self.candidates(scored) {
                tell(GroupEvent::Candidate(Box::new(candidate)));
            }
        }
    }

    /// Samples of a batch whose tasks are defined and that look like none of known tasks.
    fn strange(&self, scored: &Predicted) -> Vec<Outlier> {
        let Some(recognized) = &scored.recognized else {
            return Vec::new();
        };
        let (allocated, batch) = (&scored.allocated, &scored.allocated.batch);
        let is_strange = |row: &usize| {
            let p = recognized.p_of(*row);
            p.is_some_and(|p| p <= recognized.false_alarm)
                && self.is_defined(&allocated.groups[allocated.group_of[*row] as usize])
        };
        let mut rows: Vec<usize> = (0..batch.len()).filter(is_strange).collect();
        rows.sort_unstable_by_key(|row| priority(batch.sequence(*row)));
        rows.truncate(MAX_OUTLIERS_PER_EPOCH);
        let strange = rows.into_iter().map(|row| Outlier {
            sequence: batch.sequence(row),
            features: batch.features.row(row).to_vec(),
        });
        strange.collect()
    }

    /// The samples of a batch whose answers are least sure.
    fn candidates(&self, scored: &Predicted) -> Vec<Candidate> {
        let allocated = &scored.allocated;
        let mut least_sure = LeastSure::default();
        if !scored.is_predicted() {
            return Vec::new();
        }
        let tasks = allocated
            .groups
            .iter()
            .map(|group| match self.undefined(group) {
                Some(path) => (path.leaf().task, true),
                None => (group.path.leaf().task, false),
            });
        let tasks: Vec<(TaskId, bool)> = tasks.collect();
        for (row, group) in allocated.group_of.iter().enumerate() {
            let uncertainty = uncertainty(scored, row, self.rules.kind);
            let sequence = allocated.batch.sequence(row);
            least_sure.add(uncertainty, sequence, row, tasks[*group as usize]);
        }
        least_sure.of(scored)
    }

    /// Tells of the labels of samples whose tasks are not all defined, and passes on the others.
    fn sort_out(
        &self,
        labelled: Rc<LabelledEpoch>,
        mut tell: impl FnMut(GroupEvent),
    ) -> Result<Rc<LabelledEpoch>, Failure> {
        let new: Vec<NewGroups> = labelled
            .batches
            .iter()
            .map(|part| self.new_in(part))
            .collect();
        if new.iter().all(Vec::is_empty) {
            return Ok(labelled);
        }
        let mut parts = Vec::with_capacity(new.len());
        for (part, new) in labelled.batches.iter().zip(new) {
            if new.is_empty() {
                parts.push(part.clone());
                continue;
            }
            let mut others = Labelled {
                predicted: part.predicted.clone(),
                rows: Vec::new(),
                labels: Vec::new(),
            };
            let allocated = &part.predicted.allocated;
            for (row, label) in part.rows.iter().zip(&part.labels) {
                match &new[allocated.group_of[*row as usize] as usize] {
                    Some(path) => {
                        let sample = HeldSample::new(&part.predicted, *row, *label)?;
                        match self.gone.contains(&path.leaf().task) {
                            true => parts.push(sample.release(Some(path.nodes.len() - 1))?),
                            false => tell(GroupEvent::Labelled(path.clone(), sample)),
                        }
                    }
                    None => {
                        others.rows.push(*row);
                        others.labels.push(*label);
                    }
                }
            }
            parts.push(others);
        }
        Ok(Rc::new(LabelledEpoch { batches: parts }))
    }

    /// For each group of a batch that has labels, the path down to its first task that is not defined; nothing if there is
    /// none.
    fn new_in(&self, part: &Labelled) -> NewGroups {
        let allocated = &part.predicted.allocated;
        let mut new = Vec::new();
        // All that the bootstrap has is defined by it.
        if allocated.header.phase != Phase::Live {
            return new;
        }
        for row in &part.rows {
            let number = allocated.group_of[*row as usize] as usize;
            let group = &allocated.groups[number];
            if self.is_defined(group) {
                continue;
            }
            new.resize(allocated.groups.len(), None);
            if new[number].is_none() {
                new[number] = self.undefined(group);
            }
        }
        new
    }
}

type NewGroups = Vec<Option<TaskPath>>;

/// Output of the operator.
enum Sorted {
    Event(GroupEvent),
    Labelled(Rc<LabelledEpoch>),
}

/// Holds the labels of samples whose tasks are not all defined. `settled` comes over the feedback edge, broadcast to every
/// worker; `settled_before` is what the knowledge base has of it. The first stream is what others learn from, the second what
/// groups are told.
pub fn hold<'scope>(
    scored: Flow<'scope, Rc<Predicted>>,
    labelled: Flow<'scope, Rc<LabelledEpoch>>,
    settled: Flow<'scope, TaskUpdate>,
    settled_before: impl IntoIterator<Item = TaskUpdate>,
    rules: HoldRules,
    on_failure: OnFailure,
) -> (Flow<'scope, Rc<LabelledEpoch>>, Flow<'scope, GroupEvent>) {
    let mut holder = Holder {
        rules,
        regions: FxHashSet::default(),
        defined: FxHashSet::default(),
        gone: FxHashSet::default(),
    };
    for settled in settled_before {
        holder.settle(&settled);
    }
    let seen = scored
        .map(Seen::Predicted)
        .concat(labelled.map(Seen::Labelled));
    let sorted: Flow<'scope, Sorted> = seen.each_after(
        settled,
        "Hold",
        on_failure,
        holder,
        |holder, settled| {
            settled.iter().for_each(|settled| holder.settle(settled));
            Ok(())
        },
        |holder, seen, out| {
            let mut tell = |sighting| out.give(Sorted::Event(sighting));
            match seen {
                Seen::Predicted(scored) => holder.sight(&scored, tell),
                Seen::Labelled(labelled) => {
                    let labelled = holder.sort_out(labelled, &mut tell)?;
                    out.give(Sorted::Labelled(labelled));
                }
            }
            Ok(())
        },
    );
    sorted.ok_err(|sorted| match sorted {
        Sorted::Labelled(labelled) => Ok(labelled),
        Sorted::Event(sighting) => Err(sighting),
    })
}
