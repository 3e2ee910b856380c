//! Writing: the changes of one or more epochs as one atomic write.
//!
//! The methods of [`CommitWriter`] are in a file for each subject; [`CommitWriter::apply`] calls
//! the one of each change.

mod input;
mod labels;
mod link;
mod memory;
mod model;
mod removal;
mod task;
mod unseen;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use perennial_operators::algorithms::adapter::Adapter;
use perennial_operators::algorithms::drift::Detectors;
use perennial_operators::flow::{Effect, EpochEffects, KnowledgeChange, StageKind};
use perennial_operators::{
    ClassRetained, Epoch, ModelId, SharedStatistics, TaskDifference, TaskId, TopicPartition,
};
use rocksdb::WriteBatch;
use serde::Serialize;

pub(super) use self::removal::RemovedRows;
use super::layout::{
    Family, META_CLUSTERS, META_DEVIATIONS, META_MEMORY, META_OUTPUTS, META_PREPARED,
    META_PROGRESS, META_REFERENCE, META_REGIONS, META_SKIPPED, META_UNTRANSACTED, change_key,
    model_key, reported_key, stage_key, task_key,
};
use super::records::{ModelRecord, OutboxWrite, Progress, SkippedTotal, StageRecord, TaskRecord};
use super::{KnowledgeBase, KnowledgeError};
use crate::files::OutputFile;

/// The write of one commit under construction.
///
/// Facts that a change sets as a whole go straight into `batch`. Records that several changes of a
/// commit can modify are collected in the maps, so that each is read once and written once, by
/// [`CommitWriter::finish`].
struct CommitWriter<'a> {
    kb: &'a KnowledgeBase,
    batch: WriteBatch,
    tasks: BTreeMap<TaskId, TaskRecord>,
    models: BTreeMap<ModelId, ModelRecord>,
    stages: BTreeMap<(ModelId, StageKind), StageRecord>,
    adapters: BTreeMap<TaskId, Arc<Adapter>>,
    detectors: BTreeMap<TaskId, Arc<Detectors>>,
    reservoirs: BTreeMap<TaskId, Vec<ClassRetained>>,
    /// Differences to add to the totals of statistics.
    added: BTreeMap<TaskId, TaskDifference>,
    /// Sums of the statistics that edges report, by edge and task.
    reported: BTreeMap<(Arc<str>, TaskId), SharedStatistics>,
    /// Sequence numbers of the held samples of unseen tasks that are added.
    held: BTreeMap<TaskId, BTreeSet<u64>>,
    /// Sequence number below which no sample waits after the commit, if it tells.
    pending_floor: Option<u64>,
    /// What was skipped of all partitions, once the commit adds to it.
    skipped: Option<BTreeMap<TopicPartition, SkippedTotal>>,
}

/// Least bytes of a stored block of changes. There are several changes for each label, so that a
/// value for each would be too small.
const BLOCK: usize = 16 << 10;

impl KnowledgeBase {
    /// Commits epochs and the progress after them in one atomic, synced write, without a
    /// transaction of Kafka. It drops a prepared commit.
    pub fn commit(
        &self,
        epochs: &[EpochEffects],
        progress: &Progress,
        outbox: &OutboxWrite,
    ) -> Result<(), KnowledgeError> {
        let mut batch = self.batch(epochs, progress, outbox)?;
        // A commit that is prepared for the state before this one must never be applied to it.
        batch.delete_cf(self.family(Family::Meta)?, META_PREPARED);
        if progress.commits > self.view().progress()?.commits {
            self.put(
                &mut batch,
                Family::Meta,
                META_UNTRANSACTED,
                &progress.commits,
            )?;
        }
        self.write(batch)
    }

    /// Records the files of outputs before anything is written to them, so that what a crash leaves
    /// in a new file is known as this state's.
    pub fn claim_outputs(
        &self,
        files: &BTreeMap<String, OutputFile>,
    ) -> Result<(), KnowledgeError> {
        let mut batch = WriteBatch::default();
        self.put(&mut batch, Family::Meta, META_OUTPUTS, files)?;
        self.write(batch)
    }

