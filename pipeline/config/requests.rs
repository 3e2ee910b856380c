//! Section `label_requests`: which labels are requested.

use std::path::PathBuf;

use perennial_connectors::sink::Roll;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::outputs::{check_roll, is_default};
use super::places::Places;
use super::{ConfigError, Mode};

/// Which labels are requested: the most useful ones, within a budget. Left out, none are. Needs
/// `unseen`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LabelRequestsConfig {
    /// Maximum number of labels requested a day of the stream's clock.
    pub per_day: f64,
    /// A JSON Lines file of requests. Without it and without a topic, `perennial label` lists them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// A topic of requests, as JSON, each with the key of its sample.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka: Option<RequestTopic>,
    /// When the file is finished. Default: never.
    #[serde(default, skip_serializing_if = "is_default")]
    pub roll: Roll,
}

/// A topic of label requests.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RequestTopic {
    /// Name of the topic.
    pub topic: String,
}

impl LabelRequestsConfig {
    pub(super) fn check(
        &self,
        has_unseen: bool,
        mode: Mode,
        places: &Places,
    ) -> Result<(), ConfigError> {
        let is_file = self.path.is_some();
        check_roll(&self.roll, "label_requests", is_file, false, mode, places)?;
        let message = "it needs a section \"unseen\", which says what is known";
        places.require(has_unseen, "label_requests", message)?;
        let is_valid = self.per_day > 0.0 && self.per_day.is_finite();
        let message = "expected a number above 0";
        places.require(is_valid, "label_requests.per_day", message)?;
        let message = "\"path\" and \"kafka\" exclude each other";
        let is_both = self.path.is_some() && self.kafka.is_some();
        places.require(!is_both, "label_requests", message)
    }
}
