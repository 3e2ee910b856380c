//! How tasks are made from samples: the levels of the task tree.

use std::fmt;

use perennial_connectors::schema::{Feature, Schema};
use perennial_operators::algorithms::cluster::CLUSTER;
use perennial_operators::{ClusterPlan, Level, TaskLevels};
use schemars::JsonSchema;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::places::nearest;
use super::schema::find_attribute;
use super::{ConfigError, ConfigFile};

/// How tasks are made from samples.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TasksConfig {
    /// The levels of the task tree below the base task, from coarse to fine.
    pub path: Vec<LevelConfig>,
}

/// The most clusters: they are sought among 2000 samples.
const MOST_CLUSTERS: usize = 100;

/// A level of the task tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum LevelConfig {
    /// The attributes that it adds, the site's column among them: tasks by attributes and by origin.
    Attributes(Vec<String>),
    /// A cluster of features; in one level at most.
    Cluster(ClusterLevel),
}

/// A level of clusters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClusterLevel {
    /// What they are made of.
    pub cluster: ClusterConfig,
}

/// Clusters of features, found once among the bootstrap's samples.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClusterConfig {
    /// The numeric features by which samples are near to each other.
    pub features: Vec<String>,
    /// How many clusters. Default: as many, from 2 to 10, as are best apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub k: Option<usize>,
}

/// By hand rather than as an untagged enum, so that an error says what is wrong and not merely that no
/// variant fits.
impl<'de> Deserialize<'de> for LevelConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<LevelConfig, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = LevelConfig;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a list of attributes or {cluster: {features, k}}")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<LevelConfig, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(seq)).map(LevelConfig::Attributes)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<LevelConfig, A::Error> {
                ClusterLevel::deserialize(MapAccessDeserializer::new(map)).map(LevelConfig::Cluster)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// The task tree's levels, if they make sense.
pub(super) fn levels(loaded: &ConfigFile, schema: &Schema) -> Result<TaskLevels, ConfigError> {
    let path = &loaded.config.tasks.path;
    let mut used: Vec<&str> = Vec::new();
    if path
        .iter()
        .any(|level| matches!(level, LevelConfig::Cluster(_)))
    {
        // Tasks are told apart by names.
        used.push(CLUSTER);
    }
    let mut clustered = false;
    let mut levels = Vec::new();
    for (number, level) in path.iter().enumerate() {
        let key = format!("tasks.path[{number}]");
        levels.push(match level {
            LevelConfig::Attributes(names) => attributes(loaded, schema, &key, names, &mut used)?,
            LevelConfig::Cluster(_) if clustered => {
                let message =
                    "another level is a cluster already: name the features of both in one";
                return Err(loaded.error(&key, message));
            }
            LevelConfig::Cluster(level) => {
                clustered = true;
                Level::Cluster(plan(loaded, schema, &key, &level.cluster)?)
            }
        });
    }
    Ok(TaskLevels { levels })
}

fn attributes<'a>(
    loaded: &ConfigFile,
    schema: &Schema,
    key: &str,
    names: &'a [String],
    used: &mut Vec<&'a str>,
) -> Result<Level, ConfigError> {
    if names.is_empty() {
        return Err(loaded.error(key, "a level must name at least one attribute"));
    }
    let mut columns = Vec::new();
    for (place, name) in names.iter().enumerate() {
        let key = format!("{key}[{place}]");
        let column = find_attribute(schema, name).map_err(|message| loaded.error(&key, message))?;
        if used.contains(&name.as_str()) {
            return Err(loaded.error(&key, format!("\"{name}\" sets tasks apart already")));
        }
        used.push(name);
        columns.push((column, name.clone()));
    }
    Ok(Level::Attributes(columns))
}

fn plan(
    loaded: &ConfigFile,
    schema: &Schema,
    key: &str,
    config: &ClusterConfig,
) -> Result<ClusterPlan, ConfigError> {
    let key = format!("{key}.cluster");
    if config.features.is_empty() {
        let message = "clusters are made of one feature at least";
        return Err(loaded.error(&format!("{key}.features"), message));
    }
    let mut features: Vec<(usize, String)> = Vec::new();
    for (place, name) in config.features.iter().enumerate() {
        let key = format!("{key}.features[{place}]");
        let column = find_feature(schema, name).map_err(|message| loaded.error(&key, message))?;
        if features.iter().any(|(known, _)| *known == column) {
            return Err(loaded.error(&key, format!("\"{name}\" is named twice")));
        }
        features.push((column, name.clone()));
    }
    let key = format!("{key}.k");
    match config.k {
        Some(k) if !(2..=MOST_CLUSTERS).contains(&k) => {
            let message = format!(
                "expected 2 to {MOST_CLUSTERS} clusters, or leave it out to have their number chosen"
            );
            Err(loaded.error(&key, message))
        }
        Some(k)
            if loaded
                .config
                .bootstrap
                .records
                .is_some_and(|most| most < k as u64) =>
        {
            let message = "the clusters are made of the bootstrap's samples, which are fewer: set a smaller k, or a \
                           larger bootstrap.records";
            Err(loaded.error(&key, message))
        }
        k => Ok(ClusterPlan { features, k }),
    }
}

/// The column of the numeric feature with this name, or what to say if there is none.
fn find_feature(schema: &Schema, name: &str) -> Result<usize, String> {
    let found = schema
        .features
        .iter()
        .position(|known| known.column() == name);
    match found.map(|column| (column, &schema.features[column])) {
        Some((column, Feature::Numeric(_))) => Ok(column),
        Some((_, Feature::Categorical(_))) => Err(format!(
            "\"{name}\" is categorical, and its values are neither near nor far: list it in schema.attributes, and let a \
             level of its own name it"
        )),
        None => {
            let names = schema.features.iter().map(Feature::column);
            let names: Vec<&str> = names.collect();
            let hint = nearest(name, &names)
                .map(|near| format!("; did you mean \"{near}\"?"))
                .unwrap_or_default();
            Err(format!(
                "\"{name}\" is not a feature of the schema{hint} (expected: {})",
                names.join(", ")
            ))
        }
    }
}
