//! Retained and recent samples: the memory of a task.
//!
//! *Recent* samples are the latest ones: [neighbours](crate::algorithms::neighbours) are among
//! them. *Retained* samples are an even draw of all that were ever labelled, for training and
//! judging.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::epoch::Epoch;
use super::task::TaskId;

/// Change of a finest task's recent samples in one epoch.
///
/// Stored as [`KnowledgeChange::RecentMoved`](crate::flow::KnowledgeChange::RecentMoved).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecentMoved {
    /// The finest task.
    pub task: TaskId,
    /// The task above it; none for the base task.
    pub parent: Option<TaskId>,
    /// Samples that arrived; only the latest, where more arrived than the window holds.
    pub samples: Arc<RecentSamples>,
    /// Epochs whose samples leave the window.
    pub left: Vec<Epoch>,
}

/// Labelled samples of a task, column by column, in the order of the stream.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RecentSamples {
    /// Sequence numbers.
    pub sequences: Vec<u64>,
    /// Event times, microseconds since 1970-01-01 UTC.
    pub times: Vec<i64>,
    /// Labels: class numbers, or numbers.
    pub labels: Vec<f32>,
    /// Feature values, samples × features, row by row; NaN = missing.
    pub features: Vec<f32>,
}

impl RecentSamples {
    /// Number of features.
    pub fn width(&self) -> usize {
        self.features.len() / self.labels.len().max(1)
    }

    /// Iterates over the samples, each with a weight of 1.
    pub fn each(&self) -> impl Iterator<Item = RetainedSample> {
        let features = self.features.chunks_exact(self.width().max(1));
        let rows = self.sequences.iter().zip(&self.times).zip(&self.labels);
        rows.zip(features)
            .map(|(((sequence, time), label), features)| RetainedSample {
                sequence: *sequence,
                time: *time,
                label: *label,
                features: features.to_vec(),
                weight: RetainedSample::alone(),
            })
    }

    /// Appends samples that come later in the stream.
    pub fn append(&mut self, later: RecentSamples) {
        self.sequences.extend(later.sequences);
        self.times.extend(later.times);
        self.labels.extend(later.labels);
        self.features.extend(later.features);
    }

    /// Drops all samples but the latest `most`.
    pub fn keep_latest(&mut self, most: usize) {
        let (width, over) = (self.width(), self.labels.len().saturating_sub(most));
        self.sequences.drain(..over);
        self.times.drain(..over);
        self.labels.drain(..over);
        self.features.drain(..over * width);
    }
}

/// Bound on retained samples, as it changed.
///
/// Stored as [`KnowledgeChange::MemoryBounded`](crate::flow::KnowledgeChange::MemoryBounded).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryBounded {
    /// Most samples that a finest task may keep.
    pub samples_per_task: u64,
    /// Most bytes that the samples of all tasks may take.
    pub bytes: u64,
    /// Bytes that one sample counts; see [`RetainedSample::bytes`].
    pub sample_bytes: u64,
}

/// Change of a finest task's retained samples in one epoch.
///
/// Stored as [`KnowledgeChange::SamplesRetained`](crate::flow::KnowledgeChange::SamplesRetained).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SamplesRetained {
    /// The finest task.
    pub task: TaskId,
    /// Samples added, by sequence number.
    pub samples: Vec<RetainedSample>,
    /// Sequence numbers of the samples dropped.
    pub dropped: Vec<u64>,
    /// State of each class afterwards, by class number.
    pub classes: Vec<ClassRetained>,
}

/// Retained samples of one class of a task, compared with all that were seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassRetained {
    /// Labelled samples seen so far.
    pub seen: u64,
    /// Highest [priority](crate::data::priority) that is retained: no seen sample above it is, all
    /// others are. None if all seen samples are retained.
    pub limit: Option<u64>,
}

/// A labelled sample that is kept for training and judging.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RetainedSample {
    /// Sequence number.
    pub sequence: u64,
    /// Event time, microseconds since 1970-01-01 UTC.
    pub time: i64,
    /// Label: class number, or number.
    pub label: f32,
    /// Feature values; NaN = missing.
    pub features: Vec<f32>,
    /// Number of seen samples of its task and class that it stands for. Not stored: it is computed
    /// when all samples of the class are read.
    #[serde(skip, default = "RetainedSample::alone")]
    pub weight: f32,
}

impl RetainedSample {
    /// Bytes that a stored sample counts: an upper bound of what it takes, its key included.
    pub fn bytes(features: usize) -> u64 {
        48 + 4 * features as u64
    }

    /// The weight of a sample that stands for itself.
    fn alone() -> f32 {
        1.0
    }
}
