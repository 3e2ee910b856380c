//! Changes of models and of their training stages.

use std::collections::{BTreeMap, BTreeSet};

use perennial_operators::flow::{
    EpochEffects, KnowledgeChange, ModelEvaluated, ModelTrained, StageKind, StageMoved, StageState,
};
use perennial_operators::{Epoch, ModelId};

use super::CommitWriter;
use crate::knowledge_base::KnowledgeError;
use crate::knowledge_base::layout::{Family, donor_key, model_key, stage_key};
use crate::knowledge_base::records::{ModelRecord, StageRecord};

impl CommitWriter<'_> {
    /// Stores the bytes of an epoch's models: of those that are only donated in the place of their
    /// donor's last one of the task, of all others under their hashes.
    pub(super) fn store_models(&mut self, effects: &EpochEffects) -> Result<(), KnowledgeError> {
        let family = self.kb.family(Family::Onnx)?;
        let (mut trained, mut donated) = (BTreeSet::new(), BTreeSet::new());
        // An epoch may have several of one donor and task: the last one counts, as in its record.
        let mut places = BTreeMap::new();
        for change in &effects.changes {
            match change {
                KnowledgeChange::ModelTrained(model) => {
                    trained.insert(&model.hash);
                }
                KnowledgeChange::ModelDonated(model) => {
                    let key = donor_key(model.task(), Some(&model.donor));
                    donated.insert(&model.trained.hash);
                    places.insert(key, &model.trained.hash);
                }
                _ => {}
            }
        }
        for (key, hash) in &places {
            if trained.contains(hash) {
                self.batch.delete_cf(family, key);
            }
        }
        for (hash, bytes) in &effects.models {
            if trained.contains(hash) || !donated.contains(hash) {
                self.batch.put_cf(family, hash.as_bytes(), bytes.as_slice());
                continue;
            }
            for (key, _) in places.iter().filter(|(_, of)| **of == hash) {
                self.batch.put_cf(family, key, bytes.as_slice());
            }
        }
        Ok(())
    }

    /// Adds a state to a stage; a waiting training also counts as the task's latest order.
    pub(super) fn move_stage(
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
        let record = match self.stages.remove(&key) {
            Some(modified) => Some(modified),
            None => self
                .kb
                .get(Family::Stages, &stage_key(moved.model, moved.stage))?,
        };
        let mut record = record.unwrap_or_else(|| StageRecord {
            states: Vec::new(),
            labelled: moved.labelled,
            clock: moved.clock,
            reason: moved.detail.clone(),
            initial: moved.initial,
            recent: moved.recent,
            detail: String::new(),
        });
        record.states.push((moved.state, epoch));
        record.detail.clone_from(&moved.detail);
        self.stages.insert(key, record);
        Ok(())
    }

    pub(super) fn add_model(
        &mut self,
        epoch: Epoch,
        trained: &ModelTrained,
    ) -> Result<(), KnowledgeError> {
        let record = ModelRecord {
            trained: trained.clone(),
            epoch,
            evaluated: None,
            deployed: None,
            replaced: None,
            promoted: None,
        };
        self.models.insert(trained.model, record);
        Ok(())
    }

    pub(super) fn evaluate_model(
        &mut self,
        evaluated: &ModelEvaluated,
    ) -> Result<(), KnowledgeError> {
        self.model(evaluated.model)?.evaluated = Some(evaluated.clone());
        Ok(())
    }

    pub(super) fn deploy_model(
        &mut self,
        epoch: Epoch,
        model: ModelId,
    ) -> Result<(), KnowledgeError> {
        let task = self.task(model.task)?;
        let incumbent = task.deployed.replace(model.version);
        task.moved = Some(epoch);
        let record = self.model(model)?;
        (record.deployed, record.replaced) = (Some(epoch), incumbent);
        Ok(())
    }

    /// Removes a deployed model from its task. Version 0 stands for any version.
    pub(super) fn retire_model(
        &mut self,
        epoch: Epoch,
        model: ModelId,
    ) -> Result<(), KnowledgeError> {
        let task = self.task(model.task)?;
        if model.version == 0 || task.deployed == Some(model.version) {
            (task.deployed, task.moved) = (None, Some(epoch));
        }
        Ok(())
    }

    /// Replaces a model by the version `to`, unless another one was deployed meanwhile.
    pub(super) fn roll_back_model(
        &mut self,
        epoch: Epoch,
        model: ModelId,
        to: Option<u32>,
    ) -> Result<(), KnowledgeError> {
        let task = self.task(model.task)?;
        if task.deployed == Some(model.version) {
            (task.deployed, task.moved) = (to, Some(epoch));
        }
        Ok(())
    }

    pub(super) fn promote_model(
        &mut self,
        epoch: Epoch,
        model: ModelId,
    ) -> Result<(), KnowledgeError> {
        self.model(model)?.promoted = Some(epoch);
        // A moved task is published again.
        self.task(model.task)?.moved = Some(epoch);
        Ok(())
    }

    /// The record of a model, read if this commit has not modified it yet.
    fn model(&mut self, model: ModelId) -> Result<&mut ModelRecord, KnowledgeError> {
        let record = match self.models.remove(&model) {
            Some(modified) => modified,
            None => self
                .kb
                .get(Family::Models, &model_key(model))?
                .ok_or_else(|| {
                    let ModelId { task, version } = model;
                    self.kb
                        .damaged(&format!("model {version} of task {task} is unknown"))
                })?,
        };
        Ok(self.models.entry(model).or_insert(record))
    }
}
