//! The part that a pipeline plays, and its link to the others.

use std::collections::BTreeMap;
use std::path::PathBuf;

use perennial_connectors::kafka::KafkaConfig;
use perennial_connectors::link::{LARGEST_CONTENT, StoreConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Mode;
use super::unseen::MethodConfig;
use super::{ConfigError, ConfigFile, LevelConfig};

/// The part that a pipeline plays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// All in one process.
    #[default]
    Local,
    /// It answers by the models that the cloud publishes, learns from its own labels to correct them, and shares what its policy
    /// says.
    Edge,
    /// It learns from what edges share, and publishes what answers.
    Cloud,
}

impl Role {
    /// Its name in the config.
    pub fn name(self) -> &'static str {
        match self {
            Role::Local => "local",
            Role::Edge => "edge",
            Role::Cloud => "cloud",
        }
    }
}

/// The link between cloud and edges, over the cloud's Kafka.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LinkConfig {
    /// How to reach the cloud's Kafka.
    pub kafka: KafkaConfig,
    /// The topic of what edges share. The cloud makes it.
    #[serde(default = "changes")]
    pub changes: String,
    /// The topic of what the cloud knows. The cloud makes it.
    #[serde(default = "knowledge")]
    pub knowledge: String,
    /// Where models are that are too large for messages; the same for cloud and edges. Default: all are in messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreConfig>,
    /// The file of the private key by which the others know this one (Ed25519, PEM).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sign: Option<PathBuf>,
    /// At an edge: the file of the cloud's public key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<PathBuf>,
    /// In the cloud: the edges by the names of their pipelines, each with the file of its public key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub edges: BTreeMap<String, PathBuf>,
    /// In the cloud: which edges get a model that replaces another first, and how long they try it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<CanaryConfig>,
    /// At an edge: names of the tasks that it serves; those above and below them come too. Default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subscribe: Vec<String>,
    /// At an edge: whether it trains models of its own too, on its own triggers, beside taking those of the cloud.
    #[serde(default)]
    pub train: bool,
    /// At an edge: what waits to be sent.
    #[serde(default)]
    pub outbox: OutboxConfig,
}

/// Which edges get a model that replaces another first.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CanaryConfig {
    /// Their names.
    pub edges: Vec<String>,
    /// So many labelled samples they have to share before the model is compared with the one before: if it does not do worse,
    /// all get it; if it does, it is rolled back.
    #[serde(default = "trial")]
    pub samples: u64,
}

fn trial() -> u64 {
    500
}

/// What waits at an edge while the cloud is not reached.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OutboxConfig {
    /// The most bytes that may wait.
    pub bytes: u64,
    /// What is shed when there are more.
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

/// See [`OutboxConfig::shed`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Shed {
    /// What has waited longest.
    #[default]
    Oldest,
    /// What comes.
    Newest,
}

fn changes() -> String {
    "perennial-changes".to_string()
}

fn knowledge() -> String {
    "perennial-knowledge".to_string()
}

pub(super) fn check(loaded: &ConfigFile) -> Result<(), ConfigError> {
    let config = &loaded.config;
    let link = match (config.role, &config.link) {
        (Role::Local, None) => return Ok(()),
        (Role::Local, Some(_)) => {
            let message = "it is for the roles edge and cloud: set role, or remove this";
            return Err(loaded.error("link", message));
        }
        (_, None) => {
            let message = "missing: it says how cloud and edges reach each other";
            return Err(loaded.error("link", message));
        }
        (_, Some(link)) => link,
    };
    match config.role {
        Role::Edge => check_edge(loaded, link)?,
        _ => check_cloud(loaded, link)?,
    }
    let above = link.store.as_ref().map_or(0, |store| store.above);
    if above > LARGEST_CONTENT {
        let message =
            format!("expected at most {LARGEST_CONTENT}: no message holds a larger model");
        return Err(loaded.error("link.store.above", &message));
    }
    match link.kafka.problems().into_iter().next() {
        Some((path, message)) => Err(loaded.error(&format!("link.{path}"), message)),
        None => Ok(()),
    }
}

