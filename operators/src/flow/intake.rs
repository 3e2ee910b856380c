//! Input of an epoch: its header, its slices for the workers, and its bad records.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::algorithms::cluster::Clusters;
use crate::data::{Batch, Epoch, Offsets, OwnedRecord};

/// What a source read for an epoch, good or bad.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Intake {
    /// The epoch.
    pub header: EpochHeader,
    /// Records read.
    pub records: u64,
    /// Good samples among them.
    pub samples: u64,
    /// Good samples that belonged to the bootstrap.
    pub bootstrapped: u64,
    /// Whether the stream has ended with this epoch.
    pub ended: bool,
    /// The epoch's bad records.
    pub dead_letters: Vec<DeadLetter>,
    /// Where reading goes on after this epoch, for the partitions that it moved on in.
    pub offsets: Offsets,
    /// Labels that came before their samples and wait on from this epoch.
    pub early_labels: Vec<EarlyLabel>,
    /// Earlier ones that wait no more, by the numbers of their ids.
    pub settled_labels: Vec<u64>,
    /// How far what edges share was taken in, for those of which something was.
    pub edges: BTreeMap<Arc<str>, EdgeProgress>,
}

/// How far what an edge shares was taken in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeProgress {
    /// When the edge's knowledge base was made, microseconds since 1970 by its clock: one that is made anew counts anew.
    pub since: i64,
    /// The number of the next change to take in.
    pub next: u64,
    /// Samples of that one that were taken in.
    pub rows: u64,
    /// Samples taken in so far.
    pub samples: u64,
    /// Samples that the edge has shed, as it last said.
    pub shed: u64,
    /// The latest event time of its samples, microseconds since 1970.
    pub time: i64,
    /// When it sent what was last taken in, microseconds since 1970 by its clock.
    pub sent: i64,
    /// Bytes of the messages that were taken in.
    pub bytes: u64,
}

impl Intake {
    /// Adds what another reader read in the same epoch.
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
        self.early_labels.extend(other.early_labels);
        self.settled_labels.extend(other.settled_labels);
        self.edges.extend(other.edges);
    }
}

/// Where an epoch stands relative to the bootstrap, the labelled head of the stream that trains the
/// first models and is not scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// All samples of the epoch belong to the bootstrap.
    Bootstrap,
    /// The same, and it is the bootstrap's last epoch.
    BootstrapEnds,
    /// Samples are predicted first and learned from later.
    Live,
    /// An epoch without samples that closes the stream: labels that were still to come are known now.
    Ended,
}

/// What every worker knows of an epoch, whether it holds samples of it or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochHeader {
    /// Which epoch.
    pub epoch: Epoch,
    /// How many samples the whole stream had after this epoch, over all workers.
    pub end: u64,
    /// The stream's clock, microseconds since 1970: the latest event time so far in replay, the
    /// wall clock in live mode.
    pub clock: i64,
    /// Bootstrap or scored.
    pub phase: Phase,
}

/// One worker's share of an epoch.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Slice {
    /// The worker that it is for.
    pub worker: usize,
    /// The epoch that it is of.
    pub header: EpochHeader,
    /// The samples, possibly none.
    pub batch: Batch,
    /// Labels of earlier samples or of this epoch's, on any worker: sequence numbers, ascending, and class
    /// numbers, or numbers. Empty when samples carry their labels.
    pub labels: Arc<Vec<(u64, f32)>>,
    /// The clusters that samples are allocated to, where the task tree has a level of them.
    pub clusters: Option<Arc<Clusters>>,
}

/// A record that could not be used, with the reason. It goes to the dead letters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Where it came from: a file, a topic.
    pub source: String,
    /// Its number there, from 1: the line of a text file, the row of a table.
    pub record: u64,
    /// What is wrong with it, in one sentence.
    pub reason: String,
    /// The record as it came, cut after some kilobytes.
    pub content: String,
    /// All of the record, when it came from a broker. A file of dead letters shows the excerpt.
    #[serde(skip)]
    pub message: Option<Box<OwnedRecord>>,
}

/// A label that came before its sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EarlyLabel {
    /// The number that stands for the sample's id; see [`id_number`].
    pub id: u64,
    /// The class number, or the number.
    pub label: f32,
    /// Good samples that were read before it came.
    pub end: u64,
    /// The stream's clock when it came, microseconds since 1970.
    pub clock: i64,
    /// The record that brought it.
    pub message: OwnedRecord,
}
