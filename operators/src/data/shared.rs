//! Shared samples and statistics: what an edge sends to the cloud.

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use super::sample::{Batch, Dictionary, MISSING, Texts};
use super::score::Score;
use super::task::TaskDefinition;

/// A column of texts, each of them once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SharedTexts {
    /// The texts.
    pub values: Vec<Box<str>>,
    /// For each row the number of its own; [`MISSING`] if it has none.
    pub codes: Vec<u32>,
}

impl SharedTexts {
    /// A column of a batch, of these rows.
    pub(crate) fn of(batch: &Batch, column: usize, rows: &[u32]) -> SharedTexts {
        let (Some(codes), Some(values)) =
            (batch.attributes.get(column), batch.dictionaries.get(column))
        else {
            return SharedTexts::default();
        };
        let mut texts = SharedTexts::default();
        let mut places: FxHashMap<u32, u32> = FxHashMap::default();
        for row in rows {
            let code = codes[*row as usize];
            let place = match code {
                MISSING => MISSING,
                code => *places.entry(code).or_insert_with(|| {
                    texts.values.push(values.value(code).into());
                    texts.values.len() as u32 - 1
                }),
            };
            texts.codes.push(place);
        }
        texts
    }

    /// The text of a row; empty if it has none.
    pub fn get(&self, row: usize) -> &str {
        let code = self.codes.get(row).copied().unwrap_or(MISSING);
        self.values.get(code as usize).map_or("", |value| value)
    }

    /// The values as a dictionary, whose codes are those of the column.
    pub(crate) fn dictionary(&self) -> Dictionary {
        let dictionary = Dictionary::default();
        for value in &self.values {
            dictionary.push(value);
        }
        dictionary
    }
}

/// Labelled samples that are shared, column by column.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SharedSamples {
    /// Their sequence numbers at their site, ascending.
    pub sequences: Vec<u64>,
    /// Their event times, microseconds since 1970.
    pub times: Vec<i64>,
    /// Their ids, unless these are withheld.
    pub ids: Option<Texts>,
    /// Their attributes, the site first, but for those that are withheld.
    pub attributes: Vec<Option<SharedTexts>>,
    /// Their features, but for those that are withheld; NaN = missing.
    pub features: Vec<Option<Vec<f32>>>,
    /// Their class numbers, or numbers.
    pub labels: Vec<f32>,
}

impl SharedSamples {
    /// How many they are.
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// About how many bytes they take.
    pub fn bytes(&self) -> usize {
        let attributes = self.attributes.iter().flatten();
        let texts = attributes.map(|texts| {
            let values: usize = texts.values.iter().map(|value| value.len()).sum();
            values + 4 * texts.codes.len()
        });
        let ids = self.ids.as_ref().map_or(0, Texts::size);
        // Sequence number and time, features, and the label.
        let columns = 16 + 4 * self.features.iter().flatten().count() + 4;
        columns * self.len() + ids + texts.sum::<usize>()
    }
}

/// How a task did at a site, in some epochs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SharedStatistics {
    /// The task, as it is known to whom it is shared with.
    pub task: TaskDefinition,
    /// Labels that came.
    pub labelled: i64,
    /// How the site's predictions did.
    pub score: Score,
}

/// A task that has another name elsewhere.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskPseudonym {
    /// As it is known here.
    pub here: TaskDefinition,
    /// As it is known elsewhere.
    pub elsewhere: TaskDefinition,
    /// How the name was made; see [`SharePolicy::naming`].
    pub naming: u64,
}
