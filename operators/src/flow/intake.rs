//! Input of an epoch: its header, the workers' slices, and the bad records.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::dead_letter::DeadLetter;
use crate::algorithms::cluster::Clusters;
use crate::data::{Batch, Epoch, Offsets, OwnedRecord, TopicPartition};

/// Summary of what a source read for an epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Intake {
    /// Header of the epoch.
    pub header: EpochHeader,
    /// Number of records read.
    pub records: u64,
    /// Number of good samples among them.
    pub samples: u64,
    /// Number of good samples that belong to the bootstrap.
    pub bootstrapped: u64,
    /// Whether the stream ends with this epoch.
    pub ended: bool,
    /// Bad records.
    pub dead_letters: Vec<DeadLetter>,
    /// Offset to read next, for each partition that was read in this epoch.
    pub offsets: Offsets,
    /// Ids of the topics that offsets are of, where they are not those that are stored.
    pub topics: BTreeMap<Arc<str>, String>,
    /// Messages that were refused behind one that waits.
    pub refused: RefusedMessages,
    /// Labels that came before their samples and wait for them from this epoch on.
    pub early_labels: Vec<EarlyLabel>,
    /// Id numbers of earlier `early_labels` that wait no longer.
    pub settled_labels: Vec<u64>,
    /// Ids of the good samples, of sources that cannot be read again from their beginning.
    pub seen: SeenIds,
    /// Progress at each edge from which something was taken in.
    pub edges: BTreeMap<Arc<str>, EdgeProgress>,
    /// History of each edge whose history moved.
    pub histories: BTreeMap<Arc<str>, EdgeHistory>,
}

/// Refused messages that a restart would read again, since it resumes at an earlier message that
/// waits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedMessages {
    /// Messages that a restart has to leave out from now on.
    pub added: Vec<MessageOffset>,
    /// Messages that a restart would read no more.
    pub passed: Vec<MessageOffset>,
}

/// Place of a message.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MessageOffset {
    /// Its partition.
    pub partition: TopicPartition,
    /// Its offset there.
    pub offset: i64,
}

/// Ids of good samples, in which duplicates are found after a restart too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenIds {
    /// Number of each id, and of the record that had it, in the order of the samples.
    pub ids: Vec<(u64, u64)>,
    /// Number of good samples within which an id that comes again is a duplicate.
    pub within: u64,
}

/// Progress in taking in what an edge shares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeProgress {
    /// When the edge's knowledge base was created, microseconds since 1970 by the edge's clock. A
    /// new knowledge base starts its numbers anew.
    pub since: i64,
    /// Number of the next change to take in.
    pub next: u64,
    /// Samples of that change that are taken in already.
    pub rows: u64,
    /// Samples taken in so far.
    pub samples: u64,
    /// Samples that the edge has shed, by its last message.
    pub shed: u64,
    /// Latest event time of its samples, microseconds since 1970.
    pub time: i64,
    /// When the last message was sent, microseconds since 1970 by the edge's clock.
    pub sent: i64,
    /// Bytes of all messages taken in.
    pub bytes: u64,
}

/// History of an edge: the incarnations of its state that have shared something, and what was wrong
/// with what it shared. An incarnation is one opening of the state; those of a restored copy, or of
/// two copies in use, number their changes from the same change on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeHistory {
    /// Incarnations, the one that shared last at the end.
    pub incarnations: Vec<EdgeIncarnation>,
    /// The number up to which incarnations are forgotten.
    pub forgotten: u64,
    /// Event time up to which samples may have been taken in before, microseconds since 1970.
    pub until: i64,
    /// Number of times that changes were numbered anew from a change that was taken in before: the
    /// state is a restored copy, or two copies are in use.
    pub forks: u64,
    /// Number of times that the edge came with a new state.
    pub renewals: u64,
    /// Number of changes, at most, that the edge has sent and that never came.
    pub lost: u64,
    /// Number of samples that may have been taken in twice.
    pub repeated: u64,
    /// Number of samples, statistics and models that the edge may not share.
    pub refused: u64,
}

