//! Section `bootstrap`: the samples that the first models are trained on.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::link::LinkConfig;
use super::places::Places;
use super::share::{SamplesShare, ShareConfig};
use super::{ConfigError, Role};

/// Head of the stream for the initial training: `share` or `records`, one of them.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BootstrapConfig {
    /// Share of the stream's records, between 0 and 1. The stream must have an end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// Number of records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<u64>,
}

impl BootstrapConfig {
    /// Whether the section is empty.
    pub fn is_none(&self) -> bool {
        self.share.is_none() && self.records.is_none()
    }

    /// Checks the section. An edge may leave it out; if it has one, the edge or the cloud must
    /// train on its samples.
    pub(super) fn check(
        &self,
        role: Role,
        share: &ShareConfig,
        link: Option<&LinkConfig>,
        places: &Places,
    ) -> Result<(), ConfigError> {
        if role == Role::Edge {
            if self.is_none() {
                return Ok(());
            }
            let trains_here = link.is_some_and(|link| link.train);
            let is_used = share.samples != SamplesShare::None || trains_here;
            let message =
                "nobody trains first models on it: remove this, or set share.samples or link.train";
            places.require(is_used, "bootstrap", message)?;
        }
        match (self.share, self.records) {
            (Some(share), None) => {
                let message = "expected a share between 0 and 1";
                places.require(share > 0.0 && share < 1.0, "bootstrap.share", message)
            }
            (None, Some(records)) => {
                let message = "expected at least 1: without a bootstrap no model answers";
                places.require(records > 0, "bootstrap.records", message)
            }
            _ => {
                let message = "expected \"share\" or \"records\", one of them";
                Err(places.error("bootstrap", message))
            }
        }
    }
}
