//! What a message broker knows of a record: where it stands and what came with it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's number.
    pub partition: i32,
}

/// For each partition, the offset of the record to read next.
pub type Offsets = BTreeMap<TopicPartition, i64>;

/// A column of bytes in one buffer, in which a row can have none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blobs {
    bytes: Vec<u8>,
    /// For each row where its bytes end, and whether it has any.
    ends: Vec<(u64, bool)>,
}

impl Blobs {
    /// Adds a row.
    pub fn push(&mut self, blob: Option<&[u8]>) {
        self.bytes.extend_from_slice(blob.unwrap_or_default());
        self.ends.push((self.bytes.len() as u64, blob.is_some()));
    }

    /// The bytes of a row.
    pub fn get(&self, row: usize) -> Option<&[u8]> {
        let start = if row == 0 { 0 } else { self.ends[row - 1].0 };
        let (end, present) = self.ends[row];
        present.then(|| &self.bytes[start as usize..end as usize])
    }
}

/// What the broker knows of the rows of a batch, column by column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordMetadata {
    /// The topic of all rows.
    pub topic: Arc<str>,
    /// Partitions.
    pub partitions: Vec<i32>,
    /// Offsets.
    pub offsets: Vec<i64>,
    /// The records' timestamps, milliseconds since 1970-01-01 UTC; -1 where there is none.
    pub timestamps: Vec<i64>,
    /// Keys.
    pub keys: Blobs,
    /// Headers, packed by the connector that read them.
    pub headers: Blobs,
}

impl RecordMetadata {
    /// No row of `topic` yet.
    pub fn new(topic: Arc<str>) -> Self {
        RecordMetadata {
            topic,
            partitions: Vec::new(),
            offsets: Vec::new(),
            timestamps: Vec::new(),
            keys: Blobs::default(),
            headers: Blobs::default(),
        }
    }

    /// Adds a row.
    pub fn push(&mut self, record: &RawRecord<'_>) {
        self.partitions.push(record.partition);
        self.offsets.push(record.offset);
        self.timestamps.push(record.timestamp);
        self.keys.push(record.key);
        self.headers.push(record.headers);
    }
}

/// One record as the broker has it, its topic aside.
#[derive(Clone, Copy, Debug)]
pub struct RawRecord<'a> {
    /// Its partition.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// Its timestamp, milliseconds since 1970-01-01 UTC; -1 if there is none.
    pub timestamp: i64,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its headers, packed by the connector that read it; none if it has no header.
    pub headers: Option<&'a [u8]>,
    /// Its value.
    pub value: Option<&'a [u8]>,
}

impl RawRecord<'_> {
    /// The record with bytes of its own.
    pub fn owned(self, topic: Arc<str>) -> OwnedRecord {
        OwnedRecord {
            place: TopicPartition {
                topic,
                partition: self.partition,
            },
            offset: self.offset,
            timestamp: self.timestamp,
            key: self.key.map(<[u8]>::to_vec),
            headers: self.headers.map(<[u8]>::to_vec),
            value: self.value.map(<[u8]>::to_vec),
        }
    }
}

/// A record with bytes of its own, byte for byte as it came.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OwnedRecord {
    /// Where it stands.
    pub place: TopicPartition,
    /// Its offset there.
    pub offset: i64,
    /// See [`RawRecord::timestamp`].
    pub timestamp: i64,
    /// See [`RawRecord::key`].
    pub key: Option<Vec<u8>>,
    /// See [`RawRecord::headers`].
    pub headers: Option<Vec<u8>>,
    /// See [`RawRecord::value`].
    pub value: Option<Vec<u8>>,
}
