//! Samples as batches of columns: what flows from the sources through the whole graph.

use std::sync::Arc;

use ndarray::Array2;
use serde::{Deserialize, Serialize};

use super::record::RecordMetadata;

/// The code of an attribute value that is missing.
pub const MISSING: u32 = u32::MAX;

/// The attribute column that holds the site: every schema has it, and it comes first.
pub const SITE: usize = 0;

/// The values of one attribute, numbered in order of appearance. It only ever grows, and those who share it see it grow: a
/// value more costs no copy.
#[derive(Clone, Debug, Default)]
pub struct Dictionary {
    values: Arc<boxcar::Vec<Box<str>>>,
}

impl Dictionary {
    /// Adds a value and gives its code.
    pub fn push(&self, value: &str) -> u32 {
        self.values.push(value.into()) as u32
    }

    /// The value behind `code`; the empty text for [`MISSING`].
    pub fn value(&self, code: u32) -> &str {
        self.values.get(code as usize).map_or("", |value| value)
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.values.count()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Serialize for Dictionary {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.values.iter().map(|(_, value)| value))
    }
}

impl<'de> Deserialize<'de> for Dictionary {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let values = Vec::<Box<str>>::deserialize(deserializer)?;
        Ok(Dictionary {
            values: Arc::new(values.into_iter().collect()),
        })
    }
}

/// A column of texts in one buffer, so that a text costs no allocation of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Texts {
    bytes: String,
    ends: Vec<u32>,
}

impl Texts {
    /// Adds one text at the end.
    pub fn push(&mut self, text: &str) {
        self.bytes.push_str(text);
        self.ends.push(self.bytes.len() as u32);
    }

    /// Adds the text that `write` appends to the buffer.
    pub fn push_with(&mut self, write: impl FnOnce(&mut String)) {
        write(&mut self.bytes);
        self.ends.push(self.bytes.len() as u32);
    }

    /// The text of a row.
    pub fn get(&self, row: usize) -> &str {
        let start = if row == 0 { 0 } else { self.ends[row - 1] };
        &self.bytes[start as usize..self.ends[row] as usize]
    }

    /// How many bytes they take.
    pub fn size(&self) -> usize {
        self.bytes.len() + 4 * self.ends.len()
    }

    /// Whether these are so many texts, as nobody has to be believed who has sent them.
    pub fn is_sound(&self, texts: usize) -> bool {
        let mut before = 0;
        self.ends.len() == texts
            && self.ends.iter().all(|end| {
                let follows = *end >= before && self.bytes.is_char_boundary(*end as usize);
                before = *end;
                follows
            })
    }

    /// How many texts there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
}

/// Samples of one epoch on one worker, column by column. Row `r` has the sequence number `first + r`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Batch {
    /// How many samples the source had decoded before row 0, over the whole stream.
    pub first: u64,
    /// Sample ids.
    pub ids: Texts,
    /// Event times, microseconds since 1970-01-01 UTC.
    pub times: Vec<i64>,
    /// Attribute columns as codes of `dictionaries`; column [`SITE`] is the site.
    pub attributes: Vec<Vec<u32>>,
    /// What the codes of each attribute column stand for.
    pub dictionaries: Arc<Vec<Dictionary>>,
    /// Which dictionaries these are: codes of others mean something else.
    pub generation: u64,
    /// One row a sample, one column a feature; NaN is missing.
    pub features: Array2<f32>,
    /// Class numbers, or numbers, when the samples carry their labels, NaN where one is missing. Empty when labels
    /// come from elsewhere.
    pub labels: Vec<f32>,
    /// What the broker knows of the rows, when they come from one.
    pub metadata: Option<Box<RecordMetadata>>,
}

impl Batch {
    /// How many samples the batch holds.
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// The sequence number of a row.
    pub fn sequence(&self, row: usize) -> u64 {
        self.first + row as u64
    }

    /// The value of an attribute of a row; empty when missing.
    pub fn attribute(&self, column: usize, row: usize) -> &str {
        self.dictionaries[column].value(self.attributes[column][row])
    }
}
