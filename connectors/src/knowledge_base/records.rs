//! What the knowledge base stores of each kind of fact, beside the changes themselves.

use std::collections::BTreeMap;

use perennial_operators::flow::{
    EpochHeader, ModelDonated, ModelEvaluated, ModelTrained, StageState,
};
use perennial_operators::{ClassRetained, Epoch, Offsets, TaskDefinition};
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
    /// What was shared with the cloud, and what of it waits.
    pub outbox: OutboxProgress,
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

/// What was shared with the cloud, and what of it waits to be sent. Changes are numbered from 0 on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxProgress {
    /// The number of the next change.
    pub next: u64,
    /// Changes before this one have arrived, or were shed.
    pub sent: u64,
    /// Changes that wait.
    pub waiting: u64,
    /// Samples in them.
    pub samples: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Changes that were shed.
    pub shed: u64,
    /// Samples in these.
    pub shed_samples: u64,
    /// When something last arrived, microseconds since 1970.
    pub arrived: Option<i64>,
}

/// Under which terms something was shared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareTerms {
    /// To whom: the topic, and the brokers that have it.
    pub to: String,
    /// The fields of samples that left as they are.
    pub fields: Vec<String>,
    /// Those of which a pseudonym left.
    pub pseudonyms: Vec<String>,
    /// The fields that tasks are named by as they are.
    pub task_fields: Vec<String>,
    /// Those of which pseudonyms name them.
    pub task_pseudonyms: Vec<String>,
    /// Whether samples left.
    pub samples: bool,
    /// Whether statistics of tasks left.
    pub statistics: bool,
    /// Whether models left.
    pub models: bool,
}

impl ShareTerms {
    /// Whether what left under other terms may leave under these.
    pub fn allow(&self, other: &ShareTerms, departure: &Departure) -> bool {
        if departure.samples > 0 {
            let mine = (&*self.fields, &*self.pseudonyms);
            return self.samples && covers(mine, (&other.fields, &other.pseudonyms));
        }
        let mine = (&*self.task_fields, &*self.task_pseudonyms);
        covers(mine, (&other.task_fields, &other.task_pseudonyms))
            && (departure.statistics == 0 || self.statistics)
            && (departure.models == 0 || self.models)
    }
}

/// Whether fields that are shared, and those of which pseudonyms are, tell no less than others.
fn covers(
    (fields, pseudonyms): (&[String], &[String]),
    (other_fields, other_pseudonyms): (&[String], &[String]),
) -> bool {
    let is_shared = |name: &String| fields.contains(name);
    let mut other_pseudonyms = other_pseudonyms.iter();
    other_fields.iter().all(is_shared)
        && other_pseudonyms.all(|name| pseudonyms.contains(name) || is_shared(name))
}

/// What is remembered of a change that was to leave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Departure {
    /// The last epoch that it is of.
    pub epoch: Epoch,
    /// When it was committed, microseconds since 1970.
    pub time: i64,
    /// Samples in it.
    pub samples: u64,
    /// Tasks whose statistics are in it.
    pub statistics: u64,
    /// Models in it.
    pub models: u64,
    /// Its bytes.
    pub bytes: u64,
    /// The number of its terms.
    pub terms: u32,
    /// Why it was shed, if it was.
    pub shed: Option<Shedding>,
    /// Whether it had been sent by then, in vain as far as is known: it may have arrived.
    pub tried: bool,
}

/// Why a change was shed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shedding {
    /// There was no room for it.
    Room,
    /// No message of the link may be as large.
    Size,
    /// The policy lets it leave no longer.
    Policy,
}

/// What a commit does to the outbox.
#[derive(Clone, Debug, Default)]
pub struct OutboxWrite {
    /// Changes that are to leave: the number of each, what is remembered of it, and itself, unless it is shed.
    pub added: Vec<(u64, Departure, Option<Vec<u8>>)>,
    /// Changes that were added before, and are shed: why, and whether they had been sent.
    pub shed: Vec<(u64, Shedding, bool)>,
    /// Changes before this number wait no more.
    pub floor: Option<u64>,
    /// The terms of all that was ever shared, if there are new ones.
    pub terms: Option<Vec<ShareTerms>>,
}

/// A model that was trained elsewhere.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DonatedRecord {
    /// The epoch in which it was taken in.
    pub epoch: Epoch,
    /// The model; its ONNX bytes are stored under the hash.
    pub donated: ModelDonated,
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
    /// The epoch in which it was found that it may answer for all edges, where some had it first.
    pub promoted: Option<Epoch>,
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
