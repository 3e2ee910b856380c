//! Writing: changes to facts, and whole epochs as one atomic write.

mod labels;
mod link;
mod memory;
mod model;
mod task;
mod unseen;

use std::collections::BTreeMap;
use std::sync::Arc;

use perennial_operators::algorithms::adapter::Adapter;
use perennial_operators::algorithms::drift::Detectors;
use perennial_operators::flow::{Effect, EpochEffects, KnowledgeChange, StageKind};
use perennial_operators::{
    ClassRetained, Epoch, ModelId, SharedStatistics, TaskDifference, TaskId,
};
use rocksdb::WriteBatch;

use super::layout::{
    Family, META_CLUSTERS, META_DEVIATIONS, META_MEMORY, META_PREPARED, META_PROGRESS,
    META_REFERENCE, META_REGIONS, change_key, donor_key, model_key, relation_key, reported_key,
    stage_key, task_key,
};
use super::records::{ModelRecord, OutboxWrite, Progress, StageRecord, TaskRecord};
use super::{KnowledgeBase, KnowledgeError};

/// Records that the changes of one commit touch, read once and written once.
struct Touched<'a> {
    kb: &'a KnowledgeBase,
    batch: WriteBatch,
    tasks: BTreeMap<TaskId, TaskRecord>,
    models: BTreeMap<ModelId, ModelRecord>,
    stages: BTreeMap<(ModelId, StageKind), StageRecord>,
    adapters: BTreeMap<TaskId, Arc<Adapter>>,
    detectors: BTreeMap<TaskId, Arc<Detectors>>,
    reservoirs: BTreeMap<TaskId, Vec<ClassRetained>>,
    /// What is added to the totals of statistics.
    added: BTreeMap<TaskId, TaskDifference>,
    /// How edges did, by edge and task.
    reported: BTreeMap<(Arc<str>, TaskId), SharedStatistics>,
}

/// Changes are stored many to a value, of about so many bytes: there is a handful for each label.
const BLOCK: usize = 16 << 10;

impl KnowledgeBase {
    /// Makes epochs durable, with the progress after them: one atomic, synced write.
    pub fn commit(
        &self,
        epochs: &[EpochEffects],
        progress: &Progress,
        outbox: &OutboxWrite,
    ) -> Result<(), KnowledgeError> {
        let batch = self.batch(epochs, progress, outbox)?;
        self.write(batch)
    }

    /// Makes epochs durable without letting them count: what [`KnowledgeBase::apply_prepared`] does then,
    /// in this run or after a crash.
    pub fn prepare(
        &self,
        epochs: &[EpochEffects],
        progress: &Progress,
        outbox: &OutboxWrite,
    ) -> Result<(), KnowledgeError> {
        let batch = self.batch(epochs, progress, outbox)?;
        let prepared = [&progress.commits.to_be_bytes(), batch.data()].concat();
        let mut write = WriteBatch::default();
        write.put_cf(self.family(Family::Meta)?, META_PREPARED, prepared);
        self.write(write)
    }

    /// Adds changes that are of no epoch of the stream, in an epoch of their own.
    pub fn amend(&self, changes: Vec<KnowledgeChange>) -> Result<(), KnowledgeError> {
        let mut progress = self.view().progress()?;
        progress.epoch = progress.next_epoch();
        progress.changes += changes.len() as u64;
        let changes = changes.into_iter().map(Effect::Change);
        let effects = EpochEffects::gather(progress.epoch, changes.collect());
        self.commit(&[effects], &progress, &OutboxWrite::default())
    }

    /// The number of the commit that is prepared, if one is.
    pub fn prepared(&self) -> Result<Option<u64>, KnowledgeError> {
        Ok(self.prepared_write()?.map(|(number, _)| number))
    }

    /// Lets the prepared commit count. It need not be durable at once: what a crash undoes of it is done
    /// again from what was prepared.
    pub fn apply_prepared(&self) -> Result<(), KnowledgeError> {
        let Some((_, mut batch)) = self.prepared_write()? else {
            return Ok(());
        };
        batch.delete_cf(self.family(Family::Meta)?, META_PREPARED);
        self.write_soon(batch)
    }

