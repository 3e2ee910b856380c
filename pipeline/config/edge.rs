//! Entries of `link.edges`: the keys of an edge, and what it may share.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use perennial_connectors::link::{LinkError, verifying_key};
use perennial_connectors::schema::Schema;
use perennial_connectors::source::edges::{
    AllowedValues, EdgeKey, EdgeRights, MOST_MODEL_BYTES, MOST_MODELS,
};
use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::ConfigError;
use super::places::Places;
use super::schema::find_attribute;

/// An edge as the cloud knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum EdgeConfig {
    /// File of its public key. It may share everything.
    Key(PathBuf),
    /// Its keys, and what it may share.
    Rights(EdgeRightsConfig),
}

/// The keys of an edge, and what it may share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EdgeRightsConfig {
    /// File of its public key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// Further keys: the next one before the edge has it, or the last one for what is on its way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<EdgeKeyConfig>,
    /// Whether its samples are taken in.
    #[serde(default = "yes")]
    pub samples: bool,
    /// Whether its models are taken in.
    #[serde(default = "yes")]
    pub models: bool,
    /// Of how many tasks its models are taken in.
    #[serde(default = "most_models")]
    pub most_models: usize,
    /// Bytes that its models may have together, the last one of each task.
    #[serde(default = "most_model_bytes")]
    pub most_model_bytes: u64,
    /// Values, by attribute, that its samples, statistics and models may have. Attributes that are
    /// not listed may have any.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sites: BTreeMap<String, BTreeSet<String>>,
}

/// A key of an edge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EdgeKeyConfig {
    /// File of the public key.
    pub key: PathBuf,
    /// Time after which messages that it has signed are not accepted, by the time at which they
    /// were sent: `2027-01-31T00:00:00Z`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

fn yes() -> bool {
    true
}

fn most_models() -> usize {
    MOST_MODELS
}

fn most_model_bytes() -> u64 {
    MOST_MODEL_BYTES
}

/// Not derived as for other untagged enums, whose errors only say that no variant fits.
impl<'de> Deserialize<'de> for EdgeConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<EdgeConfig, D::Error> {
        struct EdgeVisitor;
        impl<'de> Visitor<'de> for EdgeVisitor {
            type Value = EdgeConfig;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str(
                    "the file of a public key or {key: FILE, keys: […], samples, models, \
                     most_models, most_model_bytes, sites}",
                )
            }

            fn visit_str<E>(self, path: &str) -> Result<EdgeConfig, E> {
                Ok(EdgeConfig::Key(path.into()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<EdgeConfig, A::Error> {
                let rights = EdgeRightsConfig::deserialize(MapAccessDeserializer::new(map));
                rights.map(EdgeConfig::Rights)
            }
        }
        deserializer.deserialize_any(EdgeVisitor)
    }
}

impl EdgeConfig {
    /// The files of its keys, with their ends.
    fn keys(&self) -> Vec<(&Path, Option<&str>)> {
        match self {
            EdgeConfig::Key(path) => vec![(path, None)],
            EdgeConfig::Rights(rights) => {
                let keys = rights.keys.iter();
                let keys = keys.map(|key| (key.key.as_path(), key.until.as_deref()));
                let first = rights.key.iter().map(|path| (path.as_path(), None));
                first.chain(keys).collect()
            }
        }
    }

    /// Checks the entry of the edge `name`, with the schema of samples.
    pub(super) fn check(
        &self,
        name: &str,
        schema: &Schema,
        places: &Places,
    ) -> Result<(), ConfigError> {
        let EdgeConfig::Rights(rights) = self else {
            return Ok(());
        };
        let path = format!("link.edges.{name}");
        let message = "missing: the file of the edge's public key";
        places.require(!self.keys().is_empty(), &format!("{path}.key"), message)?;
        for (number, key) in rights.keys.iter().enumerate() {
            let message = "expected a time with its zone, like 2027-01-31T00:00:00Z";
            let is_time = key
                .until
                .as_deref()
                .is_none_or(|until| micros(until).is_some());
            places.require(is_time, &format!("{path}.keys[{number}].until"), message)?;
        }
        for (attribute, values) in &rights.sites {
            let path = format!("{path}.sites.{attribute}");
            let found = find_attribute(schema, attribute);
            found.map_err(|message| places.error(&path, message))?;
            let message = "expected at least one value";
            places.require(!values.is_empty(), &path, message)?;
        }
        Ok(())
    }

    /// The rights of the edge, with its keys read from their files.
    pub fn rights(&self, schema: &Schema) -> Result<EdgeRights, LinkError> {
        let mut keys = Vec::new();
        for (path, until) in self.keys() {
            keys.push(EdgeKey {
                key: verifying_key(path)?,
                until: until.and_then(micros),
            });
        }
        let mut all = EdgeRights::with(keys);
        if let EdgeConfig::Rights(rights) = self {
            let column = |name: &str| schema.attribute_names().position(|known| known == name);
            let sites = rights.sites.iter().filter_map(|(name, values)| {
                Some(AllowedValues {
                    column: column(name)?,
                    name: name.clone(),
                    values: values.clone(),
                })
            });
            (all.samples, all.models) = (rights.samples, rights.models);
            (all.most_models, all.most_model_bytes) = (rights.most_models, rights.most_model_bytes);
            all.sites = sites.collect();
        }
        Ok(all)
    }
}

/// A time in microseconds since 1970.
fn micros(time: &str) -> Option<i64> {
    let time: jiff::Timestamp = time.parse().ok()?;
    Some(time.as_microsecond())
}
