//! The sharing policy of a site. It alone decides what leaves.
//!
//! Samples are shared column by column once their labels are known; withheld columns are left out.
//! Ids and attributes can be replaced by pseudonyms, BLAKE3 hashes under a key that stays at the
//! site: equal values have equal pseudonyms, and nobody without the key can guess the values.

use serde::{Deserialize, Serialize};

use crate::data::{
    Batch, Level, MISSING, SharedSamples, SharedStatistics, SharedTexts, TaskDefinition, TaskId,
    TaskLevels, Texts,
};
use crate::flow::{KnowledgeChange, Labelled};

/// Treatment of an id or an attribute when it is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Treatment {
    /// Shared unchanged.
    Shared,
    /// Replaced by a pseudonym, the same for equal values.
    Pseudonym,
    /// Left out.
    Withheld,
}

/// Key with which pseudonyms are made.
#[derive(Clone)]
pub struct Pseudonyms([u8; 32]);

impl Pseudonyms {
    /// Derives the key from a secret.
    pub fn new(secret: &[u8]) -> Self {
        Pseudonyms(blake3::derive_key("perennial pseudonyms 1", secret))
    }

    /// Pseudonym of a value of a column.
    pub fn of(&self, column: &str, value: &str) -> String {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(&(column.len() as u64).to_le_bytes());
        hasher.update(column.as_bytes());
        hasher.update(value.as_bytes());
        hasher.finalize().to_hex()[..24].to_string()
    }
}

impl std::fmt::Debug for Pseudonyms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pseudonyms(…)")
    }
}

/// Columns of labelled samples that are shared.
#[derive(Clone, Debug)]
pub struct SampleRules {
    /// Name and treatment of the id's column.
    pub id: (String, Treatment),
    /// Name and treatment of each attribute, the site first.
    pub attributes: Vec<(String, Treatment)>,
    /// Name of each feature, and whether it is shared.
    pub features: Vec<(String, bool)>,
}

/// Sharing policy of a site.
#[derive(Clone, Debug)]
pub struct SharePolicy {
    /// Columns of labelled samples that are shared; none if samples are not shared.
    pub samples: Option<SampleRules>,
    /// Name and treatment of each attribute in the names of tasks, the site first.
    pub attributes: Vec<(String, Treatment)>,
    /// Whether statistics of tasks are shared.
    pub statistics: bool,
    /// Whether models that were trained here are shared.
    pub models: bool,
    /// Levels of the task tree.
    pub levels: TaskLevels,
    /// Key of pseudonyms, if there are any.
    pub pseudonyms: Option<Pseudonyms>,
}

impl SharePolicy {
    /// The shared columns of labelled samples. None of samples that were read while nothing was
    /// shared, which have waited for their labels without ids and attributes.
    pub fn samples(&self, labelled: &Labelled) -> Option<SharedSamples> {
        let rules = self.samples.as_ref()?;
        let batch = &labelled.predicted.allocated.batch;
        if labelled.rows.is_empty() || !is_named(batch) {
            return None;
        }
        let rows = || labelled.rows.iter().map(|row| *row as usize);
        let ids = |push: &dyn Fn(&mut Texts, &str)| {
            let mut ids = Texts::default();
            rows().for_each(|row| push(&mut ids, batch.ids.get(row)));
            ids
        };
        Some(SharedSamples {
            sequences: rows().map(|row| batch.sequence(row)).collect(),
            times: rows().map(|row| batch.times[row]).collect(),
            ids: match rules.id.1 {
                Treatment::Withheld => None,
                Treatment::Shared => Some(ids(&Texts::push)),
                Treatment::Pseudonym => Some(ids(&|ids, id| {
                    ids.push(&self.pseudonym(&rules.id.0, id));
                })),
            },
            attributes: rules
                .attributes
                .iter()
                .enumerate()
                .map(|(column, (name, treatment))| {
                    let mut texts = match treatment {
                        Treatment::Withheld => return None,
                        _ => SharedTexts::of(batch, column, &labelled.rows),
                    };
                    if *treatment == Treatment::Pseudonym {
                        for value in &mut texts.values {
                            *value = self.pseudonym(name, value).into();
                        }
                    }
                    Some(texts)
                })
                .collect(),
            features: rules
                .features
                .iter()
                .enumerate()
                .map(|(column, (_, shared))| {
                    shared.then(|| rows().map(|row| batch.features[[row, column]]).collect())
                })
                .collect(),
            labels: labelled.labels.clone(),
        })
    }

