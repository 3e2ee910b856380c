//! Dead letters: bad records, kept with the reason.

use serde::{Deserialize, Serialize};

use crate::data::OwnedRecord;

/// Bytes of a record's value in the excerpt of its dead letter.
const EXCERPT: usize = 4096;

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

impl DeadLetter {
    /// Dead letter of a record of a broker.
    pub fn of_record(record: OwnedRecord, reason: String) -> Self {
        let value = record.value.as_deref().unwrap_or_default();
        DeadLetter {
            source: format!("{}[{}]", record.place.topic, record.place.partition),
            record: record.offset.max(0) as u64,
            reason,
            content: String::from_utf8_lossy(&value[..value.len().min(EXCERPT)]).into_owned(),
            message: Some(Box::new(record)),
        }
    }
}
