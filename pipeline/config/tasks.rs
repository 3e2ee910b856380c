//! Section `tasks`: the levels of the task tree.

use std::fmt;

use perennial_connectors::schema::{Feature, Schema};
use perennial_operators::algorithms::cluster::CLUSTER;
use perennial_operators::{ClusterPlan, Level, TaskLevels};
use schemars::JsonSchema;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::places::{AT_LEAST_ONE, Places, did_you_mean};
use super::schema::find_attribute;
use super::{BootstrapConfig, ConfigError};

/// The maximum number of clusters, which are found among 2000 samples.
const MAX_CLUSTERS: usize = 100;

/// How tasks are made from samples.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TasksConfig {
    /// Levels of the task tree below the base task, from coarse to fine.
    pub path: Vec<LevelConfig>,
    /// Maximum number of tasks. Beyond it a new value makes no task: its samples are answered by
    /// the finest task that is known.
    #[serde(default = "default_most")]
    pub most: usize,
}

fn default_most() -> usize {
    100_000
}

/// A level of the task tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum LevelConfig {
    /// The attributes that the level adds. The site's column is one, and makes tasks by origin.
    Attributes(Vec<String>),
    /// Clusters of features; at most one level has them.
    Cluster(ClusterLevel),
}

/// A level of clusters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClusterLevel {
    /// How samples are clustered.
    pub cluster: ClusterConfig,
}

/// Clusters of features, found once among the bootstrap's samples.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClusterConfig {
    /// Numeric features that measure the distance between samples.
    pub features: Vec<String>,
    /// Number of clusters. Default: the number from 2 to 10 that separates the samples best.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub k: Option<usize>,
}

/// Not derived as for other untagged enums, whose errors only say that no variant fits.
impl<'de> Deserialize<'de> for LevelConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<LevelConfig, D::Error> {
        struct LevelVisitor;
        impl<'de> Visitor<'de> for LevelVisitor {
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
        deserializer.deserialize_any(LevelVisitor)
    }
}

impl LevelConfig {
    pub(super) fn is_cluster(&self) -> bool {
        matches!(self, LevelConfig::Cluster(_))
    }
}

impl TasksConfig {
    /// Checks the section of an edge.
    pub(super) fn check_edge(&self, places: &Places) -> Result<(), ConfigError> {
        let message =
            "clusters are of the process that found them: an edge's tasks are told by attributes";
        match self.path.iter().position(LevelConfig::is_cluster) {
            Some(number) => Err(places.error(&format!("tasks.path[{number}]"), message)),
            None => Ok(()),
        }
    }

    /// The levels of the task tree, with the columns of the schema.
    pub(super) fn levels(
        &self,
        schema: &Schema,
        bootstrap: &BootstrapConfig,
        places: &Places,
    ) -> Result<TaskLevels, ConfigError> {
        places.require(self.most > 0, "tasks.most", AT_LEAST_ONE)?;
        // Attributes that levels have used. The name of the cluster level is taken too, since tasks
        // are told apart by names.
        let mut used: Vec<&str> = Vec::new();
        if self.path.iter().any(LevelConfig::is_cluster) {
            used.push(CLUSTER);
        }
        let mut has_cluster = false;
        let mut levels = Vec::new();
        for (number, level) in self.path.iter().enumerate() {
            let path = format!("tasks.path[{number}]");
            levels.push(match level {
                LevelConfig::Attributes(names) => {
                    attribute_level(names, schema, &mut used, &path, places)?
                }
                LevelConfig::Cluster(level) => {
                    let message =
                        "another level is a cluster already: name the features of both in one";
                    places.require(!has_cluster, &path, message)?;
                    has_cluster = true;
                    let path = format!("{path}.cluster");
                    Level::Cluster(level.cluster.plan(schema, bootstrap, &path, places)?)
                }
            });
        }
        Ok(TaskLevels { levels })
    }
}

fn attribute_level<'a>(
    names: &'a [String],
    schema: &Schema,
    used: &mut Vec<&'a str>,
    path: &str,
    places: &Places,
) -> Result<Level, ConfigError> {
    let message = "a level must name at least one attribute";
    places.require(!names.is_empty(), path, message)?;
    let mut columns = Vec::new();
    for (number, name) in names.iter().enumerate() {
        let path = format!("{path}[{number}]");
        let column =
            find_attribute(schema, name).map_err(|message| places.error(&path, message))?;
        let message = format!("\"{name}\" sets tasks apart already");
        places.require(!used.contains(&name.as_str()), &path, message)?;
        used.push(name);
        columns.push((column, name.clone()));
    }
    Ok(Level::Attributes(columns))
}

impl ClusterConfig {
    /// The plan of the clusters; `path` is the place of this config.
    fn plan(
        &self,
        schema: &Schema,
        bootstrap: &BootstrapConfig,
        path: &str,
        places: &Places,
    ) -> Result<ClusterPlan, ConfigError> {
        let message = "clusters are made of one feature at least";
        let has_features = !self.features.is_empty();
        places.require(has_features, &format!("{path}.features"), message)?;
        let mut features: Vec<(usize, String)> = Vec::new();
        for (number, name) in self.features.iter().enumerate() {
            let path = format!("{path}.features[{number}]");
            let column =
                find_feature(schema, name).map_err(|message| places.error(&path, message))?;
            let is_new = features.iter().all(|(known, _)| *known != column);
            places.require(is_new, &path, format!("\"{name}\" is named twice"))?;
            features.push((column, name.clone()));
        }
        if let Some(k) = self.k {
            let path = format!("{path}.k");
            let message = format!(
                "expected 2 to {MAX_CLUSTERS} clusters, or leave it out to have their number chosen"
            );
            places.require((2..=MAX_CLUSTERS).contains(&k), &path, message)?;
            let message = "the clusters are made of the bootstrap's samples, which are fewer: set \
                           a smaller k, or a larger bootstrap.records";
            let are_enough = bootstrap.records.is_none_or(|records| records >= k as u64);
            places.require(are_enough, &path, message)?;
        }
        Ok(ClusterPlan {
            features,
            k: self.k,
        })
    }
}

/// The column of the numeric feature `name`, or an error text if there is none.
fn find_feature(schema: &Schema, name: &str) -> Result<usize, String> {
    let mut features = schema.features.iter().enumerate();
    match features.find(|(_, feature)| feature.column() == name) {
        Some((column, Feature::Numeric(_))) => Ok(column),
        Some((_, Feature::Categorical(_))) => Err(format!(
            "\"{name}\" is categorical, and its values are neither near nor far: list it in \
             schema.attributes, and let a level of its own name it"
        )),
        None => {
            let names: Vec<&str> = schema.features.iter().map(Feature::column).collect();
            Err(format!(
                "\"{name}\" is not a feature of the schema{} (expected: {})",
                did_you_mean(name, &names),
                names.join(", ")
            ))
        }
    }
}
