//! Section `bootstrap`: the samples that the first models are trained on.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::share::SamplesShare;
use super::{ConfigError, ConfigFile, Role};

pub(crate) fn check_bootstrap(loaded: &ConfigFile) -> Result<(), ConfigError> {
    let bootstrap = &loaded.config.bootstrap;
    if loaded.config.role == Role::Edge {
        let message =
            "nobody trains first models on it: remove this, or set share.samples or link.train";
        let trains = loaded.config.link.as_ref().is_some_and(|link| link.train);
        match bootstrap.is_none() {
            true => return Ok(()),
            false if loaded.config.share.samples == SamplesShare::None && !trains => {
                return Err(loaded.error("bootstrap", message));
            }
            false => {}
        }
    }
    match (bootstrap.share, bootstrap.records) {
        (Some(share), None) if share > 0.0 && share < 1.0 => Ok(()),
        (Some(_), None) => Err(loaded.error("bootstrap.share", "expected a share between 0 and 1")),
        (None, Some(0)) => Err(loaded.error(
            "bootstrap.records",
            "expected at least 1: without a bootstrap no model answers",
        )),
        (None, Some(_)) => Ok(()),
        _ => Err(loaded.error(
            "bootstrap",
            "expected \"share\" or \"records\", one of them",
        )),
    }
}

/// The head of the stream for the initial training: `share` or `records`, one of them.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BootstrapConfig {
    /// Share of a bounded stream's records, between 0 and 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// Number of records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<u64>,
}

impl BootstrapConfig {
    /// Whether there is none.
    pub fn is_none(&self) -> bool {
        self.share.is_none() && self.records.is_none()
    }
}
