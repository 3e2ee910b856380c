//! Reading: a consistent view of the committed facts.

use std::collections::BTreeMap;
use std::sync::Arc;

use perennial_operators::algorithms::adapter::Adapter;
use perennial_operators::algorithms::cluster::Clusters;
use perennial_operators::algorithms::drift::Detectors;
use perennial_operators::algorithms::recognize::{EpochScores, Reference};
use perennial_operators::algorithms::retain::class_of;
use perennial_operators::algorithms::unseen::{
    Entry, LabelRequest, Regions, RequestHistory, UnseenGroup,
};
use perennial_operators::flow::{
    EarlyLabel, KnowledgeChange, MessageOffset, RelationScored, Revision, StageKind,
};
use perennial_operators::{
    ClassRetained, Epoch, MemoryBounded, ModelId, RecentSamples, RetainedSample, SharedStatistics,
    TaskDefinition, TaskDifference, TaskId, TaskPseudonym, TaskScores, TopicPartition,
};
use rocksdb::{IteratorMode, ReadOptions, Snapshot};
use serde::de::DeserializeOwned;

use super::layout::{
    Family, META_ASKED, META_CLUSTERS, META_DEVIATIONS, META_MEMORY, META_OUTPUTS, META_PROGRESS,
    META_REFERENCE, META_REFUSED, META_REGIONS, META_SEEN, META_SKIPPED, META_TERMS, META_TOPICS,
    META_UNDEFINED, META_UNTRANSACTED, change_key, number_key, read_donor, read_epoch, read_model,
    read_number, read_relation, read_stage, read_task, read_task_epoch, task_key,
};
use super::records::{
    ModelRecord, Progress, Retained, ShareTerms, SharedRecord, SkippedTotal, StageRecord,
    TaskRecord,
};
use super::{KnowledgeBase, KnowledgeError};

/// The knowledge base at one commit, unaffected by later commits.
pub struct View<'a> {
    pub(super) kb: &'a KnowledgeBase,
    pub(super) snapshot: Snapshot<'a>,
}

impl<'a> View<'a> {
    pub(super) fn new(kb: &'a KnowledgeBase) -> Self {
        View {
            kb,
            snapshot: kb.db.snapshot(),
        }
    }

    /// The progress of the stream.
    pub fn progress(&self) -> Result<Progress, KnowledgeError> {
        let progress: Option<Progress> = self.get(Family::Meta, META_PROGRESS)?;
        let files = self.get(Family::Meta, META_OUTPUTS)?.unwrap_or_default();
        let missing = || self.kb.damaged(&"it has no record of its progress");
        Ok(Progress {
            files,
            ..progress.ok_or_else(missing)?
        })
    }

    /// Number of the last commit that was made without a transaction of Kafka; 0 if none was.
    pub fn untransacted(&self) -> Result<u64, KnowledgeError> {
        Ok(self
            .get(Family::Meta, META_UNTRANSACTED)?
            .unwrap_or_default())
    }

    /// Ids of the topics that the progress is of, by name.
    pub fn topics(&self) -> Result<BTreeMap<Arc<str>, String>, KnowledgeError> {
        Ok(self.get(Family::Meta, META_TOPICS)?.unwrap_or_default())
    }

    /// What was skipped of each partition, since it was deleted before it was read.
    pub fn skipped(&self) -> Result<BTreeMap<TopicPartition, SkippedTotal>, KnowledgeError> {
        Ok(self.get(Family::Meta, META_SKIPPED)?.unwrap_or_default())
    }

    /// The clusters of features, if tasks are defined by clusters and these have been found.
    pub fn clusters(&self) -> Result<Option<Arc<Clusters>>, KnowledgeError> {
        self.get(Family::Meta, META_CLUSTERS)
    }

    /// All tasks.
    pub fn tasks(&self) -> Result<BTreeMap<TaskId, TaskRecord>, KnowledgeError> {
        self.scan(Family::Tasks, &[], read_task)
    }

