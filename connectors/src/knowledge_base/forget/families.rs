//! The families of facts, without those of forgotten tasks.

use std::collections::BTreeSet;
use std::sync::Arc;

use perennial_operators::algorithms::unseen::{
    HeldSample, LabelRequest, Regions, RequestHistory, UnseenGroup,
};
use perennial_operators::flow::{KnowledgeChange, forget_waiting, is_held_forgotten};
use perennial_operators::{
    Epoch, Erasure, SharedStatistics, TaskDefinition, TaskId, TaskPseudonym,
};
use rocksdb::{IteratorMode, WriteBatch};
use serde::de::DeserializeOwned;

use super::BATCH;
use crate::knowledge_base::layout::{
    DONOR_KEY, Family, META_ASKED, META_REFERENCE, META_REGIONS, read_donor, read_relation,
    read_task,
};
use crate::knowledge_base::records::{DonatedRecord, ModelRecord, StageRecord, TaskRecord};
use crate::knowledge_base::{KnowledgeBase, KnowledgeError};

/// What was cleared.
#[derive(Default)]
pub(super) struct Cleared {
    /// Number of tasks.
    pub tasks: u64,
    /// Number of their retained samples.
    pub samples: u64,
    /// Number of samples that wait for their labels no longer.
    pub waited: u64,
    /// The regions that are left, if there ever were any.
    pub regions: Option<Regions>,
}

/// What becomes of a value.
enum Fate {
    Same,
    Changed(Vec<u8>),
    Removed,
}

impl Fate {
    fn unless(is_forgotten: bool) -> Fate {
        if is_forgotten {
            Fate::Removed
        } else {
            Fate::Same
        }
    }
}

/// Families whose keys begin with the task that the value is about.
const BY_TASK: [Family; 10] = [
    Family::Followed,
    Family::Statistics,
    Family::Windows,
    Family::Adapters,
    Family::Detectors,
    Family::Recents,
    Family::Samples,
    Family::Reservoirs,
    Family::Models,
    Family::Tasks,
];

impl KnowledgeBase {
    /// Removes what is forgotten from all families but the record of changes.
    pub(super) fn forget_families(&self, erasure: &Erasure) -> Result<Cleared, KnowledgeError> {
        let mut cleared = Cleared::default();
        self.forget_meta(erasure, &mut cleared)?;
        self.forget_waiting(erasure, &mut cleared)?;
        self.forget_unseen(erasure)?;
        self.forget_shared(erasure)?;
        self.forget_models(erasure)?;
        self.rewrite(Family::Relations, |key, _| {
            let tasks = read_relation(key).ok_or_else(|| self.bad(Family::Relations))?;
            let is_gone = |task| erasure.tasks.contains(&task);
            Ok(Fate::unless(is_gone(tasks.0) || is_gone(tasks.1)))
        })?;
        // Tasks come last: as long as they are there, the rest can be found again.
        for family in BY_TASK {
            let removed = self.rewrite(family, |key, _| {
                let task = read_task(key).ok_or_else(|| self.bad(family))?;
                Ok(Fate::unless(erasure.tasks.contains(&task)))
            })?;
            match family {
                Family::Samples => cleared.samples = removed,
                Family::Tasks => cleared.tasks = removed,
                _ => {}
            }
        }
        Ok(cleared)
    }

    /// Removes the reference and outliers, which have samples of any task.
    fn forget_meta(&self, erasure: &Erasure, cleared: &mut Cleared) -> Result<(), KnowledgeError> {
        let mut batch = WriteBatch::default();
        batch.delete_cf(self.family(Family::Meta)?, META_REFERENCE);
        if let Some(mut regions) = self.get::<Regions>(Family::Meta, META_REGIONS)? {
            regions.forget(erasure);
            self.put(&mut batch, Family::Meta, META_REGIONS, &regions)?;
            cleared.regions = Some(regions);
        }
        if let Some(mut asked) = self.get::<RequestHistory>(Family::Meta, META_ASKED)? {
            asked.forget(erasure);
            self.put(&mut batch, Family::Meta, META_ASKED, &asked)?;
        }
        self.write(batch)
    }

    /// Removes samples that wait for their labels, and requests for these.
    fn forget_waiting(
        &self,
        erasure: &Erasure,
        cleared: &mut Cleared,
    ) -> Result<(), KnowledgeError> {
        self.rewrite(Family::Pending, |_, value| {
            let left = forget_waiting(value, erasure).map_err(|error| self.damaged(&error))?;
            Ok(match left {
                None => Fate::Same,
                Some(left) => {
                    cleared.waited += left.forgotten;
                    left.bytes.map_or(Fate::Removed, Fate::Changed)
                }
            })
        })?;
        self.rewrite_decoded(Family::Requests, |request: LabelRequest| {
            request.is_forgotten(erasure)
        })
    }

    /// Removes unseen tasks with their held labels, and aliases.
    fn forget_unseen(&self, erasure: &Erasure) -> Result<(), KnowledgeError> {
        self.rewrite(Family::Held, |key, value| {
            let group = read_task(key).ok_or_else(|| self.bad(Family::Held))?;
            let held: HeldSample = self.decode(value)?;
            let is_forgotten = is_held_forgotten(&held, erasure);
            let is_forgotten = is_forgotten.map_err(|error| self.damaged(&error))?;
            Ok(Fate::unless(is_forgotten || erasure.tasks.contains(&group)))
        })?;
        self.rewrite_decoded(Family::Unseen, |group: UnseenGroup| {
            erasure.covers_path(&group.path.nodes)
        })?;
        self.rewrite(Family::Aliases, |key, value| {
            let task = read_task(key).ok_or_else(|| self.bad(Family::Aliases))?;
            let of: TaskDefinition = self.decode(value)?;
            Ok(Fate::unless(
                erasure.tasks.contains(&task) || erasure.covers(&of),
            ))
        })?;
        Ok(())
    }

