//! The link between the cloud and the edges. The cloud publishes what it knows on a compacted
//! topic, which keeps the latest message of each task; edges send what they share on a topic keyed
//! by edge.

mod changes;
mod envelope;
mod keys;
mod metered;
mod notice;
mod producer;
mod publish;
mod read_back;
mod send;
mod store;
mod subscribe;
mod topic;

pub use ed25519_dalek::{SigningKey, VerifyingKey};
use perennial_operators::flow::{ModelEvaluated, ModelTrained, Revision};
use perennial_operators::{ModelId, TaskDefinition, TaskId, id_number};
use serde::{Deserialize, Serialize};

pub use self::changes::{Change, Changes, Donation, Lineage};
use self::envelope::decode_whole;
pub use self::envelope::{LinkError, LinkMessage, open, seal};
pub(crate) use self::envelope::{open_by, unverified};
pub use self::keys::{signing_key, verifying_key};
pub use self::notice::EdgeNotice;
pub use self::publish::Publisher;
pub use self::read_back::PublishedRevisions;
pub use self::send::Sender;
pub(crate) use self::store::fetch;
pub use self::store::{ModelStore, StoreConfig};
pub use self::subscribe::{FetchedModels, Subscriber, Subscription};
pub(crate) use self::topic::partitions_of;
pub use self::topic::{LARGEST_CONTENT, make_topic, reach};

/// A message of the cloud about a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Published {
    /// The [`schema_hash`] of the samples that models are for.
    pub schema: String,
    /// Revision of the task; a later one is greater.
    pub revision: Revision,
    /// When it was sent, microseconds since 1970 by the cloud's clock.
    pub sent: i64,
    /// The path of the task, from the base task to the task itself.
    pub path: Vec<TaskDefinition>,
    /// The edge that has trained the model, if it is only a candidate for others and not deployed.
    pub donor: Option<String>,
    /// The edges that it is for; empty for all.
    pub audience: Vec<String>,
    /// With the base task: standard deviation of each feature, by which edges scale distances
    /// between samples.
    pub deviations: Option<Vec<f32>>,
    /// The deployed model, or that of the donor; none if the task inherits.
    pub model: Option<PublishedModel>,
}

impl LinkMessage for Published {
    const VERSION: u16 = 1;

    fn decode(_: u16, bytes: &[u8]) -> Option<Published> {
        decode_whole(bytes)
    }
}

impl Published {
    /// The task that it is about.
    pub fn task(&self) -> TaskId {
        self.path.last().map_or(TaskId::BASE, |task| task.task)
    }

    /// The subject, of which a later revision replaces this one: the task, and the number of the
    /// donor's name, or 0.
    pub fn subject(&self) -> (TaskId, u64) {
        let donor = self.donor.as_deref();
        (self.task(), donor.map_or(0, id_number))
    }

    /// The key of the message: the task, with the donor of a candidate. A message for some edges
    /// has a key of its own.
    pub fn key(&self) -> String {
        let task = self.task();
        match &self.donor {
            // Compaction must keep the message for the other edges beside it.
            None if !self.audience.is_empty() => format!("{task}/"),
            None => task.to_string(),
            Some(donor) => format!("{task}/{donor}"),
        }
    }
}

/// A model sent over the link.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PublishedModel {
    /// Task and version.
    pub model: ModelId,
    /// How it was made.
    pub trained: ModelTrained,
    /// How it was judged.
    pub evaluated: Option<ModelEvaluated>,
    /// The ONNX bytes; empty while they are in an object store.
    pub onnx: Vec<u8>,
    /// Whether the bytes are in an object store.
    pub is_stored: bool,
}

impl PublishedModel {
    /// Whether it is a model of `task` and matches its record.
    pub(crate) fn is_of(&self, task: TaskId) -> bool {
        let is_whole = self.is_stored || self.is_whole();
        self.model.task == task && self.trained.model == self.model && is_whole
    }

    /// Whether the bytes match the hash.
    fn is_whole(&self) -> bool {
        blake3::hash(&self.onnx).to_hex().as_str() == self.trained.hash
    }
}

/// Hash of a schema (JSON), by which edge and cloud check that they have the same one.
pub fn schema_hash(schema: &str) -> String {
    blake3::hash(schema.as_bytes()).to_hex()[..16].to_string()
}

/// The wall-clock time in microseconds since 1970.
pub fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_micros() as i64)
}
