//! Records of the knowledge base for each kind of fact.

use std::collections::BTreeMap;
use std::path::Path;

use perennial_operators::flow::{
    EpochHeader, ModelDonated, ModelEvaluated, ModelTrained, RecordsSkipped, StageState,
};
use perennial_operators::{ClassRetained, Epoch, Offsets, TaskDefinition, TopicPartition};
use serde::{Deserialize, Serialize};

use crate::files::OutputFile;

/// The progress of a stream, committed with all effects up to it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The last committed epoch with input; none before the first.
    pub header: Option<EpochHeader>,
    /// The last committed epoch, which can be later: a training may end after all input.
    pub epoch: Epoch,
    /// Records read, good and bad.
    pub records: u64,
    /// Good samples among them.
    pub samples: u64,
    /// Samples of the bootstrap.
    pub bootstrapped: u64,
    /// Bad records.
    pub dead_letters: u64,
    /// Predictions whose label will never be known.
    pub unlabelled: u64,
    /// Predictions of samples that were taken for unseen.
    pub unseen: u64,
    /// Changes committed.
    pub changes: u64,
    /// Commits so far.
    pub commits: u64,
    /// Where reading resumes in topics.
    pub offsets: Offsets,
    /// The outbox to the cloud.
    pub outbox: OutboxProgress,
    /// Committed length of each output, by the output's name. Only earlier versions read it, which
    /// know no `files`.
    pub outputs: BTreeMap<String, u64>,
    /// The committed file of each output, by the output's name. It is stored under a key of its
    /// own, so that states of earlier versions can be read.
    #[serde(skip)]
    pub files: BTreeMap<String, OutputFile>,
    /// Seconds of all runs on the stream.
    pub seconds: f64,
    /// Seconds until the first models were deployed.
    pub bootstrap_seconds: f64,
}

impl Progress {
    /// The last committed epoch; none before the first.
    pub fn last_epoch(&self) -> Option<Epoch> {
        self.header.map(|_| self.epoch)
    }

    /// Adds the file of an output, by the output's name.
    pub fn add_file(&mut self, name: String, file: OutputFile) {
        self.outputs.insert(name.clone(), file.length);
        self.files.insert(name, file);
    }

    /// The committed file of the output `name` at `path`. Of a state of an earlier version only its
    /// length is known; for Parquet, that is the number of parts.
    pub fn file(&self, name: &str, path: &Path, is_parquet: bool) -> Option<OutputFile> {
        if let Some(file) = self.files.get(name) {
            return Some(file.clone());
        }
        let length = *self.outputs.get(name)?;
        Some(if is_parquet {
            OutputFile {
                number: length,
                ..OutputFile::trusted(path, 0)
            }
        } else {
            OutputFile::trusted(path, length)
        })
    }

    /// The first epoch that is not committed.
    pub fn next_epoch(&self) -> Epoch {
        self.last_epoch().map_or(Epoch(0), Epoch::next)
    }
}

/// What was skipped of a partition, since it was deleted before it was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkippedTotal {
    /// How often records were skipped.
    pub times: u64,
    /// Number of offsets skipped, without those of topics made anew.
    pub offsets: u64,
    /// The last time.
    pub last: RecordsSkipped,
}

impl SkippedTotal {
    /// Adds to the total of the partition.
    pub(super) fn add(
        totals: &mut BTreeMap<TopicPartition, SkippedTotal>,
        skipped: &RecordsSkipped,
    ) {
        let none = SkippedTotal {
            times: 0,
            offsets: 0,
            last: skipped.clone(),
        };
        let total = totals.entry(skipped.place.clone()).or_insert(none);
        total.times += 1;
        total.offsets += skipped.offsets().unwrap_or_default();
        total.last = skipped.clone();
    }
}

/// The state of the outbox to the cloud. Changes are numbered from 0 on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxProgress {
    /// The number of the next change.
    pub next: u64,
    /// The number before which all changes have arrived or were shed.
    pub sent: u64,
    /// Changes that wait to be sent.
    pub waiting: u64,
    /// Samples in waiting changes.
    pub samples: u64,
    /// Bytes of waiting changes.
    pub bytes: u64,
    /// Changes that were shed.
    pub shed: u64,
    /// Samples in shed changes.
    pub shed_samples: u64,
    /// When a change last arrived, microseconds since 1970.
    pub arrived: Option<i64>,
}

/// The terms under which changes are shared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareTerms {
    /// The receiver: the topic and its brokers.
    pub to: String,
    /// Fields of samples that are shared as they are.
    pub fields: Vec<String>,
    /// Fields of samples that are shared as pseudonyms.
    pub pseudonyms: Vec<String>,
    /// Fields that names of tasks contain as they are.
    pub task_fields: Vec<String>,
    /// Fields that names of tasks contain as pseudonyms.
    pub task_pseudonyms: Vec<String>,
    /// Whether samples are shared.
    pub samples: bool,
    /// Whether statistics of tasks are shared.
    pub statistics: bool,
    /// Whether models are shared.
    pub models: bool,
}

