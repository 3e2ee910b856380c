//! Unseen tasks, and the labels that are asked for.

use perennial_operators::TaskId;
use perennial_operators::algorithms::unseen::{
    GroupOutcome, LabelsRequested, UnseenGrown, UnseenSettled,
};

use super::Touched;
use crate::knowledge_base::KnowledgeError;
use crate::knowledge_base::layout::{Family, META_ASKED, number_key, sample_key, task_key};

impl Touched<'_> {
    pub(super) fn grow_unseen(&mut self, grown: &UnseenGrown) -> Result<(), KnowledgeError> {
        let task = grown.group.task().task;
        self.kb.put(
            &mut self.batch,
            Family::Unseen,
            &task_key(task),
            &grown.group,
        )?;
        if grown.group.labelled == 0 {
            self.drop_held(task)?;
        }
        for sample in &grown.labelled {
            let key = sample_key(task, sample.sequence);
            self.kb.put(&mut self.batch, Family::Held, &key, sample)?;
        }
        Ok(())
    }

    pub(super) fn settle_unseen(&mut self, settled: &UnseenSettled) -> Result<(), KnowledgeError> {
        let task = settled.task.task;
        let family = self.kb.family(Family::Unseen)?;
        self.batch.delete_cf(family, task_key(task));
        self.drop_held(task)?;
        if let GroupOutcome::Alias(old) = &settled.became {
            self.kb
                .put(&mut self.batch, Family::Aliases, &task_key(task), old)?;
        }
        Ok(())
    }

    pub(super) fn request(&mut self, requested: &LabelsRequested) -> Result<(), KnowledgeError> {
        for request in &requested.requests {
            let key = number_key(request.sequence);
            self.kb
                .put(&mut self.batch, Family::Requests, &key, request)?;
        }
        self.kb
            .put(&mut self.batch, Family::Meta, META_ASKED, &requested.asked)
    }

    fn drop_held(&mut self, task: TaskId) -> Result<(), KnowledgeError> {
        let family = self.kb.family(Family::Held)?;
        let all = (sample_key(task, 0), sample_key(task, u64::MAX));
        self.batch.delete_range_cf(family, all.0, all.1);
        Ok(())
    }
}