    /// One task.
    pub fn task(&self, task: TaskId) -> Result<Option<TaskRecord>, KnowledgeError> {
        self.get(Family::Tasks, &task_key(task))
    }

    /// Number of samples whose own task is not defined, since there are as many tasks as may be.
    pub fn undefined(&self) -> Result<u64, KnowledgeError> {
        Ok(self.get(Family::Meta, META_UNDEFINED)?.unwrap_or(0))
    }

    /// Unseen tasks with their labelled samples.
    pub fn unseen(&self) -> Result<Vec<Entry>, KnowledgeError> {
        let groups: BTreeMap<TaskId, UnseenGroup> = self.scan(Family::Unseen, &[], read_task)?;
        let entry = |(task, group)| {
            let mut held = Vec::new();
            self.each_of(Family::Held, &task_key(task), |value| {
                held.push(self.kb.decode(value)?);
                Ok(())
            })?;
            Ok(Entry { group, held })
        };
        groups.into_iter().map(entry).collect()
    }

    /// Aliases, each with the task that it stands for.
    pub fn aliases(&self) -> Result<BTreeMap<TaskId, TaskDefinition>, KnowledgeError> {
        self.scan(Family::Aliases, &[], read_task)
    }

    /// Regions of samples that resemble no known task.
    pub fn regions(&self) -> Result<Regions, KnowledgeError> {
        Ok(self.get(Family::Meta, META_REGIONS)?.unwrap_or_default())
    }

    /// Revisions from the cloud, by task and number of the donor's name; 0 for the task itself.
    pub fn revisions(&self) -> Result<BTreeMap<(TaskId, u64), Revision>, KnowledgeError> {
        self.scan(Family::Followed, &[], read_donor)
    }

    /// Changes to send, from the number `from` on: at most `bytes` bytes, but at least one change.
    pub fn outbox(&self, from: u64, bytes: usize) -> Result<Vec<(u64, Vec<u8>)>, KnowledgeError> {
        let (mut waiting, mut size) = (Vec::new(), 0);
        let mode = IteratorMode::From(&number_key(from), rocksdb::Direction::Forward);
        let family = self.kb.family(Family::Outbox)?;
        for entry in self.snapshot.iterator_cf(family, mode) {
            let (key, value) = entry.map_err(|error| self.kb.storage(&error))?;
            let number = read_number(&key).ok_or_else(|| self.bad_key(Family::Outbox))?;
            size += value.len();
            if size > bytes && !waiting.is_empty() {
                break;
            }
            waiting.push((number, value.into_vec()));
        }
        Ok(waiting)
    }

    /// Sizes of the changes to send in bytes, by number.
    pub fn outbox_sizes(&self) -> Result<BTreeMap<u64, u64>, KnowledgeError> {
        let mut sizes = BTreeMap::new();
        self.each(Family::Outbox, &[], |key, value| {
            let number = read_number(key).ok_or_else(|| self.bad_key(Family::Outbox))?;
            sizes.insert(number, value.len() as u64);
            Ok(())
        })?;
        Ok(sizes)
    }

    /// Calls `each` with the permanent records of changes for the cloud, from the number `from` on.
    pub fn shared_records(
        &self,
        from: u64,
        mut each: impl FnMut(u64, SharedRecord) -> Result<(), KnowledgeError>,
    ) -> Result<(), KnowledgeError> {
        self.each(Family::Departures, &number_key(from), |key, value| {
            let number = read_number(key).ok_or_else(|| self.bad_key(Family::Departures))?;
            each(number, self.kb.decode(value)?)
        })
    }

    /// All terms of sharing, oldest first.
    pub fn terms(&self) -> Result<Vec<ShareTerms>, KnowledgeError> {
        Ok(self.get(Family::Meta, META_TERMS)?.unwrap_or_default())
    }

    /// Pseudonyms of tasks, by the number of the pseudonym.
    pub fn pseudonyms(&self) -> Result<BTreeMap<TaskId, TaskPseudonym>, KnowledgeError> {
        self.scan(Family::Renamed, &[], read_task)
    }

