//! Records of a message broker: their place in a topic, and their key, headers and value.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TopicPartition {
    /// Name of the topic.
    pub topic: Arc<str>,
    /// Number of the partition.
    pub partition: i32,
}

/// Offset of the next record to read, by partition.
pub type Offsets = BTreeMap<TopicPartition, i64>;

/// A column of byte strings in one buffer; a row may have none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blobs {
    bytes: Vec<u8>,
    /// End of each row's bytes, and whether the row has a byte string.
    ends: Vec<(u64, bool)>,
}

impl Blobs {
    /// Appends a row.
    pub fn push(&mut self, blob: Option<&[u8]>) {
        self.bytes.extend_from_slice(blob.unwrap_or_default());
        self.ends.push((self.bytes.len() as u64, blob.is_some()));
    }

    /// Bytes of a row; none if it has no byte string.
    pub fn get(&self, row: usize) -> Option<&[u8]> {
        let start = if row == 0 { 0 } else { self.ends[row - 1].0 };
        let (end, present) = self.ends[row];
        present.then(|| &self.bytes[start as usize..end as usize])
    }
}

/// Place, timestamp, key and headers of a batch's records, column by column, one row a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordMetadata {
    /// Topic of all rows.
    pub topic: Arc<str>,
    /// Partitions.
    pub partitions: Vec<i32>,
    /// Offsets.
    pub offsets: Vec<i64>,
    /// Timestamps, milliseconds since 1970-01-01 UTC; -1 = none.
    pub timestamps: Vec<i64>,
    /// Keys.
    pub keys: Blobs,
    /// Headers, packed by the connector that read them.
    pub headers: Blobs,
}

impl RecordMetadata {
    /// Metadata without rows, for records of `topic`.
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

    /// Appends a row.
    pub fn push(&mut self, record: &RawRecord<'_>) {
        self.partitions.push(record.partition);
        self.offsets.push(record.offset);
        self.timestamps.push(record.timestamp);
        self.keys.push(record.key);
        self.headers.push(record.headers);
    }
}

/// A record as it was received; its topic is known from the context.
#[derive(Clone, Copy, Debug)]
pub struct RawRecord<'a> {
    /// Partition.
    pub partition: i32,
    /// Offset in the partition.
    pub offset: i64,
    /// Timestamp, milliseconds since 1970-01-01 UTC; -1 = none.
    pub timestamp: i64,
    /// Key.
    pub key: Option<&'a [u8]>,
    /// Headers, packed by the connector that read it; none if there are no headers.
    pub headers: Option<&'a [u8]>,
    /// Value.
    pub value: Option<&'a [u8]>,
}

impl RawRecord<'_> {
    /// Bytes of key, headers and value.
    pub fn size(&self) -> usize {
        let parts = [self.key, self.headers, self.value];
        parts.into_iter().flatten().map(<[u8]>::len).sum()
    }

    /// Copies the record, of this topic, into one that owns its bytes.
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

/// A record that owns its bytes, which are those received.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OwnedRecord {
    /// Topic and partition.
    pub place: TopicPartition,
    /// Offset in the partition.
    pub offset: i64,
    /// Timestamp, milliseconds since 1970-01-01 UTC; -1 = none.
    pub timestamp: i64,
    /// Key.
    pub key: Option<Vec<u8>>,
    /// Headers, packed by the connector that read it; none if there are no headers.
    pub headers: Option<Vec<u8>>,
    /// Value.
    pub value: Option<Vec<u8>>,
}

impl OwnedRecord {
    /// Bytes of key, headers and value.
    pub fn size(&self) -> usize {
        let parts = [&self.key, &self.headers, &self.value];
        parts.into_iter().flatten().map(Vec::len).sum()
    }
}
