//! Applies changes of models and of their training stages.

use perennial_operators::flow::{StageKind, StageMoved, StageState};
use perennial_operators::{Epoch, ModelId};

use super::Touched;
use crate::knowledge_base::KnowledgeError;
use crate::knowledge_base::layout::{Family, model_key, stage_key};
use crate::knowledge_base::records::{ModelRecord, StageRecord};

impl Touched<'_> {
    pub(crate) fn move_stage(
        &mut self,
        epoch: Epoch,
        moved: &StageMoved,
    ) -> Result<(), KnowledgeError> {
        if (moved.stage, moved.state) == (StageKind::Train, StageState::Waiting) {
            let task = self.task(moved.model.task)?;
            task.ordered = moved.model.version;
            task.labelled_at_order = moved.labelled;
            task.clock_at_order = moved.clock;
        }
        let key = (moved.model, moved.stage);
        if !self.stages.contains_key(&key) {
            let stored = self
                .kb
                .get(Family::Stages, &stage_key(moved.model, moved.stage))?;
            let record = stored.unwrap_or_else(|| StageRecord {
                states: Vec::new(),
                labelled: moved.labelled,
                clock: moved.clock,
                reason: moved.detail.clone(),
                initial: moved.initial,
                recent: moved.recent,
                detail: String::new(),
            });
            self.stages.insert(key, record);
        }
        if let Some(record) = self.stages.get_mut(&key) {
            record.states.push((moved.state, epoch));
            record.detail.clone_from(&moved.detail);
        }
        Ok(())
    }

    pub(crate) fn model(&mut self, model: ModelId) -> Result<&mut ModelRecord, KnowledgeError> {
        let found = match self.models.remove(&model) {
            Some(found) => found,
            None => self
                .kb
                .get(Family::Models, &model_key(model))?
                .ok_or_else(|| {
                    let ModelId { task, version } = model;
                    self.kb
                        .damaged(&format!("model {version} of task {task} is unknown"))
                })?,
        };
        Ok(self.models.entry(model).or_insert(found))
    }
}
