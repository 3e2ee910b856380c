//! Section `share`: what leaves an edge.

use std::path::PathBuf;

use perennial_connectors::schema::Schema;
use perennial_operators::TaskLevels;
use perennial_operators::share::{SampleRules, SharePolicy, Treatment};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::places::{Places, did_you_mean};
use super::{ConfigError, Role};

/// What an edge shares with the cloud. Left out, nothing.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ShareConfig {
    /// Which samples leave: none; all, with some columns left out or replaced by pseudonyms; or all
    /// as they are. A sample leaves once its label is known.
    pub samples: SamplesShare,
    /// Columns that do not leave.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub redact: Vec<String>,
    /// Columns, the id or attributes, that leave as pseudonyms: the cloud sees which values are
    /// equal, and nothing else.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pseudonyms: Vec<String>,
    /// File of the secret that pseudonyms are made with; it never leaves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<PathBuf>,
    /// Whether statistics of tasks leave: numbers of labels, and how well they were predicted.
    /// Where samples leave, the cloud makes its own statistics instead.
    pub statistics: bool,
    /// Whether models that are trained here (`link.train`) leave, for others to start from.
    pub models: bool,
}

/// Which samples leave an edge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SamplesShare {
    /// None.
    #[default]
    None,
    /// All, with some columns left out or replaced by pseudonyms.
    Redacted,
    /// All, as they are.
    Raw,
}

impl ShareConfig {
    /// Whether anything leaves.
    pub fn anything(&self) -> bool {
        self.samples != SamplesShare::None || self.statistics || self.models
    }

    /// The policy of the section, without the secret; none if nothing leaves.
    pub(super) fn policy(
        &self,
        role: Role,
        schema: &Schema,
        levels: &TaskLevels,
        places: &Places,
    ) -> Result<Option<SharePolicy>, ConfigError> {
        self.check_columns(schema, places)?;
        self.check(role, places)?;
        if !self.anything() {
            return Ok(None);
        }
        let attributes: Vec<(String, Treatment)> = schema
            .attribute_names()
            .map(|name| (name.to_string(), self.treatment(name)))
            .collect();
        let features = schema.features.iter().map(|feature| {
            let name = feature.column();
            (name.to_string(), self.treatment(name) == Treatment::Shared)
        });
        let rules = SampleRules {
            id: (schema.id.clone(), self.treatment(&schema.id)),
            attributes: attributes.clone(),
            features: features.collect(),
        };
        Ok(Some(SharePolicy {
            samples: (self.samples != SamplesShare::None).then_some(rules),
            attributes,
            statistics: self.statistics,
            models: self.models,
            levels: levels.clone(),
            pseudonyms: None,
        }))
    }

    fn treatment(&self, column: &str) -> Treatment {
        if self.redact.iter().any(|name| name == column) {
            Treatment::Withheld
        } else if self.pseudonyms.iter().any(|name| name == column) {
            Treatment::Pseudonym
        } else {
            Treatment::Shared
        }
    }

    /// Checks that models can be shared only where they are trained.
    pub(super) fn check_models(
        &self,
        trains_here: bool,
        places: &Places,
    ) -> Result<(), ConfigError> {
        let message = "no models are trained here that could be shared: set link.train";
        places.require(!self.models || trains_here, "share.models", message)
    }

    fn check_columns(&self, schema: &Schema, places: &Places) -> Result<(), ConfigError> {
        for (number, name) in self.redact.iter().enumerate() {
            check_column(name, schema, &format!("share.redact[{number}]"), places)?;
        }
        for (number, name) in self.pseudonyms.iter().enumerate() {
            let path = format!("share.pseudonyms[{number}]");
            check_column(name, schema, &path, places)?;
            let is_text = schema.id == *name || schema.attribute_names().any(|known| known == name);
            let message = "only the id and attributes have pseudonyms: redact it";
            places.require(is_text, &path, message)?;
        }
        Ok(())
    }

    fn check(&self, role: Role, places: &Places) -> Result<(), ConfigError> {
        let names_columns = !self.redact.is_empty() || !self.pseudonyms.is_empty();
        let is_used = self.anything() || names_columns;
        let message = "only an edge shares: remove this";
        places.require(role == Role::Edge || !is_used, "share", message)?;
        match self.samples {
            SamplesShare::Raw => {
                let message = "raw samples leave as they are: set redacted, or remove share.redact \
                               and share.pseudonyms";
                places.require(!names_columns, "share.samples", message)?;
            }
            SamplesShare::Redacted => {
                let message =
                    "name what does not leave in share.redact or share.pseudonyms, or set raw";
                places.require(names_columns, "share.samples", message)?;
            }
            SamplesShare::None => {}
        }
        let has_pseudonyms = !self.pseudonyms.is_empty();
        let message = "missing: the file of a secret that pseudonyms are made with (openssl rand \
                       -out FILE 32)";
        let can_make = self.secret.is_some() || !has_pseudonyms;
        places.require(can_make, "share.secret", message)?;
        let message = "nothing is made with it: remove it, or name columns in share.pseudonyms";
        let is_used = self.secret.is_none() || has_pseudonyms;
        places.require(is_used, "share.secret", message)
    }
}

/// Checks that a column can be kept from leaving.
fn check_column(
    name: &str,
    schema: &Schema,
    path: &str,
    places: &Places,
) -> Result<(), ConfigError> {
    let columns = schema.columns();
    let hint = did_you_mean(name, &columns);
    let message = format!("\"{name}\" is no column of the schema{hint}");
    places.require(columns.contains(&name), path, message)?;
    let label = schema.label.as_ref();
    let is_label = label.is_some_and(|label| label.column == name);
    let message = "samples are of no use without their time and label: share none";
    places.require(!is_label && schema.time != name, path, message)
}