    /// Statistics reported by edges, with the edges' names.
    pub fn reported(&self) -> Result<Vec<(String, SharedStatistics)>, KnowledgeError> {
        let values = self.values(Family::Reported)?;
        values.iter().map(|value| self.kb.decode(value)).collect()
    }

    /// Label requests by sequence number; some labels may have come already.
    pub fn requests(&self) -> Result<BTreeMap<u64, LabelRequest>, KnowledgeError> {
        self.scan(Family::Requests, &[], read_number)
    }

    /// The state of the label requests.
    pub fn asked(&self) -> Result<RequestHistory, KnowledgeError> {
        Ok(self.get(Family::Meta, META_ASKED)?.unwrap_or_default())
    }

    /// The totals of all tasks' statistics.
    pub fn statistics(&self) -> Result<BTreeMap<TaskId, TaskDifference>, KnowledgeError> {
        self.scan(Family::Statistics, &[], read_task)
    }

    /// The total of one task's statistics.
    pub fn statistics_of(&self, task: TaskId) -> Result<TaskDifference, KnowledgeError> {
        let found = self.get(Family::Statistics, &task_key(task))?;
        Ok(found.unwrap_or_default())
    }

    /// The scores in the totals of all tasks' statistics.
    pub fn scores(&self) -> Result<BTreeMap<TaskId, TaskScores>, KnowledgeError> {
        let mut found = BTreeMap::new();
        self.each(Family::Statistics, &[], |key, value| {
            let task = read_task(key).ok_or_else(|| self.bad_key(Family::Statistics))?;
            let total: TaskDifference = self.kb.decode(value)?;
            found.insert(task, total.scores());
            Ok(())
        })?;
        Ok(found)
    }

    /// The scores in all tasks' windows, by task and epoch.
    pub fn windows(&self) -> Result<BTreeMap<(TaskId, Epoch), TaskScores>, KnowledgeError> {
        self.scan(Family::Windows, &[], read_task_epoch)
    }

    /// The adapters of tasks.
    pub fn adapters(&self) -> Result<BTreeMap<TaskId, Arc<Adapter>>, KnowledgeError> {
        self.scan(Family::Adapters, &[], read_task)
    }

    /// The drift detectors of tasks.
    pub fn detectors(&self) -> Result<BTreeMap<TaskId, Arc<Detectors>>, KnowledgeError> {
        self.scan(Family::Detectors, &[], read_task)
    }

    /// Novelty scores of samples of known tasks, by epoch.
    pub fn calibration(&self) -> Result<BTreeMap<Epoch, EpochScores>, KnowledgeError> {
        self.scan(Family::Calibration, &[], read_epoch)
    }

    /// The reference of samples of known tasks; none before the first training of a base model.
    pub fn reference(&self) -> Result<Option<Arc<Reference>>, KnowledgeError> {
        self.get(Family::Meta, META_REFERENCE)
    }

    /// The latest labelled samples of finest tasks, by task and the epoch in which they became
    /// known.
    pub fn recents(&self) -> Result<BTreeMap<(TaskId, Epoch), RecentSamples>, KnowledgeError> {
        self.scan(Family::Recents, &[], read_task_epoch)
    }

    /// The standard deviation of each feature, once it is known.
    pub fn deviations(&self) -> Result<Option<Vec<f32>>, KnowledgeError> {
        self.get(Family::Meta, META_DEVIATIONS)
    }

    /// All models.
    pub fn models(&self) -> Result<BTreeMap<ModelId, ModelRecord>, KnowledgeError> {
        self.scan(Family::Models, &[], read_model)
    }

    /// The models of a task, the oldest first.
    pub fn models_of(&self, task: TaskId) -> Result<Vec<ModelRecord>, KnowledgeError> {
        let mut models = Vec::new();
        self.each_of(Family::Models, &task_key(task), |value| {
            models.push(self.kb.decode(value)?);
            Ok(())
        })?;
        Ok(models)
    }

