//! Retained and recent samples: what the memory of a task holds.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::epoch::Epoch;
use super::task::TaskId;

/// See [`KnowledgeChange::RecentMoved`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecentMoved {
    /// The task.
    pub task: TaskId,
    /// The task above it.
    pub parent: Option<TaskId>,
    /// What came in, the latest of it.
    pub samples: Arc<RecentSamples>,
    /// The epochs whose samples are no longer among the recent ones.
    pub left: Vec<Epoch>,
}

/// Labelled samples of a task in the order of the stream.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RecentSamples {
    /// Their sequence numbers.
    pub sequences: Vec<u64>,
    /// Their event times, microseconds since 1970.
    pub times: Vec<i64>,
    /// Their class numbers, or numbers.
    pub labels: Vec<f32>,
    /// Their feature values, sample by sample; NaN = missing.
    pub features: Vec<f32>,
}

impl RecentSamples {
    /// Number of features.
    pub fn width(&self) -> usize {
        self.features.len() / self.labels.len().max(1)
    }

    /// Each sample on its own.
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

    /// Adds later samples.
    pub fn append(&mut self, later: RecentSamples) {
        self.sequences.extend(later.sequences);
        self.times.extend(later.times);
        self.labels.extend(later.labels);
        self.features.extend(later.features);
    }

    /// Drops all but the latest.
    pub fn keep_latest(&mut self, most: usize) {
        let (width, over) = (self.width(), self.labels.len().saturating_sub(most));
        self.sequences.drain(..over);
        self.times.drain(..over);
        self.labels.drain(..over);
        self.features.drain(..over * width);
    }
}

/// See [`KnowledgeChange::MemoryBounded`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryBounded {
    /// The most samples of a finest task.
    pub samples_per_task: u64,
    /// The most bytes of all samples.
    pub bytes: u64,
    /// What a sample counts, in bytes.
    pub sample_bytes: u64,
}

/// See [`KnowledgeChange::SamplesRetained`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SamplesRetained {
    /// The finest task of the samples.
    pub task: TaskId,
    /// Those that came in, by sequence number.
    pub samples: Vec<RetainedSample>,
    /// The sequence numbers of those that left.
    pub dropped: Vec<u64>,
    /// How it then stands, class by class.
    pub classes: Vec<ClassRetained>,
}

/// How the retained samples of one class of a task stand to all there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassRetained {
    /// Labelled samples that there were.
    pub seen: u64,
    /// Of those, the ones up to this [priority](super::hash::priority) are retained; none if all are.
    pub limit: Option<u64>,
}

/// A labelled sample that is kept for training and judging.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RetainedSample {
    /// Its sequence number in the stream.
    pub sequence: u64,
    /// Its event time, microseconds since 1970.
    pub time: i64,
    /// Its class number, or its number.
    pub label: f32,
    /// Its feature values, NaN = missing.
    pub features: Vec<f32>,
    /// How many samples of its task and class it stands for. It is not stored: it is known when all of them are read.
    #[serde(skip, default = "RetainedSample::alone")]
    pub weight: f32,
}

impl RetainedSample {
    /// What a sample counts where their bytes are bounded: never less than it takes, its key included.
    pub fn bytes(features: usize) -> u64 {
        48 + 4 * features as u64
    }

    /// The weight of a sample that stands for itself.
    fn alone() -> f32 {
        1.0
    }
}
