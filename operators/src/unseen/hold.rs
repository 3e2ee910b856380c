//! Holding: labels of samples whose tasks are not all defined are held back from everything that
//! learns, and go to their groups.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use rustc_hash::FxHashSet;
use serde::{Deserialize, Serialize};
use timely::dataflow::operators::Concat;
use timely::dataflow::operators::core::OkErr;
use timely::dataflow::operators::vec::Map;

use super::candidates::{LeastSure, uncertainty};
use crate::algorithms::recognize::{Calibration, Reference};
use crate::algorithms::unseen::{
    Candidate, HeldSample, MAX_OUTLIERS_PER_EPOCH, Outlier, REMEMBERED, TrialResult,
};
use crate::data::{LabelKind, TaskDefinition, TaskId, TaskPath, priority};
use crate::epochs::{Epochs, OnFailure};
use crate::error::OperatorError;
use crate::flow::{Flow, Group, Labelled, LabelledEpoch, Phase, Predicted, TaskUpdate};

/// Event that concerns unseen tasks, for the grouping.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum GroupEvent {
    /// Samples arrived: their path, their number, and the sequence number of the first.
    Samples(TaskPath, u64, u64),
    /// A label arrived, for a sample with this path.
    Labelled(TaskPath, HeldSample),
    /// A task was defined without having been unseen.
    Defined(TaskDefinition),
    /// A group was tried on the tasks beside it.
    Trial(TrialResult),
    /// A sample is a candidate for a label request.
    Candidate(Box<Candidate>),
    /// A sample is far from all known tasks.
    Outlier(Outlier),
    /// The samples of known tasks were summed up anew.
    Reference(Arc<Reference>),
    /// The novelty scores of samples of known tasks were calibrated anew.
    Calibration(Arc<Calibration>),
    /// The stream's clock moved, microseconds since 1970.
    Clock(i64),
    /// The standard deviation of each feature was measured.
    Scales(Vec<f32>),
    /// The stream has ended.
    Ended,
}

/// Input of the operator.
enum HoldInput {
    Predicted(Rc<Predicted>),
    Labelled(Rc<LabelledEpoch>),
}

/// Rules of holding.
#[derive(Clone, Copy, Debug)]
pub struct HoldRules {
    /// Kind of label.
    pub kind: LabelKind,
    /// Whether samples with new attribute values belong to unseen tasks.
    pub by_attributes: bool,
    /// Whether to emit candidates for label requests.
    pub requests_labels: bool,
}

/// The tasks that are defined, to tell unseen ones from them.
struct Holder {
    rules: HoldRules,
    /// Unseen tasks that are regions of features.
    regions: FxHashSet<TaskId>,
    /// Tasks of the latest opened regions, oldest first.
    opened: VecDeque<TaskId>,
    defined: FxHashSet<TaskId>,
    /// Tasks that turned out to be others: samples that were predicted before have them on their
    /// paths.
    aliases: FxHashSet<TaskId>,
    /// Those of `opened` whose regions were closed, which such samples can have too.
    closed: FxHashSet<TaskId>,
}

impl Holder {
    fn new(rules: HoldRules, restored: impl IntoIterator<Item = TaskUpdate>) -> Holder {
        let mut holder = Holder {
            rules,
            regions: FxHashSet::default(),
            opened: VecDeque::new(),
            defined: FxHashSet::default(),
            aliases: FxHashSet::default(),
            closed: FxHashSet::default(),
        };
        for update in restored {
            holder.update(&update);
        }
        holder
    }

    fn update(&mut self, update: &TaskUpdate) {
        match update {
            TaskUpdate::Defined(task) => {
                self.defined.insert(*task);
            }
            TaskUpdate::Aliased(task, _) => {
                self.aliases.insert(*task);
            }
            TaskUpdate::RegionOpened(task) => {
                self.regions.insert(*task);
                self.opened.push_back(*task);
                if self.opened.len() > REMEMBERED
                    && let Some(oldest) = self.opened.pop_front()
                {
                    self.closed.remove(&oldest);
                }
            }
            TaskUpdate::RegionClosed(task) => {
                self.regions.remove(task);
                if self.opened.contains(task) {
                    self.closed.insert(*task);
                }
            }
            TaskUpdate::LabelRequested(_) => {}
        }
    }

    /// Whether all tasks of a path are defined. Its leaf decides: tasks above are defined before.
    fn is_defined(&self, group: &Group) -> bool {
        let leaf = group.path.leaf().task;
        let is_of_region = || self.regions.contains(&leaf) || self.is_gone(leaf);
        self.defined.contains(&leaf) || !self.rules.by_attributes && !is_of_region()
    }