    /// Removes pseudonyms, what edges reported, and donated models.
    fn forget_shared(&self, erasure: &Erasure) -> Result<(), KnowledgeError> {
        self.rewrite_decoded(Family::Renamed, |named: TaskPseudonym| {
            erasure.covers(&named.here)
        })?;
        self.rewrite_decoded(Family::Reported, |(_, of): (Arc<str>, SharedStatistics)| {
            erasure.covers(&of.task)
        })
    }

    /// Removes donated models, the bytes of models that no other task has, and stages; takes names
    /// out of the stages of other tasks. The records of models go later, with the tasks.
    fn forget_models(&self, erasure: &Erasure) -> Result<(), KnowledgeError> {
        let (mut gone, mut left) = (BTreeSet::new(), BTreeSet::new());
        self.rewrite(Family::Donated, |_, value| {
            let record: DonatedRecord = self.decode(value)?;
            let is_forgotten = erasure.covers_path(&record.donated.path);
            let hashes = if is_forgotten { &mut gone } else { &mut left };
            hashes.insert(record.donated.trained.hash);
            Ok(Fate::unless(is_forgotten))
        })?;
        self.rewrite(Family::Models, |key, value| {
            let record: ModelRecord = self.decode(value)?;
            let task = read_task(key).ok_or_else(|| self.bad(Family::Models))?;
            let is_forgotten = erasure.tasks.contains(&task);
            let hashes = if is_forgotten { &mut gone } else { &mut left };
            hashes.insert(record.trained.hash);
            Ok(Fate::Same)
        })?;
        let mut batch = WriteBatch::default();
        let family = self.family(Family::Onnx)?;
        for hash in gone.difference(&left) {
            batch.delete_cf(family, hash.as_bytes());
        }
        self.write(batch)?;
        // Donated models have keys that begin with their tasks.
        self.rewrite(Family::Onnx, |key, _| {
            let donated = read_donor(key).filter(|_| key.len() == DONOR_KEY);
            Ok(Fate::unless(
                donated.is_some_and(|(task, _)| erasure.tasks.contains(&task)),
            ))
        })?;
        self.rewrite(Family::Stages, |key, value| {
            let task = read_task(key).ok_or_else(|| self.bad(Family::Stages))?;
            if erasure.tasks.contains(&task) {
                return Ok(Fate::Removed);
            }
            let mut record: StageRecord = self.decode(value)?;
            let detail = erasure.redact(&record.detail);
            let reason = erasure.redact(&record.reason);
            if detail.is_none() && reason.is_none() {
                return Ok(Fate::Same);
            }
            record.detail = detail.unwrap_or(record.detail);
            record.reason = reason.unwrap_or(record.reason);
            Ok(Fate::Changed(self.encode(&record)?))
        })?;
        Ok(())
    }

    /// Removes the values of a family that are forgotten.
    fn rewrite_decoded<T: DeserializeOwned>(
        &self,
        family: Family,
        mut is_forgotten: impl FnMut(T) -> bool,
    ) -> Result<(), KnowledgeError> {
        self.rewrite(family, |_, value| {
            Ok(Fate::unless(is_forgotten(self.decode(value)?)))
        })?;
        Ok(())
    }

    /// Rewrites the values of a family; returns how many were removed.
    fn rewrite(
        &self,
        family: Family,
        mut decide: impl FnMut(&[u8], &[u8]) -> Result<Fate, KnowledgeError>,
    ) -> Result<u64, KnowledgeError> {
        let family = self.family(family)?;
        let (mut batch, mut removed) = (WriteBatch::default(), 0);
        for entry in self.db.iterator_cf(family, IteratorMode::Start) {
            let (key, value) = entry.map_err(|error| self.storage(&error))?;
            match decide(&key, &value)? {
                Fate::Same => {}
                Fate::Changed(value) => batch.put_cf(family, &key, value),
                Fate::Removed => {
                    removed += 1;
                    batch.delete_cf(family, &key);
                }
            }
            if batch.size_in_bytes() >= BATCH {
                self.write(std::mem::take(&mut batch))?;
            }
        }
        self.write(batch)?;
        Ok(removed)
    }

    fn bad(&self, family: Family) -> KnowledgeError {
        let name = family.name();
        self.damaged(&format!("a key in column family {name} cannot be read"))
    }
}

impl KnowledgeBase {
    /// Adds the tasks that an erasure covers by its names or its site: defined and unseen ones,
    /// aliases, and those that edges reported or donated models of.
    pub fn complete_erasure(&self, mut erasure: Erasure) -> Result<Erasure, KnowledgeError> {
        let view = self.view();
        let mut known: Vec<TaskDefinition> = Vec::new();
        let tasks = view.tasks()?.into_values();
        known.extend(tasks.map(|record: TaskRecord| record.definition));
        for entry in view.unseen()? {
            known.extend(entry.group.path.nodes);
        }
        known.extend(view.reported()?.into_iter().map(|(_, of)| of.task));
        known.extend(view.pseudonyms()?.into_values().map(|named| named.here));
        for record in view.donated()?.into_values() {
            known.extend(record.donated.path);
        }
        // The name of an alias is in the record of changes alone.
        view.changes(Epoch(0), |_, change| {
            if let KnowledgeChange::UnseenSettled(settled) = change {
                known.push(settled.task);
            }
            Ok(())
        })?;
        for task in known {
            if task.task != TaskId::BASE && erasure.covers(&task) {
                erasure.add(&task);
            }
        }
        Ok(erasure)
    }
}
