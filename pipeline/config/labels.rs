//! Section `labels`: where labels come from and when they become known.

use std::path::PathBuf;

use perennial_connectors::kafka::TopicConfig;
use perennial_connectors::source::file::FileFormat;
use perennial_operators::label::{Delay, LabelTiming};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::places::Places;
use super::{ConfigError, SourceConfig};

/// Number of records that a sample on a topic waits for its label by default.
const DEFAULT_WAIT: u64 = 100_000;

/// Where labels come from and when they become known.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LabelsConfig {
    /// A file of labels, if the samples do not contain them. All of it is held in memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Format of the label file. Default: by the file's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<FileFormat>,
    /// A topic of labels, if the samples do not contain them. A label is known when it arrives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka: Option<TopicConfig>,
    /// Column with the sample's id in a file or topic of labels. Default: as in the schema.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Time between a sample and its label, where samples contain their labels or a file does.
    #[serde(default)]
    pub delay: DelayConfig,
    /// Whether only requested labels (`label_requests`) become known, as if people gave them. A
    /// recorded stream then shows what label requests would have achieved.
    #[serde(default)]
    pub on_request: bool,
    /// How long a sample waits for its label, and a label for its sample, where labels have a
    /// topic. Seconds count from when the sample was read. Default: 100,000 records.
    #[serde(default)]
    pub wait: DelayConfig,
}

impl LabelsConfig {
    /// Checks that the labels can come with the samples of the source.
    pub(super) fn check(&self, source: &SourceConfig, places: &Places) -> Result<(), ConfigError> {
        let has_path = self.path.is_some();
        let message = "the simulator brings its own labels: remove this";
        let is_extra = source.simulator.is_some() && has_path;
        places.require(!is_extra, "labels.path", message)?;
        let message =
            "labels of samples on a topic are on a topic too (labels.kafka), or in the samples";
        let is_elsewhere = source.kafka.is_some() && has_path;
        places.require(!is_elsewhere, "labels.path", message)?;
        let says_more =
            has_path || self.kafka.is_some() || self.on_request || self.delay.is_given();
        let message = "what edges share has its labels, which are known: remove this";
        places.require(!(source.edges.is_some() && says_more), "labels", message)?;
        if self.kafka.is_some() {
            let message = "only samples on a topic (source.kafka) have labels on a topic";
            places.require(source.kafka.is_some(), "labels.kafka", message)?;
            let message =
                "labels on a topic are known when they come: remove this, or set labels.wait";
            places.require(!self.delay.is_given(), "labels.delay", message)?;
        }
        Ok(())
    }

    /// Checks that labels which become known on request are requested.
    pub(super) fn check_requests(
        &self,
        are_requested: bool,
        places: &Places,
    ) -> Result<(), ConfigError> {
        if !self.on_request {
            return Ok(());
        }
        let message = "labels on a topic are known when they come: remove this";
        places.require(self.kafka.is_none(), "labels.on_request", message)?;
        let message = "nobody asks for labels: add label_requests, with per_day";
        places.require(are_requested, "labels.on_request", message)
    }

    /// How labels come to their samples.
    pub(super) fn timing(&self, places: &Places) -> Result<LabelTiming, ConfigError> {
        let wait = self.wait.delay("labels.wait", DEFAULT_WAIT, places)?;
        let delay = self.delay.delay("labels.delay", 0, places)?;
        Ok(if self.kafka.is_some() {
            LabelTiming::SeparateStream(wait)
        } else if self.on_request {
            LabelTiming::OnRequest(delay)
        } else {
            LabelTiming::InSample(delay)
        })
    }
}

/// A length of time: `records` or `seconds`, at most one of them.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DelayConfig {
    /// Number of later samples after which the time has passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<u64>,
    /// Seconds of the stream's clock. In replay this clock is the latest event time read so far,
    /// but for lone ones of the far future; in live mode and for `produce.delay` it is the wall
    /// clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
}

impl DelayConfig {
    pub(super) fn is_given(&self) -> bool {
        self.records.is_some() || self.seconds.is_some()
    }

    /// The delay at `path`; `default` records if none is given.
    pub(super) fn delay(
        &self,
        path: &str,
        default: u64,
        places: &Places,
    ) -> Result<Delay, ConfigError> {
        match (self.records, self.seconds) {
            (Some(_), Some(_)) => {
                Err(places.error(path, "\"records\" and \"seconds\" exclude each other"))
            }
            (_, Some(seconds)) if !(0.0..=1e12).contains(&seconds) => {
                Err(places.error(&format!("{path}.seconds"), "expected a number from 0"))
            }
            (None, Some(seconds)) => Ok(Delay::Time((seconds * 1e6) as i64)),
            (given, None) => Ok(Delay::Records(given.unwrap_or(default))),
        }
    }
}