    /// Makes epochs durable without committing them. [`KnowledgeBase::apply_prepared`] commits them
    /// later, in this run or after a crash.
    pub fn prepare(
        &self,
        epochs: &[EpochEffects],
        progress: &Progress,
        outbox: &OutboxWrite,
    ) -> Result<(), KnowledgeError> {
        let batch = self.batch(epochs, progress, outbox)?;
        self.removed.set_prepared(true);
        let prepared = [&progress.commits.to_be_bytes(), batch.data()].concat();
        let mut write = WriteBatch::default();
        write.put_cf(self.family(Family::Meta)?, META_PREPARED, prepared);
        self.write(write)
    }

    /// Commits changes that are of no epoch of the stream, in an epoch of their own.
    pub fn amend(&self, changes: Vec<KnowledgeChange>) -> Result<(), KnowledgeError> {
        let mut progress = self.view().progress()?;
        progress.epoch = progress.next_epoch();
        progress.changes += changes.len() as u64;
        let changes = changes.into_iter().map(Effect::Change);
        let effects = EpochEffects::gather(progress.epoch, changes.collect());
        self.commit(&[effects], &progress, &OutboxWrite::default())
    }

    /// The number of the prepared commit, if there is one.
    pub fn prepared(&self) -> Result<Option<u64>, KnowledgeError> {
        Ok(self.prepared_write()?.map(|(number, _)| number))
    }

