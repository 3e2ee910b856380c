//! What goes up: changes that edges share, in the order of their commits.

use perennial_operators::{Epoch, SharedSamples, SharedStatistics, TaskDefinition};
use serde::{Deserialize, Serialize};

use super::PublishedModel;

/// A message of an edge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Changes {
    /// Whose.
    pub edge: String,
    /// When the edge's knowledge base was made, microseconds since 1970 by its clock: one that is made anew counts anew.
    pub since: i64,
    /// The schema of its samples; see [`schema_hash`](super::schema_hash).
    pub schema: String,
    /// When it was sent, microseconds since 1970 by the edge's clock.
    pub sent: i64,
    /// Samples that the edge has shed so far.
    pub shed: u64,
    /// Changes, each with its number: each is the next but for what was shed.
    pub changes: Vec<(u64, Change)>,
}

impl Changes {
    /// Whether there are models in them.
    pub fn has_models(&self) -> bool {
        let mut changes = self.changes.iter();
        changes.any(|(_, change)| !change.models.is_empty())
    }
}

/// What one commit of an edge shares, or a part of that.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// The last epoch that it is of.
    pub epoch: Epoch,
    /// Labelled samples, by sequence number.
    pub samples: Vec<SharedSamples>,
    /// How it did.
    pub statistics: Vec<SharedStatistics>,
    /// Models that it has trained.
    pub models: Vec<Donation>,
}

/// A model that an edge has trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Donation {
    /// The tasks above it, the base task first, and the model's last.
    pub path: Vec<TaskDefinition>,
    /// The model.
    pub model: PublishedModel,
}

impl Donation {
    /// Whether it is what it says.
    pub(crate) fn is_sound(&self) -> bool {
        let task = self.path.last().map(|task| task.task);
        task.is_some_and(|task| self.model.is_of(task))
    }
}

impl Change {
    /// How many samples it has.
    pub fn rows(&self) -> u64 {
        self.samples.iter().map(|part| part.len() as u64).sum()
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.rows() == 0 && self.statistics.is_empty() && self.models.is_empty()
    }
}