    fn prepared_write(&self) -> Result<Option<(u64, WriteBatch)>, KnowledgeError> {
        let family = self.family(Family::Meta)?;
        let bytes = self.db.get_pinned_cf(family, META_PREPARED);
        let Some(bytes) = bytes.map_err(|error| self.storage(&error))? else {
            return Ok(None);
        };
        let torn = || self.damaged(&"the prepared commit is torn");
        let (number, data) = bytes.split_first_chunk().ok_or_else(torn)?;
        Ok(Some((
            u64::from_be_bytes(*number),
            WriteBatch::from_data(data),
        )))
    }

    /// Drops the prepared commit.
    pub fn drop_prepared(&self) -> Result<(), KnowledgeError> {
        let mut batch = WriteBatch::default();
        batch.delete_cf(self.family(Family::Meta)?, META_PREPARED);
        self.write(batch)
    }

    fn batch(
        &self,
        epochs: &[EpochEffects],
        progress: &Progress,
        outbox: &OutboxWrite,
    ) -> Result<WriteBatch, KnowledgeError> {
        let mut touched = Touched {
            kb: self,
            batch: WriteBatch::default(),
            tasks: BTreeMap::new(),
            models: BTreeMap::new(),
            stages: BTreeMap::new(),
            adapters: BTreeMap::new(),
            detectors: BTreeMap::new(),
            reservoirs: BTreeMap::new(),
            added: BTreeMap::new(),
            reported: BTreeMap::new(),
        };
        for effects in epochs {
            touched.epoch(effects)?;
        }
        touched.pending(epochs)?;
        touched.early_labels(epochs)?;
        touched.edges(epochs)?;
        touched.outbox(outbox)?;
        touched.finish(progress)
    }
}

