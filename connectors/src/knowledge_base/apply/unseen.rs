//! Changes of unseen tasks.

use perennial_operators::TaskId;
use perennial_operators::algorithms::unseen::{GroupOutcome, UnseenGrown, UnseenSettled};

use super::CommitWriter;
use crate::knowledge_base::KnowledgeError;
use crate::knowledge_base::layout::{Family, sample_key, task_key};

impl CommitWriter<'_> {
    /// Updates an unseen task, and adds its new labelled samples.
    pub(super) fn grow_unseen(&mut self, grown: &UnseenGrown) -> Result<(), KnowledgeError> {
        let task = grown.group.task().task;
        self.put(Family::Unseen, &task_key(task), &grown.group)?;
        if grown.group.labelled == 0 {
            self.drop_held(task)?;
        }
        for sample in &grown.labelled {
            self.put(Family::Held, &sample_key(task, sample.sequence), sample)?;
            let added = self.held.entry(task).or_default();
            added.insert(sample.sequence);
        }
        Ok(())
    }

    /// Removes an unseen task that became a task, an alias of one, or nothing.
    pub(super) fn settle_unseen(&mut self, settled: &UnseenSettled) -> Result<(), KnowledgeError> {
        let task = settled.task.task;
        let family = self.kb.family(Family::Unseen)?;
        self.batch.delete_cf(family, task_key(task));
        self.drop_held(task)?;
        if let GroupOutcome::Alias(old) = &settled.became {
            self.put(Family::Aliases, &task_key(task), old)?;
        }
        Ok(())
    }

    /// Removes the labelled samples of an unseen task.
    fn drop_held(&mut self, task: TaskId) -> Result<(), KnowledgeError> {
        let family = self.kb.family(Family::Held)?;
        for sequence in self.held.remove(&task).unwrap_or_default() {
            self.batch.delete_cf(family, sample_key(task, sequence));
        }
        let (first, end) = (sample_key(task, 0), sample_key(task, u64::MAX));
        self.remove_rows(Family::Held, first.to_vec(), end.to_vec())
    }
}
