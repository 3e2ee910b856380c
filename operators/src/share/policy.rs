//! Sharing: what leaves a site, by its policy. Nothing else decides that.
//!
//! Labelled samples are shared as they become known, column by column; a column that is withheld is not there. Attributes and ids
//! can be replaced by pseudonyms, BLAKE3 under a key that stays at the site: equal values stay equal, and cannot be read.

use serde::{Deserialize, Serialize};

use crate::data::{
    Batch, Level, MISSING, SharedSamples, SharedStatistics, SharedTexts, TaskDefinition, TaskId,
    TaskLevels, Texts,
};
use crate::flow::{KnowledgeChange, Labelled};

/// How much of an id or an attribute is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Treatment {
    /// As it is.
    Shared,
    /// Equal values can be told to be equal, and no more.
    Pseudonym,
    /// Not at all.
    Withheld,
}

/// Makes pseudonyms, under a key.
#[derive(Clone)]
pub struct Pseudonyms([u8; 32]);

impl Pseudonyms {
    /// Those of a secret.
    pub fn new(secret: &[u8]) -> Self {
        Pseudonyms(blake3::derive_key("perennial pseudonyms 1", secret))
    }

    /// The pseudonym of a value of a column.
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

/// What of samples is shared.
#[derive(Clone, Debug)]
pub struct SampleRules {
    /// The name of the id's column, and how much of it.
    pub id: (String, Treatment),
    /// The same of each attribute, the site first.
    pub attributes: Vec<(String, Treatment)>,
    /// The name of each feature's column, and whether it is shared.
    pub features: Vec<(String, bool)>,
}

/// What is shared, and how.
#[derive(Clone, Debug)]
pub struct SharePolicy {
    /// What of labelled samples is, if they are.
    pub samples: Option<SampleRules>,
    /// How attributes are treated where tasks are named by them.
    pub attributes: Vec<(String, Treatment)>,
    /// Whether statistics of tasks are.
    pub statistics: bool,
    /// Whether models that were trained here are.
    pub models: bool,
    /// The levels of the task tree.
    pub levels: TaskLevels,
    /// What makes pseudonyms, where there are any.
    pub pseudonyms: Option<Pseudonyms>,
}

impl SharePolicy {
    /// Of these labelled samples, what leaves: nothing of those that were read when nothing was shared, and have waited for their
    /// labels since.
    pub fn samples(&self, part: &Labelled) -> Option<SharedSamples> {
        let rules = self.samples.as_ref()?;
        let batch = &part.predicted.allocated.batch;
        if part.rows.is_empty() || !is_named(batch) {
            return None;
        }
        let rows = || part.rows.iter().map(|row| *row as usize);
        let ids = |push: &dyn Fn(&mut Texts, &str)| {
            let mut ids = Texts::default();
            rows().for_each(|row| push(&mut ids, batch.ids.get(row)));
            ids
        };
        let attributes = rules.attributes.iter().enumerate();
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
            attributes: attributes
                .map(|(column, (name, treatment))| {
                    let mut texts = match treatment {
                        Treatment::Withheld => return None,
                        _ => SharedTexts::of(batch, column, &part.rows),
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
            labels: part.labels.clone(),
        })
    }

    /// Of what is learned, the statistics that leave. `known` are the tasks as they are known elsewhere.
    pub fn statistics(
        &self,
        changes: &[KnowledgeChange],
        known: &impl Fn(TaskId) -> Option<TaskDefinition>,
    ) -> Vec<SharedStatistics> {
        // Who has the samples makes the statistics.
        if !self.statistics || self.samples.is_some() {
            return Vec::new();
        }
        let moved = changes.iter().filter_map(|change| match change {
            KnowledgeChange::StatisticsMoved(moved) => Some(moved),
            _ => None,
        });
        moved
            .filter_map(|moved| {
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

    /// Whether tasks have other names elsewhere.
    pub fn renames(&self) -> bool {
        self.path_attributes()
            .any(|(_, _, treatment)| treatment != Treatment::Shared)
    }

    /// By what is told whether names of tasks were made as they are made now: how much of each attribute is shared, and what pseudonyms are made with.
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

    /// How many levels of the task tree are told by attributes that are shared as they are: their tasks have the same names for
    /// all.
    pub fn common_levels(&self) -> usize {
        let is_shared = |(column, _): &(usize, String)| {
            let treatment = self.attributes.get(*column);
            treatment.is_some_and(|(_, treatment)| *treatment == Treatment::Shared)
        };
        let levels = self.levels.levels.iter();
        let common = levels.take_while(|level| match level {
            Level::Attributes(attributes) => attributes.iter().all(is_shared),
            Level::Cluster(_) => false,
        });
        common.count()
    }

    /// The attributes that tasks are named by, and how much of them is shared.
    pub fn path_attributes(&self) -> impl Iterator<Item = (usize, &str, Treatment)> {
        let levels = self.levels.levels.iter();
        let attributes = levels.flat_map(|level| match level {
            Level::Attributes(attributes) => attributes.as_slice(),
            Level::Cluster(_) => &[],
        });
        attributes.map(|(column, name)| {
            let treatment = self.attributes.get(*column);
            let treatment = treatment.map_or(Treatment::Withheld, |(_, treatment)| *treatment);
            (*column, name.as_str(), treatment)
        })
    }

    /// What the tasks on the path of a row are elsewhere, from the base task on; a task that is set apart by what is
    /// withheld is not known there, nor are those below it.
    pub(crate) fn elsewhere(&self, batch: &Batch, row: usize) -> Vec<TaskDefinition> {
        let mut path = vec![TaskDefinition::base()];
        for level in &self.levels.levels {
            let Level::Attributes(attributes) = level else {
                break;
            };
            // What is missing sets no task apart.
            let known = attributes
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
            let values: Option<Vec<_>> = known.map(value).collect();
            let Some(values) = values else { break };
            if !values.is_empty() {
                let above = path.last().map(|above| above.child(&values));
                path.extend(above);
            }
        }
        path
    }
}

/// Whether a batch has ids and attributes.
pub(crate) fn is_named(batch: &Batch) -> bool {
    batch.ids.len() == batch.len()
}
