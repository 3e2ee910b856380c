//! The link between the cloud and the edges: what the cloud knows goes down, on a topic that keeps the latest of each task; what
//! edges share goes up, on a topic keyed by edge.

mod changes;
mod envelope;
mod keys;
mod outlet;
mod publish;
mod send;
mod store;
mod subscribe;
mod topic;

pub use ed25519_dalek::{SigningKey, VerifyingKey};
use perennial_operators::flow::{ModelEvaluated, ModelTrained, Revision};
use perennial_operators::{ModelId, TaskDefinition, TaskId, id_number};
use serde::{Deserialize, Serialize};

pub use self::changes::{Change, Changes, Donation};
pub use self::envelope::{LinkError, open, seal};
pub use self::keys::{signing_key, verifying_key};
pub use self::publish::Publisher;
pub use self::send::Sender;
pub(crate) use self::store::bring;
pub use self::store::{ModelStore, StoreConfig};
pub use self::subscribe::{Following, Subscriber};
pub(crate) use self::topic::partitions_of;
pub use self::topic::{LARGEST_CONTENT, make_topic, reach};

/// What is published of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Published {
    /// The schema that models are for; see [`schema_hash`].
    pub schema: String,
    /// Later ones are greater.
    pub revision: Revision,
    /// When it was sent, microseconds since 1970 by the cloud's clock.
    pub sent: i64,
    /// The tasks above it, the base task first, and itself last.
    pub path: Vec<TaskDefinition>,
    /// The edge that has trained the model, which others may start from, but which answers for nothing by itself.
    pub donor: Option<String>,
    /// The edges that it is for; all if there are none.
    pub audience: Vec<String>,
    /// With the base task: how much each feature varies, as standard deviations, in which edges compare samples.
    pub deviations: Option<Vec<f32>>,
    /// The model that answers for it; none if it inherits.
    pub model: Option<PublishedModel>,
}

impl Published {
    /// The task that it is about.
    pub fn task(&self) -> TaskId {
        self.path.last().map_or(TaskId::BASE, |task| task.task)
    }

    /// What it is about, of which a later revision takes its place: the task, and the donor by number.
    pub fn subject(&self) -> (TaskId, u64) {
        let donor = self.donor.as_deref();
        (self.task(), donor.map_or(0, id_number))
    }

    /// The key of the message: the task, and the donor if it is a donor's model; apart if it is for some edges.
    pub fn key(&self) -> String {
        let task = self.task();
        match &self.donor {
            // Those that others are to have stay beside it.
            None if !self.audience.is_empty() => format!("{task}/"),
            None => task.to_string(),
            Some(donor) => format!("{task}/{donor}"),
        }
    }
}

/// A model that goes over the link.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PublishedModel {
    /// Which.
    pub model: ModelId,
    /// How it was made.
    pub trained: ModelTrained,
    /// How it was judged.
    pub evaluated: Option<ModelEvaluated>,
    /// Its ONNX bytes; none while they are in an object store.
    pub onnx: Vec<u8>,
    /// Whether they are.
    pub is_stored: bool,
}

impl PublishedModel {
    /// Whether it is what it says, of this task.
    pub(crate) fn is_of(&self, task: TaskId) -> bool {
        let is_whole = self.is_stored || self.is_whole();
        self.model.task == task && self.trained.model == self.model && is_whole
    }

    /// Whether its bytes match its hash.
    fn is_whole(&self) -> bool {
        blake3::hash(&self.onnx).to_hex().as_str() == self.trained.hash
    }
}

/// By what both ends tell that they have the same schema, which is given as JSON.
pub fn schema_hash(schema: &str) -> String {
    blake3::hash(schema.as_bytes()).to_hex()[..16].to_string()
}

/// Microseconds since 1970 by the clock on the wall.
pub fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_micros() as i64)
}
