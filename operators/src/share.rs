//! Sharing: what leaves a site, by its policy. Nothing else decides that.
//!
//! Labelled samples are shared as they become known, column by column; a column that is withheld is not there. Attributes and ids
//! can be replaced by pseudonyms, BLAKE3 under a key that stays at the site: equal values stay equal, and cannot be read.

use std::collections::BTreeMap;
use std::rc::Rc;

use rustc_hash::{FxHashMap, FxHashSet};
use serde::{Deserialize, Serialize};
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;

use crate::allocate::{Level, TaskLevels};
use crate::flow::{Effect, Flow, Labelled, LabelledEpoch};
use crate::{
    Batch, Dictionary, KnowledgeChange, MISSING, Score, TaskDefinition, TaskId, TaskPath, Texts,
};

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

impl SharePolicy {
    /// Of these labelled samples, what leaves: nothing of those that were read when nothing was shared, and have waited for their
    /// labels since.
    pub fn samples(&self, part: &Labelled) -> Option<SharedSamples> {
        let rules = self.samples.as_ref()?;
        let batch = &part.scored.allocated.batch;
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
    fn elsewhere(&self, batch: &Batch, row: usize) -> Vec<TaskDefinition> {
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

/// A task that has another name elsewhere.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Renamed {
    /// As it is known here.
    pub here: TaskDefinition,
    /// As it is known elsewhere.
    pub elsewhere: TaskDefinition,
    /// How the name was made; see [`SharePolicy::naming`].
    pub naming: u64,
}

/// Whether a batch has ids and attributes.
fn is_named(batch: &Batch) -> bool {
    batch.ids.len() == batch.len()
}

/// Gives out what leaves of labelled samples, and the names that tasks have where it goes, each once. `renamed` are those that were
/// given out before.
pub fn share<'scope>(
    labelled: Flow<'scope, Rc<LabelledEpoch>>,
    policy: SharePolicy,
    renamed: &[Renamed],
) -> Flow<'scope, Effect> {
    let naming = policy.naming();
    let renamed = renamed.iter().filter(|it| it.naming == naming);
    let mut renamed: FxHashSet<TaskId> = renamed.map(|it| it.here.task).collect();
    labelled.unary(Pipeline, "Share", move |_capability, _info| {
        move |input, output| {
            input.for_each(|capability, epochs| {
                let mut session = output.session(&capability);
                for part in epochs.iter().flat_map(|epoch| &epoch.parts) {
                    if policy.renames() {
                        let renamed = names(&policy, naming, part, &mut renamed);
                        let renamed = renamed.into_iter().map(KnowledgeChange::Renamed);
                        session.give_iterator(renamed.map(Effect::Change));
                    }
                    session.give_iterator(policy.samples(part).into_iter().map(Effect::Shared));
                }
                epochs.clear();
            });
        }
    })
}

/// The names that are not in `known` yet of the tasks of labelled samples.
fn names(
    policy: &SharePolicy,
    naming: u64,
    part: &Labelled,
    known: &mut FxHashSet<TaskId>,
) -> Vec<Renamed> {
    let allocated = &part.scored.allocated;
    if !is_named(&allocated.batch) {
        return Vec::new();
    }
    let mut met: BTreeMap<u32, u32> = BTreeMap::new();
    for row in &part.rows {
        met.entry(allocated.group_of[*row as usize]).or_insert(*row);
    }
    let mut renamed = Vec::new();
    for (group, row) in met {
        let path: &TaskPath = &allocated.groups[group as usize].path;
        if known.contains(&path.leaf().task) {
            continue;
        }
        let elsewhere = policy.elsewhere(&allocated.batch, row as usize);
        for (here, elsewhere) in path.nodes.iter().zip(elsewhere) {
            if known.insert(here.task) {
                let here = here.clone();
                renamed.push(Renamed {
                    here,
                    elsewhere,
                    naming,
                });
            }
        }
        // Those below have no name elsewhere, which need not be found out again.
        known.extend(path.nodes.iter().map(|task| task.task));
    }
    renamed
}