    /// All stages, by model and stage.
    pub fn stages(&self) -> Result<BTreeMap<(ModelId, StageKind), StageRecord>, KnowledgeError> {
        self.scan(Family::Stages, &[], read_stage)
    }

    /// Transfer scores, by task and by the model's task.
    pub fn relations(&self) -> Result<BTreeMap<(TaskId, TaskId), RelationScored>, KnowledgeError> {
        self.scan(Family::Relations, &[], read_relation)
    }

    /// Calls `each` with every change of the epochs from `from` on, in order.
    pub fn changes(
        &self,
        from: Epoch,
        mut each: impl FnMut(Epoch, KnowledgeChange) -> Result<(), KnowledgeError>,
    ) -> Result<(), KnowledgeError> {
        self.each(Family::Changes, &change_key(from, 0), |key, value| {
            let epoch = read_epoch(key).ok_or_else(|| self.bad_key(Family::Changes))?;
            let mut rest = value;
            while !rest.is_empty() {
                let (change, remaining) =
                    postcard::take_from_bytes(rest).map_err(|error| self.kb.damaged(&error))?;
                each(epoch, change)?;
                rest = remaining;
            }
            Ok(())
        })
    }

    /// The latest labelled samples of a finest task, in the order of the stream.
    pub fn recents_of(&self, task: TaskId) -> Result<Vec<RetainedSample>, KnowledgeError> {
        let mut samples = Vec::new();
        self.each_of(Family::Recents, &task_key(task), |value| {
            let recent: RecentSamples = self.kb.decode(value)?;
            samples.extend(recent.each());
            Ok(())
        })?;
        Ok(samples)
    }

    /// Bounds of the retained samples; none before the first epoch.
    pub fn memory(&self) -> Result<Option<MemoryBounded>, KnowledgeError> {
        self.get(Family::Meta, META_MEMORY)
    }

    /// The retained samples of a finest task, in the order of the stream. The weight of each is the
    /// number of samples of its class that were seen for each retained one.
    pub fn samples_of(&self, task: TaskId) -> Result<Vec<RetainedSample>, KnowledgeError> {
        let mut samples: Vec<RetainedSample> = Vec::new();
        self.each_of(Family::Samples, &task_key(task), |value| {
            samples.push(self.kb.decode(value)?);
            Ok(())
        })?;
        let classes: Vec<ClassRetained> = self
            .get(Family::Reservoirs, &task_key(task))?
            .unwrap_or_default();
        let class = |sample: &RetainedSample| class_of(sample.label, classes.len());
        let mut retained = vec![0_u64; classes.len()];
        for sample in &samples {
            if let Some(count) = retained.get_mut(class(sample)) {
                *count += 1;
            }
        }
        for sample in &mut samples {
            let class = class(sample);
            if let (Some(all), Some(count)) = (classes.get(class), retained.get(class)) {
                sample.weight = (all.seen as f64 / *count as f64) as f32;
            }
        }
        Ok(samples)
    }

    /// What every task retains, without the content of samples.
    pub fn retained(&self) -> Result<BTreeMap<TaskId, Retained>, KnowledgeError> {
        let reservoirs = self.scan(Family::Reservoirs, &[], read_task)?;
        let with_classes = reservoirs.into_iter().map(|(task, classes)| {
            let samples = Vec::new();
            (task, Retained { classes, samples })
        });
        let mut tasks: BTreeMap<TaskId, Retained> = with_classes.collect();
        self.each(Family::Samples, &[], |key, value| {
            let task = read_task(key).ok_or_else(|| self.bad_key(Family::Samples))?;
            let sample: RetainedSample = self.kb.decode(value)?;
            let retained = tasks.entry(task).or_default();
            let class = class_of(sample.label, retained.classes.len());
            retained.samples.push((class, sample.sequence));
            Ok(())
        })?;
        Ok(tasks)
    }

    /// Pending samples, oldest first, as the join has serialized them.
    pub fn pending(&self) -> Result<Vec<Vec<u8>>, KnowledgeError> {
        self.values(Family::Pending)
    }