fn check_cloud(loaded: &ConfigFile, link: &LinkConfig) -> Result<(), ConfigError> {
    let only = |key: &str| Err(loaded.error(key, "only an edge has it: remove this"));
    if link.verify.is_some() {
        return only("link.verify");
    }
    if !link.subscribe.is_empty() {
        return only("link.subscribe");
    }
    if link.train {
        return only("link.train");
    }
    if link.sign.is_none() {
        let message =
            "missing: the file of the cloud's private key (openssl genpkey -algorithm ed25519)";
        return Err(loaded.error("link.sign", message));
    }
    if let Some(canary) = &link.canary {
        check_canary(loaded, link, canary)?;
    }
    if loaded.config.source.edges.is_some() && link.edges.is_empty() {
        let message = "missing: the edges by name, each with the file of its public key";
        return Err(loaded.error("link.edges", message));
    }
    Ok(())
}

fn check_canary(
    loaded: &ConfigFile,
    link: &LinkConfig,
    canary: &CanaryConfig,
) -> Result<(), ConfigError> {
    if loaded.config.source.edges.is_none() || loaded.config.mode == Mode::Replay {
        let message = "canaries are judged by what they share while it comes: set source.edges, and mode: live";
        return Err(loaded.error("link.canary", message));
    }
    if canary.edges.is_empty() || canary.samples == 0 {
        let message = "expected at least one edge, and one sample";
        return Err(loaded.error("link.canary", message));
    }
    let unknown = |edge: &&String| !link.edges.contains_key(*edge);
    match canary.edges.iter().find(unknown) {
        Some(edge) => {
            let names: Vec<&str> = link.edges.keys().map(String::as_str).collect();
            let message = format!(
                "\"{edge}\" is not in link.edges (expected: {})",
                names.join(", ")
            );
            Err(loaded.error("link.canary.edges", &message))
        }
        None => Ok(()),
    }
}

fn check_edge(loaded: &ConfigFile, link: &LinkConfig) -> Result<(), ConfigError> {
    let config = &loaded.config;
    if link.verify.is_none() {
        let message =
            "missing: the file of the cloud's public key (openssl pkey -in private.pem -pubout)";
        return Err(loaded.error("link.verify", message));
    }
    for (key, is_there) in [
        ("link.edges", !link.edges.is_empty()),
        ("link.canary", link.canary.is_some()),
    ] {
        if is_there {
            return Err(loaded.error(key, "only the cloud has it: remove this"));
        }
    }
    match (config.share.anything(), &link.sign) {
        (true, None) => {
            let message = "missing: the file of this edge's private key (openssl genpkey -algorithm ed25519), with which \
                           it signs what it shares";
            return Err(loaded.error("link.sign", message));
        }
        (false, Some(_)) => {
            let message = "nothing is shared that it could sign: remove this, or see share";
            return Err(loaded.error("link.sign", message));
        }
        _ => {}
    }
    if config.mode == Mode::Replay {
        let message = "an edge takes models when they come: set live";
        return Err(loaded.error("mode", message));
    }
    if config.share.models && !link.train {
        let message = "no models are trained here that could be shared: set link.train";
        return Err(loaded.error("share.models", message));
    }
    let compares =
        |method: &MethodConfig| matches!(method, MethodConfig::Density | MethodConfig::Nearest);
    let unseen = config.unseen.as_ref().filter(|_| !link.train);
    if unseen.is_some_and(|unseen| unseen.methods.iter().any(compares)) {
        let message = "density and nearest compare with what trainings draw from samples, and nothing is trained here: set others, \
                       such as [attributes, probability], or link.train";
        return Err(loaded.error("unseen.methods", message));
    }
    if !config.report.baselines.is_empty() {
        let message = "an edge compares with none: remove this";
        return Err(loaded.error("report.baselines", message));
    }
    let clusters = |level: &LevelConfig| matches!(level, LevelConfig::Cluster(_));
    if let Some(number) = config.tasks.path.iter().position(clusters) {
        let message =
            "clusters are of the process that found them: an edge's tasks are told by attributes";
        return Err(loaded.error(&format!("tasks.path[{number}]"), message));
    }
    Ok(())
}