    /// Whether a task is no longer one of its own.
    fn is_gone(&self, task: TaskId) -> bool {
        self.aliases.contains(&task) || self.closed.contains(&task)
    }

    /// The path down to its first task that is not defined, if there is one.
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

    /// Emits the events of a batch: its unseen samples, trials, outliers and candidates.
    fn emit_events(&self, predicted: &Predicted, mut emit: impl FnMut(GroupEvent)) {
        let allocated = &predicted.allocated;
        match allocated.header.phase {
            Phase::Live => {}
            Phase::Bootstrap | Phase::BootstrapEnds => return,
            Phase::Ended => return emit(GroupEvent::Ended),
        }
        for group in &allocated.groups {
            if let Some(path) = self.undefined(group) {
                let first = allocated
                    .batch
                    .sequence(allocated.order[group.start] as usize);
                let count = (group.end - group.start) as u64;
                emit(GroupEvent::Samples(path, count, first));
            }
        }
        for result in &predicted.trials {
            emit(GroupEvent::Trial(result.clone()));
        }
        for outlier in self.outliers(predicted) {
            emit(GroupEvent::Outlier(outlier));
        }
        if self.rules.requests_labels {
            emit(GroupEvent::Clock(allocated.header.clock));
            for candidate in self.candidates(predicted) {
                emit(GroupEvent::Candidate(Box::new(candidate)));
            }
        }
    }

    /// Samples of a batch whose tasks are defined, but that are far from all known tasks.
    fn outliers(&self, predicted: &Predicted) -> Vec<Outlier> {
        let Some(recognized) = &predicted.recognized else {
            return Vec::new();
        };
        let (allocated, batch) = (&predicted.allocated, &predicted.allocated.batch);
        let is_outlier = |row: &usize| {
            let p = recognized.p_value(*row);
            p.is_some_and(|p| p <= recognized.false_alarm)
                && self.is_defined(&allocated.groups[allocated.group_of[*row] as usize])
        };
        let mut rows: Vec<usize> = (0..batch.len()).filter(is_outlier).collect();
        rows.sort_unstable_by_key(|row| priority(batch.sequence(*row)));
        rows.truncate(MAX_OUTLIERS_PER_EPOCH);
        rows.into_iter()
            .map(|row| Outlier {
                sequence: batch.sequence(row),
                features: batch.features.row(row).to_vec(),
            })
            .collect()
    }

    /// Samples of a batch whose predictions are least certain.
    fn candidates(&self, predicted: &Predicted) -> Vec<Candidate> {
        if !predicted.is_predicted() {
            return Vec::new();
        }
        let allocated = &predicted.allocated;
        let tasks: Vec<(TaskId, bool)> = allocated
            .groups
            .iter()
            .map(|group| match self.undefined(group) {
                Some(path) => (path.leaf().task, true),
                None => (group.path.leaf().task, false),
            })
            .collect();
        let mut least_sure = LeastSure::default();
        for (row, group) in allocated.group_of.iter().enumerate() {
            let uncertainty = uncertainty(predicted, row, self.rules.kind);
            let sequence = allocated.batch.sequence(row);
            least_sure.add(uncertainty, sequence, row, tasks[*group as usize]);
        }
        least_sure.into_candidates(predicted)
    }

    /// Emits the labels of samples whose tasks are not all defined, and returns the others.
    fn hold_back(
        &self,
        labelled: Rc<LabelledEpoch>,
        mut emit: impl FnMut(GroupEvent),
    ) -> Result<Rc<LabelledEpoch>, OperatorError> {
        let undefined: Vec<UndefinedPaths> = labelled
            .batches
            .iter()
            .map(|batch| self.undefined_paths(batch))
            .collect();
        if undefined.iter().all(Vec::is_empty) {
            return Ok(labelled);
        }
        let mut batches = Vec::with_capacity(undefined.len());
        for (batch, undefined) in labelled.batches.iter().zip(undefined) {
            if undefined.is_empty() {
                batches.push(batch.clone());
                continue;
            }
            let mut defined = Labelled {
                predicted: batch.predicted.clone(),
                rows: Vec::new(),
                labels: Vec::new(),
            };
            let allocated = &batch.predicted.allocated;
            for (row, label) in batch.rows.iter().zip(&batch.labels) {
                let Some(path) = &undefined[allocated.group_of[*row as usize] as usize] else {
                    defined.rows.push(*row);
                    defined.labels.push(*label);
                    continue;
                };
                let sample = HeldSample::new(&batch.predicted, *row, *label)?;
                if self.is_gone(path.leaf().task) {
                    batches.push(sample.release(Some(path.nodes.len() - 1))?);
                } else {
                    emit(GroupEvent::Labelled(path.clone(), sample));
                }
            }
            batches.push(defined);
        }
        Ok(Rc::new(LabelledEpoch { batches }))
    }

