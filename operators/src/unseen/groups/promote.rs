//! Promotion: what becomes of a group. It is a new task, another name of a known one, or no task.

use std::sync::Arc;

use rustc_hash::FxHashSet;

use super::{Grouped, Groups};
use crate::algorithms::unseen::{
    Entry, GroupOutcome, HeldSample, Trial, TrialResult, TrialSample, UnseenSettled, Verdict,
};
use crate::data::TaskId;
use crate::error::OperatorError;
use crate::flow::{KnowledgeChange, Labelled, TaskUpdate};

/// Most trials that begin in an epoch.
const MOST_TRIALS: usize = 1;
/// Factor on the labels of the first trial at which an undecided unseen task is tried again.
const SECOND_TRIAL: u64 = 3;

impl Groups {
    /// Starts trials of the groups that have enough labels, a few in an epoch. A group with no task
    /// beside it needs no trial.
    pub(super) fn start_trials(&mut self) -> Result<(), OperatorError> {
        let mut started = 0;
        let (first, second) = (
            self.rules.known_after,
            SECOND_TRIAL * self.rules.known_after,
        );
        for task in self.table.labelled() {
            let Some(entry) = self.table.get(task) else {
                continue;
            };
            let group = &entry.group;
            let due = if group.tried == 0 { first } else { second };
            if group.labelled < due || group.trying || group.tried >= second {
                continue;
            }
            if !self.defined.has_siblings(&group.path) {
                self.promote(task)?;
                continue;
            }
            if started == MOST_TRIALS {
                continue;
            }
            started += 1;
            self.touched.entry(task).or_default();
            self.table.set_trying(task, true);
            if let Some(entry) = self.table.get(task) {
                let trial = self.trial(entry)?;
                self.out.push(Grouped::Trial(trial));
            }
        }
        Ok(())
    }

    pub(super) fn trial(&self, entry: &Entry) -> Result<Arc<Trial>, OperatorError> {
        let samples = entry.held.iter().map(HeldSample::trial);
        let samples = samples.collect::<Result<Vec<_>, _>>()?;
        Ok(Arc::new(Trial {
            task: entry.group.task().task,
            siblings: self.defined.nearest_siblings(
                &entry.group.path,
                &samples,
                self.reference.as_deref(),
            ),
            samples,
            again: entry.group.labelled < SECOND_TRIAL * self.rules.known_after,
        }))
    }

    /// Carries out the verdict of a trial: a new task, another name of a known one, or one more
    /// trial.
    pub(super) fn apply_verdict(&mut self, result: TrialResult) -> Result<(), OperatorError> {
        match result.verdict {
            Verdict::New => self.promote(result.task),
            Verdict::Unsure => {
                self.touched.entry(result.task).or_default();
                self.table.set_trying(result.task, false);
                Ok(())
            }
            Verdict::Alias(old) => {
                let entry = self.table.remove(result.task);
                if entry.is_some() {
                    self.update(TaskUpdate::Aliased(result.task, old.clone()));
                }
                self.dissolve(entry, GroupOutcome::Alias(old))
            }
        }
    }

    /// Defines the task of a group, and the tasks below it that its labels are of, if there is room
    /// for it.
    pub(super) fn promote(&mut self, task: TaskId) -> Result<(), OperatorError> {
        let Some(entry) = self.table.remove(task) else {
            return Ok(());
        };
        let is_full = self.defined.len() >= self.rules.most_tasks;
        if is_full && !self.defined.contains(entry.group.task()) {
            return self.dissolve(Some(entry), GroupOutcome::Forgotten);
        }
        let above = entry.group.path.nodes.len() - 1;
        let mut defined = FxHashSet::default();
        for sample in &entry.held {
            let labelled = sample.release(None)?;
            let nodes = labelled.predicted.allocated.groups.iter();
            for node in nodes.flat_map(|group| &group.path.nodes[above..]) {
                if defined.insert(node.task) {
                    self.defined.insert(node.clone());
                    self.update(TaskUpdate::Defined(node.task));
                    self.change(KnowledgeChange::TaskDefined(node.clone()));
                }
            }
            self.released.push(labelled);
        }
        self.settle(entry, GroupOutcome::Task);
        Ok(())
    }

    /// Settles a group, if there is one, that becomes no task of its own. Its labels go to the
    /// tasks above it.
    pub(super) fn dissolve(
        &mut self,
        entry: Option<Entry>,
        outcome: GroupOutcome,
    ) -> Result<(), OperatorError> {
        let Some(entry) = entry else { return Ok(()) };
        let above = entry.group.path.nodes.len() - 1;
        for sample in &entry.held {
            self.released.push(sample.release(Some(above))?);
        }
        self.settle(entry, outcome);
        Ok(())
    }

    /// Emits the outcome of a group; that of a forgotten one only if the knowledge base has it.
    fn settle(&mut self, entry: Entry, outcome: GroupOutcome) {
        let task = entry.group.task().clone();
        let new_task = match &outcome {
            GroupOutcome::Task => Some(&task),
            GroupOutcome::Alias(old) => Some(old),
            GroupOutcome::Known | GroupOutcome::Forgotten => None,
        };
        if self.regions.settle(&task, new_task) {
            self.change(KnowledgeChange::RegionsMoved(self.regions.clone()));
            self.send_regions();
            if new_task.is_none() {
                self.update(TaskUpdate::RegionClosed(task.task));
            }
        }
        self.touched.remove(&task.task);
        let was_stored = self.stored.remove(&task.task);
        if was_stored || outcome != GroupOutcome::Forgotten {
            self.change(KnowledgeChange::UnseenSettled(UnseenSettled {
                task,
                first: entry.group.first,
                samples: entry.group.samples,
                labelled: entry.group.labelled,
                became: outcome,
            }));
        }
    }
}

impl HeldSample {
    fn trial(&self) -> Result<TrialSample, OperatorError> {
        let Labelled {
            predicted, rows, ..
        } = self.release(None)?;
        let row = rows.first().map_or(0, |row| *row as usize);
        let prediction: Vec<f32> = predicted.probabilities.row(row).to_vec();
        let pool = predicted.pools.first().ok_or(OperatorError::NotPredicted)?;
        Ok(TrialSample {
            features: predicted.allocated.batch.features.row(row).to_vec(),
            label: self.label,
            loss: pool.loss(&prediction, self.label),
        })
    }
}