    /// Commits the prepared epochs. The write need not be durable at once: after a crash it is
    /// repeated from the prepared data.
    pub fn apply_prepared(&self) -> Result<(), KnowledgeError> {
        let Some((_, mut batch)) = self.prepared_write()? else {
            return Ok(());
        };
        batch.delete_cf(self.family(Family::Meta)?, META_PREPARED);
        self.write_soon(batch)?;
        self.removed.set_prepared(false);
        Ok(())
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

    pub(super) fn batch(
        &self,
        epochs: &[EpochEffects],
        progress: &Progress,
        outbox: &OutboxWrite,
    ) -> Result<WriteBatch, KnowledgeError> {
        self.removed.begin_commit();
        let mut writer = CommitWriter::new(self);
        let mut latest = epochs.iter().rev();
        writer.pending_floor = latest.find_map(|effects| effects.pending_floor);
        for effects in epochs {
            writer.epoch(effects)?;
        }
        writer.pending(epochs)?;
        writer.early_labels(epochs)?;
        writer.seen(epochs)?;
        writer.edges(epochs)?;
        writer.count_undefined(epochs)?;
        writer.topics(epochs)?;
        writer.refused(epochs)?;
        writer.outbox(outbox)?;
        writer.finish(progress)
    }
}

impl<'a> CommitWriter<'a> {
    fn new(kb: &'a KnowledgeBase) -> CommitWriter<'a> {
        CommitWriter {
            kb,
            batch: WriteBatch::default(),
            tasks: BTreeMap::new(),
            models: BTreeMap::new(),
            stages: BTreeMap::new(),
            adapters: BTreeMap::new(),
            detectors: BTreeMap::new(),
            reservoirs: BTreeMap::new(),
            added: BTreeMap::new(),
            reported: BTreeMap::new(),
            held: BTreeMap::new(),
            pending_floor: None,
            skipped: None,
        }
    }

    /// Adds the changes and the models of an epoch.
    fn epoch(&mut self, effects: &EpochEffects) -> Result<(), KnowledgeError> {
        self.log(effects)?;
        for change in &effects.changes {
            self.apply(effects.epoch, change)?;
        }
        self.store_models(effects)
    }

    /// Adds an epoch's changes to the log, in blocks.
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

    /// Applies a change of an epoch to the facts.
    fn apply(&mut self, epoch: Epoch, change: &KnowledgeChange) -> Result<(), KnowledgeError> {
        use KnowledgeChange::*;
        match change {
            ClustersFound(clusters) => self.put_meta(META_CLUSTERS, clusters),
            TaskDefined(definition) => self.define_task(epoch, definition),
            TaskPinned { task, pinned } => self.pin_task(*task, *pinned),
            FeaturesScaled { deviations } => self.put_meta(META_DEVIATIONS, deviations),
            StatisticsMoved(moved) => self.move_statistics(epoch, moved),
            AdapterMoved(moved) => self.move_adapter(moved),
            DriftMoved(moved) => self.move_detectors(moved),
            // The detectors contain the last drift.
            DriftDetected(_) => Ok(()),
            RelationScored(scored) => self.score_relation(scored),
            StageMoved(moved) => self.move_stage(epoch, moved),
            ModelTrained(trained) => self.add_model(epoch, trained),
            ModelEvaluated(evaluated) => self.evaluate_model(evaluated),
            ModelDeployed { model } => self.deploy_model(epoch, *model),
            ModelRetired { model } => self.retire_model(epoch, *model),
            ModelRolledBack { model, to } => self.roll_back_model(epoch, *model, *to),
            ModelPromoted { model } => self.promote_model(epoch, *model),
            MemoryBounded(bounded) => self.put_meta(META_MEMORY, bounded),
            SamplesRetained(retained) => self.retain_samples(retained),
            RecentMoved(moved) => self.move_recent(epoch, moved),
            CalibrationMoved(moved) => self.move_calibration(epoch, moved),
            ReferenceDrawn(reference) => self.put_meta(META_REFERENCE, reference),
            LabelsRequested(requested) => self.request_labels(requested),
            UnseenGrown(grown) => self.grow_unseen(grown),
            UnseenSettled(settled) => self.settle_unseen(settled),
            RegionsMoved(regions) => self.put_meta(META_REGIONS, regions),
            Followed {
                task,
                donor,
                revision,
            } => self.follow(*task, donor.as_deref(), revision),
            ModelDonated(donated) => self.donate_model(epoch, donated),
            TaskPseudonym(renamed) => self.rename_task(renamed),
            EdgeReport(reported) => self.add_report(reported),
            // The families were cleared before.
            Forgotten(_) => Ok(()),
            RecordsSkipped(skipped) => self.skip_records(skipped),
        }
    }

    fn put<T: Serialize + ?Sized>(
        &mut self,
        family: Family,
        key: &[u8],
        value: &T,
    ) -> Result<(), KnowledgeError> {
        self.kb.put(&mut self.batch, family, key, value)
    }

    fn put_meta<T: Serialize + ?Sized>(
        &mut self,
        key: &[u8],
        value: &T,
    ) -> Result<(), KnowledgeError> {
        self.put(Family::Meta, key, value)
    }

    /// Adds the collected records and the progress, and returns the whole write.
    fn finish(mut self, progress: &Progress) -> Result<WriteBatch, KnowledgeError> {
        for (task, record) in std::mem::take(&mut self.tasks) {
            self.put(Family::Tasks, &task_key(task), &record)?;
        }
        for (model, record) in std::mem::take(&mut self.models) {
            self.put(Family::Models, &model_key(model), &record)?;
        }
        for ((model, stage), record) in std::mem::take(&mut self.stages) {
            self.put(Family::Stages, &stage_key(model, stage), &record)?;
        }
        for ((edge, task), statistics) in std::mem::take(&mut self.reported) {
            let key = reported_key(&edge, task);
            self.put(Family::Reported, &key, &(edge, statistics))?;
        }
        for (task, adapter) in std::mem::take(&mut self.adapters) {
            self.put(Family::Adapters, &task_key(task), &adapter)?;
        }
        for (task, detectors) in std::mem::take(&mut self.detectors) {
            self.put(Family::Detectors, &task_key(task), &detectors)?;
        }
        for (task, classes) in std::mem::take(&mut self.reservoirs) {
            self.put(Family::Reservoirs, &task_key(task), &classes)?;
        }
        if let Some(skipped) = self.skipped.take() {
            self.put_meta(META_SKIPPED, &skipped)?;
        }
        let statistics = self.kb.family(Family::Statistics)?;
        for (task, added) in &self.added {
            let added = self.kb.encode(added)?;
            self.batch.merge_cf(statistics, task_key(*task), added);
        }
        self.put_meta(META_PROGRESS, progress)?;
        self.put_meta(META_OUTPUTS, &progress.files)?;
        Ok(self.batch)
    }
}
