//! Dead letters: bad records, kept with the reason.

use serde::{Deserialize, Serialize};

use crate::data::OwnedRecord;

/// A record that could not be used, and the reason.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Where the record came from: a file, a topic.
    pub source: String,
    /// Number of the record there, from 1: the line of a text file, the row of a table.
    pub record: u64,
    /// What is wrong with it, in one sentence.
    pub reason: String,
    /// Excerpt of the record: its first kilobytes.
    pub content: String,
    /// The whole record, if it came from a broker. A file of dead letters shows the excerpt.
    #[serde(skip)]
    pub message: Option<Box<OwnedRecord>>,
}