/// An incarnation of an edge's state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeIncarnation {
    /// Random id; 0 if the edge did not tell.
    pub id: u64,
    /// When the state was created, microseconds since 1970 by the edge's clock.
    pub since: i64,
    /// Number of the next change to take in, as of when another incarnation followed.
    pub next: u64,
    /// Samples of that change that are taken in already.
    pub rows: u64,
}

impl Intake {
    /// Adds the intake of another reader in the same epoch.
    pub fn merge(&mut self, other: Intake) {
        self.records += other.records;
        self.samples += other.samples;
        self.bootstrapped += other.bootstrapped;
        self.header.end = self.header.end.max(other.header.end);
        self.header.clock = self.header.clock.max(other.header.clock);
        self.ended &= other.ended;
        self.dead_letters.extend(other.dead_letters);
        self.dead_letters.sort();
        self.offsets.extend(other.offsets);
        self.topics.extend(other.topics);
        self.refused.added.extend(other.refused.added);
        self.refused.passed.extend(other.refused.passed);
        self.early_labels.extend(other.early_labels);
        self.settled_labels.extend(other.settled_labels);
        self.seen.ids.extend(other.seen.ids);
        self.edges.extend(other.edges);
        self.histories.extend(other.histories);
    }
}

/// A gap in what was read of a partition: the records to read next were deleted, and reading
/// resumed elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordsSkipped {
    /// The partition.
    pub place: TopicPartition,
    /// Offset of the record that was to be read next.
    pub from: i64,
    /// Offset at which reading resumed.
    pub to: i64,
    /// Whether the topic was deleted and made anew, so that `from` is an offset of the deleted one.
    pub is_remade: bool,
}

impl RecordsSkipped {
    /// Number of offsets skipped. It is not known of a topic made anew.
    pub fn offsets(&self) -> Option<u64> {
        let skipped = self.to.saturating_sub(self.from).max(0) as u64;
        (!self.is_remade).then_some(skipped)
    }
}

/// Position of an epoch relative to the bootstrap, the labelled head of the stream that trains the
/// first models and is not predicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// All samples belong to the bootstrap.
    Bootstrap,
    /// The last epoch of the bootstrap.
    BootstrapEnds,
    /// Samples are predicted first and learned from later.
    Live,
    /// The last epoch of the stream. It has no samples; the labels that are still due become known.
    Ended,
}

/// Facts of an epoch for every worker, whether it has samples of the epoch or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochHeader {
    /// The epoch.
    pub epoch: Epoch,
    /// Samples in the stream up to the end of this epoch, over all workers.
    pub end: u64,
    /// The stream's clock, microseconds since 1970: the latest event time so far in replay, the
    /// wall clock in live mode.
    pub clock: i64,
    /// Position relative to the bootstrap.
    pub phase: Phase,
}

/// The part of an epoch that one worker processes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Slice {
    /// Index of the worker.
    pub worker: usize,
    /// Header of the epoch.
    pub header: EpochHeader,
    /// The samples, possibly none.
    pub batch: Batch,
    /// Labels that arrived in the epoch, for samples up to this epoch on any worker: sequence
    /// numbers, ascending, and class numbers or numbers. Empty where samples carry their labels.
    pub labels: Arc<Vec<(u64, f32)>>,
    /// Clusters to allocate samples to, where the task tree has a level of clusters.
    pub clusters: Option<Arc<Clusters>>,
}

/// A label that came before its sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EarlyLabel {
    /// Number of the sample's id; see [`id_number`](crate::data::id_number).
    pub id: u64,
    /// The class number, or the number.
    pub label: f32,
    /// Good samples that had been read when it came.
    pub end: u64,
    /// The stream's clock when it came, microseconds since 1970.
    pub clock: i64,
    /// The record that it came in.
    pub message: OwnedRecord,
}
