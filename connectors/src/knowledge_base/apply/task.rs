//! Applies changes of tasks: definitions and statistics.

use differential_dataflow::difference::Semigroup;
use perennial_operators::flow::StatisticsMoved;
use perennial_operators::{Epoch, TaskDefinition};

use super::Touched;
use crate::knowledge_base::KnowledgeError;
use crate::knowledge_base::layout::{Family, task_epoch_key, task_key};
use crate::knowledge_base::records::TaskRecord;

impl Touched<'_> {
    pub(crate) fn define(
        &mut self,
        epoch: Epoch,
        definition: &TaskDefinition,
    ) -> Result<(), KnowledgeError> {
        let known: Option<TaskRecord> = self.kb.get(Family::Tasks, &task_key(definition.task))?;
        let known = self.tasks.get(&definition.task).or(known.as_ref());
        match known {
            // It was defined here and in the cloud.
            Some(known) if known.definition == *definition => return Ok(()),
            Some(known) => {
                return Err(self.kb.damaged(&format!(
                    "tasks \"{}\" and \"{}\" have one number",
                    known.definition.name, definition.name
                )));
            }
            None => {}
        }
        self.tasks.insert(
            definition.task,
            TaskRecord {
                definition: definition.clone(),
                defined: epoch,
                deployed: None,
                moved: None,
                pinned: false,
                ordered: 0,
                labelled_at_order: 0,
                clock_at_order: 0,
            },
        );
        Ok(())
    }

    pub(crate) fn move_statistics(
        &mut self,
        epoch: Epoch,
        moved: &StatisticsMoved,
    ) -> Result<(), KnowledgeError> {
        let added = self.added.entry(moved.task).or_default();
        added.plus_equals(&*moved.difference);
        if moved.difference.score.count > 0 {
            let key = task_epoch_key(moved.task, epoch);
            let scores = moved.difference.scores();
            self.kb
                .put(&mut self.batch, Family::Windows, &key, &scores)?;
        }
        let family = self.kb.family(Family::Windows)?;
        for left in &moved.left {
            self.batch
                .delete_cf(family, task_epoch_key(moved.task, *left));
        }
        Ok(())
    }
}
