//! How labels are asked for.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ConfigError, ConfigFile};

/// Which labels are asked for: those that help most, within a budget. Left out, none are. It needs `unseen`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LabelRequestsConfig {
    /// Labels a day of the stream's clock.
    pub per_day: f64,
    /// A JSON Lines file of requests. Without it and without a topic, `perennial label` tells of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Or a topic of requests, as JSON, each with the key of its sample.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka: Option<RequestTopic>,
}

/// A topic of label requests.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RequestTopic {
    /// The topic's name.
    pub topic: String,
}

pub(super) fn check(loaded: &ConfigFile) -> Result<(), ConfigError> {
    let labels = &loaded.config.labels;
    if labels.on_request && labels.kafka.is_some() {
        let message = "labels on a topic are known when they come: remove this";
        return Err(loaded.error("labels.on_request", message));
    }
    let Some(requests) = &loaded.config.label_requests else {
        let message = "nobody asks for labels: add label_requests, with per_day";
        return match labels.on_request {
            true => Err(loaded.error("labels.on_request", message)),
            false => Ok(()),
        };
    };
    if loaded.config.unseen.is_none() {
        let message = "it needs a section \"unseen\", which says what is known";
        return Err(loaded.error("label_requests", message));
    }
    if !(requests.per_day > 0.0 && requests.per_day.is_finite()) {
        let message = "expected a number above 0";
        return Err(loaded.error("label_requests.per_day", message));
    }
    if requests.path.is_some() && requests.kafka.is_some() {
        let message = "\"path\" and \"kafka\" exclude each other";
        return Err(loaded.error("label_requests", message));
    }
    Ok(())
}
