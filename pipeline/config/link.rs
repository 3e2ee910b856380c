//! The role of a pipeline, and section `link`: the connection between cloud and edges.

use std::collections::BTreeMap;
use std::path::PathBuf;

use perennial_connectors::kafka::KafkaConfig;
use perennial_connectors::link::{LARGEST_CONTENT, StoreConfig};
use perennial_connectors::schema::Schema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::places::Places;
use super::{ConfigError, EdgeConfig, Mode};

/// Role of a pipeline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// All in one process, without a link.
    #[default]
    Local,
    /// Predicts with the models that the cloud publishes, corrects them by its own labels, and
    /// shares what its policy allows.
    Edge,
    /// Learns from what edges share, and publishes the models that it deploys.
    Cloud,
}

impl Role {
    /// Name in the config.
    pub fn name(self) -> &'static str {
        match self {
            Role::Local => "local",
            Role::Edge => "edge",
            Role::Cloud => "cloud",
        }
    }
}

/// Link between cloud and edges, over the cloud's Kafka.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LinkConfig {
    /// Connection to the cloud's Kafka.
    pub kafka: KafkaConfig,
    /// Topic of what edges share. The cloud creates it.
    #[serde(default = "default_changes_topic")]
    pub changes: String,
    /// Topic of what the cloud publishes. The cloud creates it.
    #[serde(default = "default_knowledge_topic")]
    pub knowledge: String,
    /// Object store for models that are too large for messages; the same for cloud and edges.
    /// Default: all models are in messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreConfig>,
    /// File of the private key that signs what this pipeline sends (Ed25519, PEM).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sign: Option<PathBuf>,
    /// At an edge: file of the cloud's public key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<PathBuf>,
    /// In the cloud: the edges by the names of their pipelines, each with the file of its public
    /// key, or with its keys and what it may share. SIGHUP makes a running cloud read them again.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub edges: BTreeMap<String, EdgeConfig>,
    /// In the cloud: the edges that try a model before it replaces another at all edges.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<CanaryConfig>,
    /// At an edge: names of the tasks that it serves; tasks above and below them are included.
    /// Default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subscribe: Vec<String>,
    /// At an edge: whether it also trains models itself, on its own triggers, besides taking those
    /// of the cloud.
    #[serde(default)]
    pub train: bool,
    /// At an edge: bound of the changes that wait to be sent.
    #[serde(default)]
    pub outbox: OutboxConfig,
}

/// The edges that try a model before it replaces another at all edges.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CanaryConfig {
    /// Names of the edges.
    pub edges: Vec<String>,
    /// Number of labelled samples that these edges share before the model is compared with the one
    /// it replaces. If it does no worse, all edges get it; otherwise it is rolled back.
    #[serde(default = "default_canary_samples")]
    pub samples: u64,
}

/// Bound of the changes that wait at an edge while the cloud cannot be reached.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OutboxConfig {
    /// Maximum number of bytes that wait.
    pub bytes: u64,
    /// Changes that are dropped when more bytes would wait.
    pub shed: Shed,
}

impl Default for OutboxConfig {
    fn default() -> Self {
        OutboxConfig {
            bytes: 1 << 30,
            shed: Shed::default(),
        }
    }
}

/// Changes that a full outbox drops.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Shed {
    /// Those that have waited longest.
    #[default]
    Oldest,
    /// New ones.
    Newest,
}

fn default_changes_topic() -> String {
    "perennial-changes".to_string()
}

fn default_knowledge_topic() -> String {
    "perennial-knowledge".to_string()
}

fn default_canary_samples() -> u64 {
    500
}

/// The link of a role that has one; none for [`Role::Local`].
pub(super) fn link_of<'a>(
    role: Role,
    link: Option<&'a LinkConfig>,
    places: &Places,
) -> Result<Option<&'a LinkConfig>, ConfigError> {
    match (role, link) {
        (Role::Local, Some(_)) => {
            let message = "it is for the roles edge and cloud: set role, or remove this";
            Err(places.error("link", message))
        }
        (Role::Edge | Role::Cloud, None) => {
            let message = "missing: it says how cloud and edges reach each other";
            Err(places.error("link", message))
        }
        (_, link) => Ok(link),
    }
}

impl LinkConfig {
    /// Checks the section of an edge; `shares` tells whether anything leaves it.
    pub(super) fn check_edge(&self, shares: bool, places: &Places) -> Result<(), ConfigError> {
        let message =
            "missing: the file of the cloud's public key (openssl pkey -in private.pem -pubout)";
        places.require(self.verify.is_some(), "link.verify", message)?;
        let message = "only the cloud has it: remove this";
        places.require(self.edges.is_empty(), "link.edges", message)?;
        places.require(self.canary.is_none(), "link.canary", message)?;
        let message = "missing: the file of this edge's private key (openssl genpkey -algorithm \
                       ed25519), with which it signs what it shares";
        places.require(self.sign.is_some() || !shares, "link.sign", message)?;
        let message = "nothing is shared that it could sign: remove this, or see share";
        places.require(self.sign.is_none() || shares, "link.sign", message)
    }

    /// Checks the section of the cloud.
    pub(super) fn check_cloud(
        &self,
        has_edges: bool,
        mode: Mode,
        schema: &Schema,
        places: &Places,
    ) -> Result<(), ConfigError> {
        for (name, edge) in &self.edges {
            edge.check(name, schema, places)?;
        }
        let message = "only an edge has it: remove this";
        places.require(self.verify.is_none(), "link.verify", message)?;
        places.require(self.subscribe.is_empty(), "link.subscribe", message)?;
        places.require(!self.train, "link.train", message)?;
        let message =
            "missing: the file of the cloud's private key (openssl genpkey -algorithm ed25519)";
        places.require(self.sign.is_some(), "link.sign", message)?;
        if let Some(canary) = &self.canary {
            let message = "canaries are judged by what they share while it comes: set \
                           source.edges, and mode: live";
            let can_judge = has_edges && mode == Mode::Live;
            places.require(can_judge, "link.canary", message)?;
            canary.check(&self.edges, places)?;
        }
        let message = "missing: the edges by name, each with the file of its public key";
        places.require(!has_edges || !self.edges.is_empty(), "link.edges", message)
    }

    /// Checks what edge and cloud have in common.
    pub(super) fn check_connection(&self, places: &Places) -> Result<(), ConfigError> {
        let above = self.store.as_ref().map_or(0, |store| store.above);
        let message =
            format!("expected at most {LARGEST_CONTENT}: no message holds a larger model");
        places.require(above <= LARGEST_CONTENT, "link.store.above", message)?;
        let problems = self.kafka.problems().into_iter();
        places.require_none(problems.map(|(path, message)| (format!("link.{path}"), message)))
    }
}

impl CanaryConfig {
    fn check(
        &self,
        edges: &BTreeMap<String, EdgeConfig>,
        places: &Places,
    ) -> Result<(), ConfigError> {
        let message = "expected at least one edge, and one sample";
        let is_complete = !self.edges.is_empty() && self.samples > 0;
        places.require(is_complete, "link.canary", message)?;
        match self.edges.iter().find(|edge| !edges.contains_key(*edge)) {
            Some(edge) => {
                let names: Vec<&str> = edges.keys().map(String::as_str).collect();
                let message = format!(
                    "\"{edge}\" is not in link.edges (expected: {})",
                    names.join(", ")
                );
                Err(places.error("link.canary.edges", message))
            }
            None => Ok(()),
        }
    }
}