    /// The shared statistics among `changes`. `known` maps a task to its definition elsewhere; a
    /// task without one is left out.
    pub fn statistics(
        &self,
        changes: &[KnowledgeChange],
        known: &impl Fn(TaskId) -> Option<TaskDefinition>,
    ) -> Vec<SharedStatistics> {
        // Whoever receives the samples computes the statistics.
        if !self.statistics || self.samples.is_some() {
            return Vec::new();
        }
        changes
            .iter()
            .filter_map(|change| {
                let KnowledgeChange::StatisticsMoved(moved) = change else {
                    return None;
                };
                let scores = moved.difference.scores();
                Some(SharedStatistics {
                    task: known(moved.task)?,
                    labelled: scores.labelled,
                    score: scores.score,
                })
            })
            .collect()
    }

    fn pseudonym(&self, column: &str, value: &str) -> String {
        let pseudonyms = self.pseudonyms.as_ref();
        pseudonyms.map_or_else(String::new, |pseudonyms| pseudonyms.of(column, value))
    }

    /// Whether some tasks have other names, or none, elsewhere.
    pub fn renames(&self) -> bool {
        self.path_attributes()
            .any(|(_, _, treatment)| treatment != Treatment::Shared)
    }

    /// Fingerprint of the naming rules: the treatment of each path attribute, and the pseudonym
    /// key. Names made under another fingerprint are stale.
    pub fn naming(&self) -> u64 {
        let mut hasher = match &self.pseudonyms {
            Some(Pseudonyms(key)) => blake3::Hasher::new_keyed(key),
            None => blake3::Hasher::new(),
        };
        for (_, name, treatment) in self.path_attributes() {
            hasher.update(format!("{name:?} {treatment:?} ").as_bytes());
        }
        let mut number = [0; 8];
        hasher.finalize_xof().fill(&mut number);
        u64::from_le_bytes(number)
    }

    /// Number of levels, from the top of the task tree, whose attributes are all shared unchanged:
    /// their tasks have the same names at all sites.
    pub fn common_levels(&self) -> usize {
        let is_shared = |(column, _): &(usize, String)| {
            let treatment = self.attributes.get(*column);
            treatment.is_some_and(|(_, treatment)| *treatment == Treatment::Shared)
        };
        self.levels
            .levels
            .iter()
            .take_while(|level| match level {
                Level::Attributes(attributes) => attributes.iter().all(is_shared),
                Level::Cluster(_) => false,
            })
            .count()
    }

    /// Column, name and treatment of each attribute that tasks are named by.
    pub fn path_attributes(&self) -> impl Iterator<Item = (usize, &str, Treatment)> {
        let levels = self.levels.levels.iter();
        let attributes = levels.flat_map(|level| match level {
            Level::Attributes(attributes) => attributes.as_slice(),
            Level::Cluster(_) => &[],
        });
        attributes.map(|(column, name)| {
            let treatment = match self.attributes.get(*column) {
                Some((_, treatment)) => *treatment,
                None => Treatment::Withheld,
            };
            (*column, name.as_str(), treatment)
        })
    }

    /// Path of a row's tasks as they are named elsewhere, from the base task on. It ends above the
    /// first task that depends on a withheld attribute.
    pub(crate) fn elsewhere(&self, batch: &Batch, row: usize) -> Vec<TaskDefinition> {
        let mut path = vec![TaskDefinition::base()];
        for level in &self.levels.levels {
            let Level::Attributes(attributes) = level else {
                break;
            };
            // A missing value makes no task.
            let present = attributes
                .iter()
                .filter(|(column, _)| batch.attributes[*column][row] != MISSING);
            let value = |(column, name): &(usize, String)| {
                let value = batch.attribute(*column, row);
                match self.attributes.get(*column)?.1 {
                    Treatment::Shared => Some((name.clone(), value.to_string())),
                    Treatment::Pseudonym => Some((name.clone(), self.pseudonym(name, value))),
                    Treatment::Withheld => None,
                }
            };
            let Some(values) = present.map(value).collect::<Option<Vec<_>>>() else {
                break;
            };
            if !values.is_empty() {
                let node = path.last().map(|above| above.child(&values));
                path.extend(node);
            }
        }
        path
    }
}

/// Whether a batch has ids and attributes.
pub(crate) fn is_named(batch: &Batch) -> bool {
    batch.ids.len() == batch.len()
}
