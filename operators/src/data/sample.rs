//! Samples as batches of columns: they flow from the sources through the whole graph.

use std::sync::Arc;

use ndarray::Array2;
use serde::{Deserialize, Serialize};

use super::record::RecordMetadata;

/// Code of a missing attribute value.
pub const MISSING: u32 = u32::MAX;

/// Attribute column that holds the site: the first one of every schema.
pub const SITE: usize = 0;

/// Values of one attribute, numbered by their code in order of appearance.
///
/// A dictionary only ever grows. Its clones share the values: a value pushed to one is in all.
///
/// ```
/// use perennial_operators::Dictionary;
///
/// let cities = Dictionary::default();
/// let shared = cities.clone();
/// let athens = cities.push("athens");
/// assert_eq!(shared.value(athens), "athens");
/// ```
#[derive(Clone, Debug, Default)]
pub struct Dictionary {
    values: Arc<boxcar::Vec<Box<str>>>,
}

impl Dictionary {
    /// Appends a value and returns its code. Does not check whether the value is there already.
    pub fn push(&self, value: &str) -> u32 {
        self.values.push(value.into()) as u32
    }

    /// Value of a code; empty for [`MISSING`].
    pub fn value(&self, code: u32) -> &str {
        self.values.get(code as usize).map_or("", |value| value)
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.values.count()
    }

    /// Whether there are no values.
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
    /// Appends a text.
    pub fn push(&mut self, text: &str) {
        self.bytes.push_str(text);
        self.ends.push(self.bytes.len() as u32);
    }

    /// Appends the text that `write` appends to the buffer.
    pub fn push_with(&mut self, write: impl FnOnce(&mut String)) {
        write(&mut self.bytes);
        self.ends.push(self.bytes.len() as u32);
    }

    /// Text of a row.
    pub fn get(&self, row: usize) -> &str {
        let start = if row == 0 { 0 } else { self.ends[row - 1] };
        &self.bytes[start as usize..self.ends[row] as usize]
    }

    /// Size in memory, bytes.
    pub fn size(&self) -> usize {
        self.bytes.len() + 4 * self.ends.len()
    }

    /// Checks that a column received over the network has `texts` well-formed entries.
    pub fn is_sound(&self, texts: usize) -> bool {
        let mut start = 0;
        self.ends.len() == texts
            && self.ends.iter().all(|end| {
                let follows = *end >= start && self.bytes.is_char_boundary(*end as usize);
                start = *end;
                follows
            })
    }

    /// Number of texts.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are no texts.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
}

/// Samples of one epoch on one worker, column by column: row `r` of every column belongs to the
/// sample with the sequence number `first + r`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Batch {
    /// Sequence number of row 0: number of samples that the source had decoded before it.
    pub first: u64,
    /// Sample ids.
    pub ids: Texts,
    /// Event times, microseconds since 1970-01-01 UTC.
    pub times: Vec<i64>,
    /// Attribute columns, as codes of `dictionaries`; column [`SITE`] is the site.
    pub attributes: Vec<Vec<u32>>,
    /// Values of each attribute column's codes.
    pub dictionaries: Arc<Vec<Dictionary>>,
    /// Generation of the dictionaries: codes compare only within one generation.
    pub generation: u64,
    /// Feature values, samples × features; NaN = missing.
    pub features: Array2<f32>,
    /// Labels that the samples carry: class numbers, or numbers; NaN = missing. Empty when labels
    /// come in a stream of their own.
    pub labels: Vec<f32>,
    /// Place, key and headers of each row's record, when the samples come from a broker.
    pub metadata: Option<Box<RecordMetadata>>,
}

impl Batch {
    /// Number of samples.
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// Whether there are no samples.
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// Sequence number of a row.
    pub fn sequence(&self, row: usize) -> u64 {
        self.first + row as u64
    }

    /// Value of an attribute of a row; empty if missing.
    pub fn attribute(&self, column: usize, row: usize) -> &str {
        self.dictionaries[column].value(self.attributes[column][row])
    }
}
