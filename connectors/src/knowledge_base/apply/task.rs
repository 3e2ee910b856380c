//! Changes of tasks: definitions, statistics, adapters, drift detectors and relations.

use differential_dataflow::difference::Semigroup;
use perennial_operators::algorithms::drift::DriftMoved;
use perennial_operators::flow::{AdapterMoved, EpochEffects, RelationScored, StatisticsMoved};
use perennial_operators::{Epoch, TaskDefinition, TaskId};

use super::CommitWriter;
use crate::knowledge_base::KnowledgeError;
use crate::knowledge_base::layout::{
    Family, META_UNDEFINED, relation_key, task_epoch_key, task_key,
};
use crate::knowledge_base::records::TaskRecord;

impl CommitWriter<'_> {
    /// Adds a task. A task that is known stays as it is.
    pub(super) fn define_task(
        &mut self,
        epoch: Epoch,
        definition: &TaskDefinition,
    ) -> Result<(), KnowledgeError> {
        let stored: Option<TaskRecord> = self.kb.get(Family::Tasks, &task_key(definition.task))?;
        match self.tasks.get(&definition.task).or(stored.as_ref()) {
            // Both this pipeline and the cloud have defined it.
            Some(known) if known.definition.is_same(definition) => return Ok(()),
            // Sources refuse samples of such tasks where they meet them. Here, it would be met at
            // each start again, so the two go on as one.
            Some(known) => {
                let (known, other) = (&known.definition.name, &definition.name);
                tracing::error!(%known, %other, "two tasks have one number; the first one stays");
                return Ok(());
            }
            None => {}
        }
        let record = TaskRecord {
            definition: definition.clone(),
            defined: epoch,
            deployed: None,
            moved: None,
            pinned: false,
            ordered: 0,
            labelled_at_order: 0,
            clock_at_order: 0,
        };
        self.tasks.insert(definition.task, record);
        Ok(())
    }

    pub(super) fn pin_task(&mut self, task: TaskId, pinned: bool) -> Result<(), KnowledgeError> {
        self.task(task)?.pinned = pinned;
        Ok(())
    }

    /// Adds to the totals of a task, and moves its window.
    pub(super) fn move_statistics(
        &mut self,
        epoch: Epoch,
        moved: &StatisticsMoved,
    ) -> Result<(), KnowledgeError> {
        let added = self.added.entry(moved.task).or_default();
        added.plus_equals(&*moved.difference);
        if moved.difference.score.count > 0 {
            let key = task_epoch_key(moved.task, epoch);
            self.put(Family::Windows, &key, &moved.difference.scores())?;
        }
        let family = self.kb.family(Family::Windows)?;
        for left in &moved.left {
            self.batch
                .delete_cf(family, task_epoch_key(moved.task, *left));
        }
        Ok(())
    }

    pub(super) fn move_adapter(&mut self, moved: &AdapterMoved) -> Result<(), KnowledgeError> {
        self.adapters.insert(moved.task, moved.adapter.clone());
        Ok(())
    }

    pub(super) fn move_detectors(&mut self, moved: &DriftMoved) -> Result<(), KnowledgeError> {
        self.detectors.insert(moved.task, moved.detectors.clone());
        Ok(())
    }

    pub(super) fn score_relation(&mut self, scored: &RelationScored) -> Result<(), KnowledgeError> {
        let key = relation_key(scored.task, scored.model.task);
        self.put(Family::Relations, &key, scored)
    }

    /// Adds to the number of samples whose own task is not defined.
    pub(super) fn count_undefined(
        &mut self,
        epochs: &[EpochEffects],
    ) -> Result<(), KnowledgeError> {
        let added: u64 = epochs.iter().map(|effects| effects.undefined).sum();
        if added == 0 {
            return Ok(());
        }
        let known: Option<u64> = self.kb.get(Family::Meta, META_UNDEFINED)?;
        self.put_meta(META_UNDEFINED, &(known.unwrap_or(0) + added))
    }

    /// The record of a task, read if this commit has not modified it yet.
    pub(super) fn task(&mut self, task: TaskId) -> Result<&mut TaskRecord, KnowledgeError> {
        let record = match self.tasks.remove(&task) {
            Some(modified) => modified,
            None => self
                .kb
                .get(Family::Tasks, &task_key(task))?
                .ok_or_else(|| self.kb.damaged(&format!("task {task} is not defined")))?,
        };
        Ok(self.tasks.entry(task).or_insert(record))
    }
}
