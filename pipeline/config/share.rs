//! What leaves a site.

use std::path::PathBuf;

use perennial_connectors::schema::Schema;
use perennial_operators::TaskLevels;
use perennial_operators::share::{SampleRules, SharePolicy, Treatment};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::places::nearest;
use super::{ConfigError, ConfigFile, Role};

/// What an edge shares with the cloud. Left out, nothing.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ShareConfig {
    /// Which samples leave: none, all with some fields left out or under pseudonyms, or all as they are. Those with labels
    /// leave, once these are known.
    pub samples: SamplesShare,
    /// Columns that do not leave.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub redact: Vec<String>,
    /// Columns, the id or attributes, of which a pseudonym leaves: equal values can be told to be equal, and no more.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pseudonyms: Vec<String>,
    /// The file of the secret that pseudonyms are made with; it never leaves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<PathBuf>,
    /// Whether it leaves how many labels there were of each task, and how well they were predicted. Where samples leave, the
    /// cloud makes statistics of its own.
    pub statistics: bool,
    /// Whether models leave that are trained here (`link.train`), for others to start from.
    pub models: bool,
}

/// See [`ShareConfig::samples`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SamplesShare {
    /// None.
    #[default]
    None,
    /// All, without some fields.
    Redacted,
    /// All, as they are.
    Raw,
}

impl ShareConfig {
    /// Whether anything leaves.
    pub fn anything(&self) -> bool {
        self.samples != SamplesShare::None || self.statistics || self.models
    }
}

/// What a config says of sharing, without the secret.
pub(super) fn policy(
    loaded: &ConfigFile,
    schema: &Schema,
    levels: &TaskLevels,
) -> Result<Option<SharePolicy>, ConfigError> {
    let share = &loaded.config.share;
    let columns: Vec<&str> = schema.columns();
    for (key, names) in [("redact", &share.redact), ("pseudonyms", &share.pseudonyms)] {
        for (number, name) in names.iter().enumerate() {
            let path = format!("share.{key}[{number}]");
            check_column(&path, loaded, schema, &columns, name)?;
            let named = schema.id == *name || schema.attribute_names().any(|known| known == name);
            if key == "pseudonyms" && !named {
                let message = "only the id and attributes have pseudonyms: redact it";
                return Err(loaded.error(&path, message));
            }
        }
    }
    check(loaded)?;
    if !share.anything() {
        return Ok(None);
    }
    let treatment = |name: &str| {
        let is_in = |names: &[String]| names.iter().any(|known| known == name);
        match (is_in(&share.redact), is_in(&share.pseudonyms)) {
            (true, _) => Treatment::Withheld,
            (_, true) => Treatment::Pseudonym,
            _ => Treatment::Shared,
        }
    };
    let attributes = schema.attribute_names();
    let attributes: Vec<_> = attributes
        .map(|name| (name.to_string(), treatment(name)))
        .collect();
    let features = schema.features.iter();
    let rules = SampleRules {
        id: (schema.id.clone(), treatment(&schema.id)),
        attributes: attributes.clone(),
        features: features
            .map(|feature| {
                let name = feature.column();
                (name.to_string(), treatment(name) == Treatment::Shared)
            })
            .collect(),
    };
    Ok(Some(SharePolicy {
        samples: (share.samples != SamplesShare::None).then_some(rules),
        attributes,
        statistics: share.statistics,
        models: share.models,
        levels: levels.clone(),
        pseudonyms: None,
    }))
}

fn check(loaded: &ConfigFile) -> Result<(), ConfigError> {
    let share = &loaded.config.share;
    let says_fields = !share.redact.is_empty() || !share.pseudonyms.is_empty();
    if loaded.config.role != Role::Edge && (share.anything() || says_fields) {
        return Err(loaded.error("share", "only an edge shares: remove this"));
    }
    match share.samples {
        SamplesShare::Raw if says_fields => {
            let message = "raw samples leave as they are: set redacted, or remove share.redact and share.pseudonyms";
            return Err(loaded.error("share.samples", message));
        }
        SamplesShare::Redacted if !says_fields => {
            let message =
                "name what does not leave in share.redact or share.pseudonyms, or set raw";
            return Err(loaded.error("share.samples", message));
        }
        _ => {}
    }
    match (share.pseudonyms.is_empty(), &share.secret) {
        (false, None) => {
            let message = "missing: the file of a secret that pseudonyms are made with (openssl rand -out FILE 32)";
            Err(loaded.error("share.secret", message))
        }
        (true, Some(_)) => {
            let message = "nothing is made with it: remove it, or name columns in share.pseudonyms";
            Err(loaded.error("share.secret", message))
        }
        _ => Ok(()),
    }
}

fn check_column(
    path: &str,
    loaded: &ConfigFile,
    schema: &Schema,
    columns: &[&str],
    name: &str,
) -> Result<(), ConfigError> {
    if !columns.contains(&name) {
        let hint = nearest(name, columns)
            .map(|near| format!("; did you mean \"{near}\"?"))
            .unwrap_or_default();
        let message = format!("\"{name}\" is no column of the schema{hint}");
        return Err(loaded.error(path, message));
    }
    let is_label = schema
        .label
        .as_ref()
        .is_some_and(|label| label.column == name);
    if is_label || schema.time == name {
        let message = "samples are of no use without their time and label: share none";
        return Err(loaded.error(path, message));
    }
    Ok(())
}
