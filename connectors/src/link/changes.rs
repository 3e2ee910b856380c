//! What goes up: changes that edges share, in the order of their commits.

use perennial_operators::Epoch;
use perennial_operators::share::{SharedSamples, SharedStatistics};
use serde::{Deserialize, Serialize};

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
    /// Samples that the edge has shed so far for want of room.
    pub shed: u64,
    /// Changes, each with its number: each is the next but for what was shed.
    pub changes: Vec<(u64, Change)>,
}

/// What one commit of an edge shares.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// The last epoch of the commit.
    pub epoch: Epoch,
    /// Labelled samples, by sequence number.
    pub samples: Vec<SharedSamples>,
    /// How it did.
    pub statistics: Vec<SharedStatistics>,
}

impl Change {
    /// How many samples it has.
    pub fn rows(&self) -> u64 {
        self.samples.iter().map(|part| part.len() as u64).sum()
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.rows() == 0 && self.statistics.is_empty()
    }
}