    /// For each group of a batch that has labels, the path down to its first task that is not
    /// defined; empty if all tasks are defined.
    fn undefined_paths(&self, batch: &Labelled) -> UndefinedPaths {
        let allocated = &batch.predicted.allocated;
        let mut paths = Vec::new();
        // The bootstrap defines all tasks of its samples.
        if allocated.header.phase != Phase::Live {
            return paths;
        }
        for row in &batch.rows {
            let number = allocated.group_of[*row as usize] as usize;
            let group = &allocated.groups[number];
            if self.is_defined(group) {
                continue;
            }
            paths.resize(allocated.groups.len(), None);
            if paths[number].is_none() {
                paths[number] = self.undefined(group);
            }
        }
        paths
    }
}

type UndefinedPaths = Vec<Option<TaskPath>>;

/// Output of the operator.
enum HoldOutput {
    Event(GroupEvent),
    Labelled(Rc<LabelledEpoch>),
}

/// Holds back the labels of samples whose tasks are not all defined. The first returned stream has
/// the other labels, for everything that learns; the second has the events for the grouping.
///
/// `updates` is a feedback edge, broadcast to every worker; `restored` are the updates that the
/// knowledge base has.
pub fn hold<'scope>(
    predicted: Flow<'scope, Rc<Predicted>>,
    labelled: Flow<'scope, Rc<LabelledEpoch>>,
    updates: Flow<'scope, TaskUpdate>,
    restored: impl IntoIterator<Item = TaskUpdate>,
    rules: HoldRules,
    on_failure: OnFailure,
) -> (Flow<'scope, Rc<LabelledEpoch>>, Flow<'scope, GroupEvent>) {
    let holder = Holder::new(rules, restored);
    let inputs = predicted
        .map(HoldInput::Predicted)
        .concat(labelled.map(HoldInput::Labelled));
    let outputs: Flow<'scope, HoldOutput> = inputs.each_after(
        updates,
        "Hold",
        on_failure,
        holder,
        |holder, updates| {
            updates.iter().for_each(|update| holder.update(update));
            Ok(())
        },
        |holder, input, out| {
            let mut emit = |event| out.give(HoldOutput::Event(event));
            match input {
                HoldInput::Predicted(predicted) => holder.emit_events(&predicted, emit),
                HoldInput::Labelled(labelled) => {
                    let labelled = holder.hold_back(labelled, &mut emit)?;
                    out.give(HoldOutput::Labelled(labelled));
                }
            }
            Ok(())
        },
    );
    outputs.ok_err(|output| match output {
        HoldOutput::Labelled(labelled) => Ok(labelled),
        HoldOutput::Event(event) => Err(event),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::TaskPath;

    fn group(number: u64) -> Group {
        let base = TaskDefinition::base();
        let own = TaskDefinition {
            task: TaskId(number),
            ..base.child(&[("features".to_string(), format!("unseen-{number}"))])
        };
        let nodes = vec![base, own];
        Group {
            path: Rc::new(TaskPath { nodes }),
            start: 0,
            end: 1,
        }
    }

    #[test]
    fn closed_regions_are_remembered_for_a_while() {
        let rules = HoldRules {
            kind: LabelKind::Classes(2),
            by_attributes: false,
            requests_labels: false,
        };
        let alias = TaskUpdate::Aliased(TaskId(1), TaskDefinition::base());
        let opened =
            (1..=REMEMBERED as u64 + 2).map(|number| TaskUpdate::RegionOpened(TaskId(number)));
        let closed = (2..=REMEMBERED as u64).map(|number| TaskUpdate::RegionClosed(TaskId(number)));
        let mut holder = Holder::new(rules, [alias].into_iter().chain(opened).chain(closed));
        // The first one is an alias, and the last two are open.
        let is_gone = |holder: &Holder, number| holder.is_gone(TaskId(number));
        assert!(is_gone(&holder, 1) && is_gone(&holder, 3) && !is_gone(&holder, 2));
        assert_eq!(holder.regions.len(), 3);
        assert!(!holder.is_defined(&group(3)) && holder.is_defined(&group(2)));
        holder.update(&TaskUpdate::RegionOpened(TaskId(REMEMBERED as u64 + 3)));
        assert!(is_gone(&holder, 1) && !is_gone(&holder, 3) && is_gone(&holder, 4));
    }
}
