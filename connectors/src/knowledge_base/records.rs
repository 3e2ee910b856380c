//! What the knowledge base stores of each kind of fact, beside the changes themselves.

use std::collections::BTreeMap;

use perennial_operators::{
    ClassRetained, Epoch, EpochHeader, ModelEvaluated, ModelTrained, Offsets, StageState,
    TaskDefinition,
};
use serde::{Deserialize, Serialize};

/// Where a stream stands, committed with everything that it did up to there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The last committed epoch in which something was read; none before the first.
    pub header: Option<EpochHeader>,
    /// The last committed epoch: what a training yields can come after all that was read.
    pub epoch: Epoch,
    /// Records read, good and bad.
    pub records: u64,
    /// Good samples among them.
    pub samples: u64,
    /// Samples that belonged to the bootstrap.
    pub bootstrapped: u64,
    /// Bad records.
    pub dead_letters: u64,
    /// Predictions whose label will never be known.
    pub unlabelled: u64,
    /// Predictions of samples that were taken for those of unseen tasks.
    pub unseen: u64,
    /// Changes committed.
    pub changes: u64,
    /// Commits so far.
    pub commits: u64,
    /// Where to read on in topics.
    pub offsets: Offsets,
    /// Bytes of each output that are committed, by the output's name.
    pub outputs: BTreeMap<String, u64>,
    /// Seconds that runs worked on the stream.
    pub seconds: f64,
    /// Seconds of these until the first models answered.
    pub bootstrap_seconds: f64,
}

impl Progress {
    /// The last committed epoch; none before the first.
    pub fn last_epoch(&self) -> Option<Epoch> {
        self.header.map(|_| self.epoch)
    }

    /// The first epoch that is not committed.
    pub fn next_epoch(&self) -> Epoch {
        self.last_epoch().map_or(Epoch(0), Epoch::next)
    }
}

/// A task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskRecord {
    /// What the task is.
    pub definition: TaskDefinition,
    /// The epoch of its first sample.
    pub defined: Epoch,
    /// The version that answers for it, if it has a model of its own.
    pub deployed: Option<u32>,
    /// The epoch in which that last changed.
    pub moved: Option<Epoch>,
    /// Whether that is to stay so, whatever is learned.
    pub pinned: bool,
    /// The version that its last training was ordered for; 0 before the first.
    pub ordered: u32,
    /// Its labelled samples then.
    pub labelled_at_order: i64,
    /// The stream's clock then, microseconds since 1970.
    pub clock_at_order: i64,
}

/// A model that was trained, whether it was ever deployed or not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelRecord {
    /// How it was made; its ONNX bytes are stored under the hash if it was deployed.
    pub trained: ModelTrained,
    /// The epoch in which it was ready.
    pub epoch: Epoch,
    /// How it was judged.
    pub evaluated: Option<ModelEvaluated>,
    /// The epoch in which it was deployed; it answers from the next on.
    pub deployed: Option<Epoch>,
    /// The version that it replaced then; none if its task inherited.
    pub replaced: Option<u32>,
}

/// A stage of learning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageRecord {
    /// The states that it went through, each with its epoch.
    pub states: Vec<(StageState, Epoch)>,
    /// Labelled samples of the task when its trigger fired.
    pub labelled: i64,
    /// The stream's clock then, microseconds since 1970.
    pub clock: i64,
    /// What its first state said: the trigger's condition.
    pub reason: String,
    /// Whether it belongs to the initial training.
    pub initial: bool,
    /// Where drift gave the order, how many labels of the task had come since.
    pub recent: Option<u64>,
    /// What its latest state said.
    pub detail: String,
}

impl StageRecord {
    /// The state that it is in.
    pub fn state(&self) -> StageState {
        self.states
            .last()
            .map_or(StageState::Waiting, |(state, _)| *state)
    }
}

/// What a finest task retains.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Retained {
    /// How it stands to all there was, class by class.
    pub classes: Vec<ClassRetained>,
    /// Class and sequence number of each sample.
    pub samples: Vec<(usize, u64)>,
}