impl Touched<'_> {
    fn epoch(&mut self, effects: &EpochEffects) -> Result<(), KnowledgeError> {
        self.log(effects)?;
        for change in &effects.changes {
            self.apply(effects.epoch, change)?;
        }
        let onnx = self.kb.family(Family::Onnx)?;
        for (hash, bytes) in &effects.models {
            self.batch.put_cf(onnx, hash.as_bytes(), bytes.as_slice());
        }
        Ok(())
    }

    /// Writes an epoch's changes down, one behind the other.
    fn log(&mut self, effects: &EpochEffects) -> Result<(), KnowledgeError> {
        let family = self.kb.family(Family::Changes)?;
        let (mut first, mut block) = (0, Vec::new());
        for (number, change) in effects.changes.iter().enumerate() {
            block = self.kb.append(block, change)?;
            if block.len() >= BLOCK || number + 1 == effects.changes.len() {
                self.batch
                    .put_cf(family, change_key(effects.epoch, first), &block);
                block.clear();
                first = number as u32 + 1;
            }
        }
        Ok(())
    }

    fn apply(&mut self, epoch: Epoch, change: &KnowledgeChange) -> Result<(), KnowledgeError> {
        match change {
            KnowledgeChange::TaskDefined(definition) => self.define(epoch, definition),
            KnowledgeChange::UnseenGrown(grown) => self.grow_unseen(grown),
            KnowledgeChange::UnseenSettled(settled) => self.settle_unseen(settled),
            KnowledgeChange::RegionsMoved(regions) => {
                self.kb
                    .put(&mut self.batch, Family::Meta, META_REGIONS, regions)
            }
            KnowledgeChange::LabelsRequested(requested) => self.request(requested),
            KnowledgeChange::StatisticsMoved(moved) => self.move_statistics(epoch, moved),
            KnowledgeChange::AdapterMoved(moved) => {
                self.adapters.insert(moved.task, moved.adapter.clone());
                Ok(())
            }
            KnowledgeChange::RecentMoved(moved) => self.move_recent(epoch, moved),
            KnowledgeChange::DriftMoved(moved) => {
                self.detectors.insert(moved.task, moved.detectors.clone());
                Ok(())
            }
            KnowledgeChange::CalibrationMoved(moved) => self.move_calibration(epoch, moved),
            KnowledgeChange::ReferenceDrawn(reference) => {
                self.kb
                    .put(&mut self.batch, Family::Meta, META_REFERENCE, reference)
            }
            // Those who told of it remember the last one.
            KnowledgeChange::DriftDetected(_) => Ok(()),
            KnowledgeChange::FeaturesScaled { deviations } => {
                self.kb
                    .put(&mut self.batch, Family::Meta, META_DEVIATIONS, deviations)
            }
            KnowledgeChange::MemoryBounded(bounded) => {
                self.kb
                    .put(&mut self.batch, Family::Meta, META_MEMORY, bounded)
            }
            KnowledgeChange::SamplesRetained(retained) => self.retain(retained),
            KnowledgeChange::StageMoved(moved) => self.move_stage(epoch, moved),
            KnowledgeChange::ModelTrained(trained) => {
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
            KnowledgeChange::ModelEvaluated(evaluated) => {
                self.model(evaluated.model)?.evaluated = Some(evaluated.clone());
                Ok(())
            }
            KnowledgeChange::ModelDeployed { model } => {
                let task = self.task(model.task)?;
                let before = task.deployed.replace(model.version);
                task.moved = Some(epoch);
                let record = self.model(*model)?;
                (record.deployed, record.replaced) = (Some(epoch), before);
                Ok(())
            }
            KnowledgeChange::ModelRetired { model } => {
                let task = self.task(model.task)?;
                if model.version == 0 || task.deployed == Some(model.version) {
                    (task.deployed, task.moved) = (None, Some(epoch));
                }
                Ok(())
            }
            KnowledgeChange::ModelRolledBack { model, to } => {
                let task = self.task(model.task)?;
                if task.deployed == Some(model.version) {
                    (task.deployed, task.moved) = (*to, Some(epoch));
                }
                Ok(())
            }
            KnowledgeChange::ModelPromoted { model } => {
                self.model(*model)?.promoted = Some(epoch);
                // It is published again.
                self.task(model.task)?.moved = Some(epoch);
                Ok(())
            }
            KnowledgeChange::TaskPinned { task, pinned } => {
                self.task(*task)?.pinned = *pinned;
                Ok(())
            }
            KnowledgeChange::Followed {
                task,
                donor,
                revision,
            } => {
                let key = donor_key(*task, donor.as_deref());
                self.kb
                    .put(&mut self.batch, Family::Followed, &key, revision)
            }
            KnowledgeChange::ModelDonated(donated) => self.donate(epoch, donated),
            KnowledgeChange::TaskPseudonym(renamed) => {
                let key = task_key(renamed.elsewhere.task);
                self.kb.put(&mut self.batch, Family::Renamed, &key, renamed)
            }
            KnowledgeChange::EdgeReport(reported) => self.report(reported),
            KnowledgeChange::ClustersFound(clusters) => {
                self.kb
                    .put(&mut self.batch, Family::Meta, META_CLUSTERS, clusters)
            }
            KnowledgeChange::RelationScored(scored) => {
                let key = relation_key(scored.task, scored.model.task);
                self.kb
                    .put(&mut self.batch, Family::Relations, &key, scored)
            }
        }
    }

    fn task(&mut self, task: TaskId) -> Result<&mut TaskRecord, KnowledgeError> {
        let found = match self.tasks.remove(&task) {
            Some(found) => found,
            None => self
                .kb
                .get(Family::Tasks, &task_key(task))?
                .ok_or_else(|| self.kb.damaged(&format!("task {task} is not defined")))?,
        };
        Ok(self.tasks.entry(task).or_insert(found))
    }

    fn finish(mut self, progress: &Progress) -> Result<WriteBatch, KnowledgeError> {
        let kb = self.kb;
        for (task, record) in &self.tasks {
            kb.put(&mut self.batch, Family::Tasks, &task_key(*task), record)?;
        }
        for (model, record) in &self.models {
            kb.put(&mut self.batch, Family::Models, &model_key(*model), record)?;
        }
        for ((model, stage), record) in &self.stages {
            let key = stage_key(*model, *stage);
            kb.put(&mut self.batch, Family::Stages, &key, record)?;
        }
        for ((edge, task), statistics) in &self.reported {
            let key = reported_key(edge, *task);
            let record = (edge, statistics);
            kb.put(&mut self.batch, Family::Reported, &key, &record)?;
        }
        for (task, adapter) in &self.adapters {
            kb.put(&mut self.batch, Family::Adapters, &task_key(*task), adapter)?;
        }
        for (task, detectors) in &self.detectors {
            kb.put(
                &mut self.batch,
                Family::Detectors,
                &task_key(*task),
                detectors,
            )?;
        }
        for (task, classes) in &self.reservoirs {
            kb.put(
                &mut self.batch,
                Family::Reservoirs,
                &task_key(*task),
                classes,
            )?;
        }
        let statistics = kb.family(Family::Statistics)?;
        for (task, added) in &self.added {
            self.batch
                .merge_cf(statistics, task_key(*task), kb.encode(added)?);
        }
        kb.put(&mut self.batch, Family::Meta, META_PROGRESS, progress)?;
        Ok(self.batch)
    }
}