impl ShareTerms {
    /// Whether a change that was prepared under other terms may be shared under these.
    pub fn allow(&self, other: &ShareTerms, record: &SharedRecord) -> bool {
        if record.samples > 0 {
            let mine = (&*self.fields, &*self.pseudonyms);
            return self.samples && covers(mine, (&other.fields, &other.pseudonyms));
        }
        let mine = (&*self.task_fields, &*self.task_pseudonyms);
        covers(mine, (&other.task_fields, &other.task_pseudonyms))
            && (record.statistics == 0 || self.statistics)
            && (record.models == 0 || self.models)
    }
}

/// Whether shared fields, as they are and as pseudonyms, include all that the other terms share.
fn covers(
    (fields, pseudonyms): (&[String], &[String]),
    (other_fields, other_pseudonyms): (&[String], &[String]),
) -> bool {
    let is_shared = |name: &String| fields.contains(name);
    let mut other_pseudonyms = other_pseudonyms.iter();
    other_fields.iter().all(is_shared)
        && other_pseudonyms.all(|name| pseudonyms.contains(name) || is_shared(name))
}

/// The permanent record of a change for the cloud.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedRecord {
    /// The last epoch of the change.
    pub epoch: Epoch,
    /// When the change was committed, microseconds since 1970.
    pub time: i64,
    /// Number of samples in it.
    pub samples: u64,
    /// Number of tasks with statistics in it.
    pub statistics: u64,
    /// Number of models in it.
    pub models: u64,
    /// Size in bytes.
    pub bytes: u64,
    /// Index of its terms in [`View::terms`](super::View::terms).
    pub terms: u32,
    /// Why it was shed, if it was.
    pub shed: Option<ShedReason>,
    /// Whether it was sent before it was shed, without a confirmation: it may have arrived.
    pub tried: bool,
}

/// Why a change was shed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShedReason {
    /// The outbox had no room for it.
    Room,
    /// It is larger than a message of the link may be.
    Size,
    /// The policy no longer allows to share it.
    Policy,
}

/// Changes of a commit to the outbox.
#[derive(Clone, Debug, Default)]
pub struct OutboxWrite {
    /// New changes: number, permanent record, and the bytes of the change unless it is shed.
    pub added: Vec<(u64, SharedRecord, Option<Vec<u8>>)>,
    /// Earlier changes that are shed: number, reason, and whether they were sent.
    pub shed: Vec<(u64, ShedReason, bool)>,
    /// The number before which changes wait no more.
    pub floor: Option<u64>,
    /// All terms of sharing, if there are new ones.
    pub terms: Option<Vec<ShareTerms>>,
    /// The incarnations that made the changes that wait, if there is a new one.
    pub incarnations: Option<Vec<Incarnation>>,
}

/// An incarnation of an edge's state: one opening of it, in which it made changes for the cloud.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incarnation {
    /// Number of its first change.
    pub first: u64,
    /// Random id.
    pub id: u64,
}

/// A model of a donor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DonatedRecord {
    /// The epoch in which it arrived.
    pub epoch: Epoch,
    /// The model; its ONNX bytes are stored under the hash.
    pub donated: ModelDonated,
}

/// A task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskRecord {
    /// The definition of the task.
    pub definition: TaskDefinition,
    /// The epoch of its first sample.
    pub defined: Epoch,
    /// The version of the deployed model, if the task has one of its own.
    pub deployed: Option<u32>,
    /// The epoch in which `deployed` last changed.
    pub moved: Option<Epoch>,
    /// Whether `deployed` is pinned, so that no training changes it.
    pub pinned: bool,
    /// The version of its last ordered training; 0 before the first.
    pub ordered: u32,
    /// Its labelled samples at that order.
    pub labelled_at_order: i64,
    /// The stream's clock at that order, microseconds since 1970.
    pub clock_at_order: i64,
}

/// A trained model, deployed or not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelRecord {
    /// How it was trained. Its ONNX bytes are stored under the hash if it was deployed.
    pub trained: ModelTrained,
    /// The epoch in which its training ended.
    pub epoch: Epoch,
    /// Its evaluation.
    pub evaluated: Option<ModelEvaluated>,
    /// The epoch in which it was deployed; it predicts from the next one on.
    pub deployed: Option<Epoch>,
    /// The version that it replaced then; none if its task inherited before.
    pub replaced: Option<u32>,
    /// The epoch in which it was promoted from some edges (canaries) to all.
    pub promoted: Option<Epoch>,
}

/// A stage of learning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageRecord {
    /// Its states, each with its epoch.
    pub states: Vec<(StageState, Epoch)>,
    /// Labelled samples of the task when its trigger fired.
    pub labelled: i64,
    /// The stream's clock when its trigger fired, microseconds since 1970.
    pub clock: i64,
    /// The detail of its first state: the trigger's condition.
    pub reason: String,
    /// Whether it belongs to the initial training.
    pub initial: bool,
    /// Number of labels of the task since the drift, if drift gave the order.
    pub recent: Option<u64>,
    /// The detail of its latest state.
    pub detail: String,
}

impl StageRecord {
    /// Its latest state.
    pub fn state(&self) -> StageState {
        self.states
            .last()
            .map_or(StageState::Waiting, |(state, _)| *state)
    }
}

/// What a finest task retains.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Retained {
    /// Numbers of retained samples and of all samples, class by class.
    pub classes: Vec<ClassRetained>,
    /// Class and sequence number of each retained sample.
    pub samples: Vec<(usize, u64)>,
}
