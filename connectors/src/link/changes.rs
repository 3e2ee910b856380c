//! Changes that edges share, in the order of their commits.

use perennial_operators::{Epoch, SharedSamples, SharedStatistics, TaskDefinition};
use serde::{Deserialize, Serialize};

use super::PublishedModel;

/// A message of an edge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Changes {
    /// Name of the edge.
    pub edge: String,
    /// When the edge's knowledge base was created, microseconds since 1970 by its clock. A new
    /// knowledge base numbers its changes from 0.
    pub since: i64,
    /// The [`schema_hash`](super::schema_hash) of its samples.
    pub schema: String,
    /// When it was sent, microseconds since 1970 by the edge's clock.
    pub sent: i64,
    /// Number of samples that the edge has shed so far.
    pub shed: u64,
    /// Changes, each with its number. Numbers are consecutive except for shed changes.
    pub changes: Vec<(u64, Change)>,
}

impl Changes {
    /// Whether any change has models.
    pub fn has_models(&self) -> bool {
        let mut changes = self.changes.iter();
        changes.any(|(_, change)| !change.models.is_empty())
    }
}

/// What one commit of an edge shares, or a part of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// The last epoch of the commit.
    pub epoch: Epoch,
    /// Labelled samples, by sequence number.
    pub samples: Vec<SharedSamples>,
    /// Statistics of tasks.
    pub statistics: Vec<SharedStatistics>,
    /// Models that the edge has trained.
    pub models: Vec<Donation>,
}

/// A model that an edge has trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Donation {
    /// The path of its task, from the base task to the task itself.
    pub path: Vec<TaskDefinition>,
    /// The model.
    pub model: PublishedModel,
}

impl Donation {
    /// Whether the model is of the task and matches its record.
    pub(crate) fn is_sound(&self) -> bool {
        let task = self.path.last().map(|task| task.task);
        task.is_some_and(|task| self.model.is_of(task))
    }
}

impl Change {
    /// Number of samples.
    pub fn rows(&self) -> u64 {
        self.samples.iter().map(|part| part.len() as u64).sum()
    }

    /// Whether it has neither samples nor statistics nor models.
    pub fn is_empty(&self) -> bool {
        self.rows() == 0 && self.statistics.is_empty() && self.models.is_empty()
    }
}
