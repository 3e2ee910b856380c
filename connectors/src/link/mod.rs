//! The link between the cloud and the edges: what the cloud knows, published on a topic that keeps the latest of each task.

mod envelope;
mod follow;
mod keys;
mod publish;

use std::path::PathBuf;

use perennial_operators::{ModelEvaluated, ModelId, ModelTrained, TaskDefinition};
use serde::{Deserialize, Serialize};

pub use envelope::{LinkError, open, seal};
pub use follow::{Followed, Follower};
pub use keys::{signing_key, verifying_key};
pub use publish::Publisher;

/// What is published of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Published {
    /// The schema that models are for, as JSON.
    pub schema: String,
    /// Grows with each thing that is published of the task.
    pub revision: u64,
    /// The tasks above it, the base task first, and itself last.
    pub path: Vec<TaskDefinition>,
    /// The model that answers for it; none if it inherits.
    pub model: Option<PublishedModel>,
}

/// A model that is published, by value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PublishedModel {
    /// Which.
    pub model: ModelId,
    /// How it was made.
    pub trained: ModelTrained,
    /// How it was judged.
    pub evaluated: Option<ModelEvaluated>,
    /// Its ONNX bytes.
    pub onnx: Vec<u8>,
}

/// A file that a key is read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFile(pub PathBuf);
