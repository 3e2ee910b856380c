//! The part that a pipeline plays, and its link to the others.

use std::path::PathBuf;

use perennial_connectors::kafka::KafkaConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ConfigError, Loaded, Mode};

/// The part that a pipeline plays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// All in one process.
    #[default]
    Local,
    /// It answers by the models that the cloud publishes, and learns from its own labels to correct them.
    Edge,
    /// It trains, and publishes what answers.
    Cloud,
}

/// The link between cloud and edges, over the cloud's Kafka.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LinkConfig {
    /// How to reach the cloud's Kafka.
    pub kafka: KafkaConfig,
    /// The topic of what the cloud knows. The cloud makes it.
    #[serde(default = "knowledge")]
    pub knowledge: String,
    /// In the cloud: the file of the private key by which edges know it (Ed25519, PEM).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sign: Option<PathBuf>,
    /// At an edge: the file of the cloud's public key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<PathBuf>,
    /// At an edge: names of the tasks that it serves; those above and below them come too. Default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subscribe: Vec<String>,
}

fn knowledge() -> String {
    "perennial-knowledge".to_string()
}

pub(super) fn check(loaded: &Loaded) -> Result<(), ConfigError> {
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
    let only = |key: &str, role: &str| {
        let message = format!("only the {role} has it: remove this");
        Err(loaded.error(key, &message))
    };
    match config.role {
        Role::Cloud if link.sign.is_none() => {
            let message =
                "missing: the file of the cloud's private key (openssl genpkey -algorithm ed25519)";
            return Err(loaded.error("link.sign", message));
        }
        Role::Cloud if link.verify.is_some() => return only("link.verify", "edge"),
        Role::Cloud if !link.subscribe.is_empty() => return only("link.subscribe", "edge"),
        Role::Edge if link.verify.is_none() => {
            let message = "missing: the file of the cloud's public key (openssl pkey -in private.pem -pubout)";
            return Err(loaded.error("link.verify", message));
        }
        Role::Edge if link.sign.is_some() => return only("link.sign", "cloud"),
        Role::Edge if config.mode == Mode::Replay => {
            let message = "an edge takes models when they come: set live";
            return Err(loaded.error("mode", message));
        }
        _ => {}
    }
    match link.kafka.problems().into_iter().next() {
        Some((path, message)) => Err(loaded.error(&format!("link.{path}"), message)),
        None => Ok(()),
    }
}