    /// Pending samples whose own labels have come, as the join has serialized them.
    pub fn released(&self) -> Result<Vec<Vec<u8>>, KnowledgeError> {
        self.values(Family::Released)
    }

    /// Labels that wait for their samples.
    pub fn early_labels(&self) -> Result<Vec<EarlyLabel>, KnowledgeError> {
        let values = self.values(Family::EarlyLabels)?;
        values.iter().map(|value| self.kb.decode(value)).collect()
    }

    /// Ids of the latest good samples, oldest first: number of the id, and of its record. There may
    /// be more than count as duplicates.
    pub fn seen(&self) -> Result<Vec<(u64, u64)>, KnowledgeError> {
        let mut seen = Vec::new();
        self.each_of(Family::Meta, META_SEEN, |value| {
            let ids: Vec<(u64, u64)> = self.kb.decode(value)?;
            seen.extend(ids);
            Ok(())
        })?;
        Ok(seen)
    }

    /// Refused messages of edges that a restart has to leave out.
    pub fn refused(&self) -> Result<Vec<MessageOffset>, KnowledgeError> {
        let mut refused = Vec::new();
        self.each_of(Family::Meta, META_REFUSED, |value| {
            refused.push(self.kb.decode(value)?);
            Ok(())
        })?;
        Ok(refused)
    }

    fn values(&self, family: Family) -> Result<Vec<Vec<u8>>, KnowledgeError> {
        let mut values = Vec::new();
        self.each(family, &[], |_, value| {
            values.push(value.to_vec());
            Ok(())
        })?;
        Ok(values)
    }

    pub(super) fn get<T: DeserializeOwned>(
        &self,
        family: Family,
        key: &[u8],
    ) -> Result<Option<T>, KnowledgeError> {
        let found = self
            .snapshot
            .get_cf(self.kb.family(family)?, key)
            .map_err(|error| self.kb.storage(&error))?;
        found.map(|bytes| self.kb.decode(&bytes)).transpose()
    }

    pub(super) fn scan<K: Ord, T: DeserializeOwned>(
        &self,
        family: Family,
        from: &[u8],
        read_key: impl Fn(&[u8]) -> Option<K>,
    ) -> Result<BTreeMap<K, T>, KnowledgeError> {
        let mut found = BTreeMap::new();
        self.each(family, from, |key, value| {
            let key = read_key(key).ok_or_else(|| self.bad_key(family))?;
            found.insert(key, self.kb.decode(value)?);
            Ok(())
        })?;
        Ok(found)
    }

    /// Calls `each` with the values of all keys that begin so.
    fn each_of(
        &self,
        family: Family,
        prefix: &[u8],
        mut each: impl FnMut(&[u8]) -> Result<(), KnowledgeError>,
    ) -> Result<(), KnowledgeError> {
        let mut options = ReadOptions::default();
        options.set_iterate_range(rocksdb::PrefixRange(prefix));
        let mode = IteratorMode::From(prefix, rocksdb::Direction::Forward);
        let family = self.kb.family(family)?;
        for entry in self.snapshot.iterator_cf_opt(family, options, mode) {
            let (_, value) = entry.map_err(|error| self.kb.storage(&error))?;
            each(&value)?;
        }
        Ok(())
    }

    pub(super) fn each(
        &self,
        family: Family,
        from: &[u8],
        mut each: impl FnMut(&[u8], &[u8]) -> Result<(), KnowledgeError>,
    ) -> Result<(), KnowledgeError> {
        let mode = IteratorMode::From(from, rocksdb::Direction::Forward);
        for entry in self.snapshot.iterator_cf(self.kb.family(family)?, mode) {
            let (key, value) = entry.map_err(|error| self.kb.storage(&error))?;
            each(&key, &value)?;
        }
        Ok(())
    }

    pub(super) fn bad_key(&self, family: Family) -> KnowledgeError {
        self.kb.damaged(&format!(
            "a key in column family {} cannot be read",
            family.name()
        ))
    }
}
