//! Shared samples and statistics, which an edge sends to the cloud.

use std::ops::Range;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use super::sample::{Batch, Dictionary, MISSING, Texts};
use super::score::Score;
use super::task::TaskDefinition;

/// A column of texts that stores each distinct text once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SharedTexts {
    /// The distinct texts.
    pub values: Vec<Box<str>>,
    /// Row by row, the index of its text in `values`; [`MISSING`] if it has none.
    pub codes: Vec<u32>,
}

impl SharedTexts {
    /// Takes these rows of an attribute column of a batch; empty if there is no such column.
    pub(crate) fn of(batch: &Batch, column: usize, rows: &[u32]) -> SharedTexts {
        let (Some(codes), Some(values)) =
            (batch.attributes.get(column), batch.dictionaries.get(column))
        else {
            return SharedTexts::default();
        };
        let mut texts = SharedTexts::default();
        let mut shared_codes: FxHashMap<u32, u32> = FxHashMap::default();
        for row in rows {
            let shared_code = match codes[*row as usize] {
                MISSING => MISSING,
                code => *shared_codes.entry(code).or_insert_with(|| {
                    texts.values.push(values.value(code).into());
                    texts.values.len() as u32 - 1
                }),
            };
            texts.codes.push(shared_code);
        }
        texts
    }

    /// The column without the texts of some rows.
    pub(crate) fn without(&self, rows: &[bool]) -> SharedTexts {
        let codes = self.codes.iter().zip(rows);
        self.with_codes(codes.map(|(code, blank)| if *blank { MISSING } else { *code }))
    }

    /// The texts of some rows.
    fn rows(&self, rows: Range<usize>) -> SharedTexts {
        self.with_codes(self.codes[rows].iter().copied())
    }

    /// A column of these codes, with the values that they use and no others.
    fn with_codes(&self, codes: impl Iterator<Item = u32>) -> SharedTexts {
        let mut texts = SharedTexts::default();
        let mut new_codes: FxHashMap<u32, u32> = FxHashMap::default();
        for code in codes {
            let new_code = match self.values.get(code as usize) {
                None => MISSING,
                Some(value) => *new_codes.entry(code).or_insert_with(|| {
                    texts.values.push(value.clone());
                    texts.values.len() as u32 - 1
                }),
            };
            texts.codes.push(new_code);
        }
        texts
    }

    /// Text of a row; empty if it has none.
    pub fn get(&self, row: usize) -> &str {
        let code = self.codes.get(row).copied().unwrap_or(MISSING);
        self.values.get(code as usize).map_or("", |value| value)
    }

    /// The texts as a dictionary whose codes are those of the column.
    pub(crate) fn dictionary(&self) -> Dictionary {
        let dictionary = Dictionary::default();
        for value in &self.values {
            dictionary.push(value);
        }
        dictionary
    }
}

/// Labelled samples that an edge shares, column by column, one row a sample.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SharedSamples {
    /// Sequence numbers at the edge, ascending.
    pub sequences: Vec<u64>,
    /// Event times, microseconds since 1970-01-01 UTC.
    pub times: Vec<i64>,
    /// Ids; none if they are withheld.
    pub ids: Option<Texts>,
    /// Attribute columns, the site first; none where one is withheld.
    pub attributes: Vec<Option<SharedTexts>>,
    /// Feature columns; none where one is withheld, NaN = missing.
    pub features: Vec<Option<Vec<f32>>>,
    /// Labels: class numbers, or numbers.
    pub labels: Vec<f32>,
}

impl SharedSamples {
    /// Number of samples.
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// Whether there are no samples.
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// Cuts the samples by rows into parts of about `most` bytes, with one sample at least.
    pub fn cut(self, most: usize) -> Vec<SharedSamples> {
        let (rows, bytes) = (self.len(), self.bytes());
        if bytes <= most || rows <= 1 {
            return vec![self];
        }
        let parts = bytes.div_ceil(most.max(1)).min(rows);
        let length = rows.div_ceil(parts);
        (0..rows)
            .step_by(length)
            .map(|start| self.rows(start..(start + length).min(rows)))
            .collect()
    }

    /// The samples of some rows.
    fn rows(&self, rows: Range<usize>) -> SharedSamples {
        let ids = self.ids.as_ref().map(|all| {
            let mut ids = Texts::default();
            rows.clone().for_each(|row| ids.push(all.get(row)));
            ids
        });
        let attributes = self.attributes.iter();
        let features = self.features.iter();
        SharedSamples {
            sequences: self.sequences[rows.clone()].to_vec(),
            times: self.times[rows.clone()].to_vec(),
            ids,
            attributes: attributes
                .map(|texts| texts.as_ref().map(|texts| texts.rows(rows.clone())))
                .collect(),
            features: features
                .map(|values| values.as_ref().map(|values| values[rows.clone()].to_vec()))
                .collect(),
            labels: self.labels[rows].to_vec(),
        }
    }

    /// Approximate size, bytes.
    pub fn bytes(&self) -> usize {
        let attributes = self.attributes.iter().flatten();
        let texts = attributes.map(|texts| {
            let values: usize = texts.values.iter().map(|value| value.len()).sum();
            values + 4 * texts.codes.len()
        });
        let ids = self.ids.as_ref().map_or(0, Texts::size);
        // Sequence number and time take 16 bytes, each feature and the label 4.
        let columns = 16 + 4 * self.features.iter().flatten().count() + 4;
        columns * self.len() + ids + texts.sum::<usize>()
    }
}

/// Labels and score of a task at an edge, over some epochs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SharedStatistics {
    /// The task, under the name that the cloud knows.
    pub task: TaskDefinition,
    /// Number of labels that arrived.
    pub labelled: i64,
    /// Score of the edge's predictions.
    pub score: Score,
}

/// A task's two names: at the edge, and where its samples are shared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskPseudonym {
    /// Definition at the edge.
    pub here: TaskDefinition,
    /// Definition in what is shared.
    pub elsewhere: TaskDefinition,
    /// Fingerprint of the naming rules: [`SharePolicy::naming`](crate::share::SharePolicy::naming).
    pub naming: u64,
}
