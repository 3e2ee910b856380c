//! Sections `predictions` and `dead_letters`: where results go, and when their files roll.

use std::path::PathBuf;

use perennial_connectors::kafka::TopicConfig;
use perennial_connectors::sink::{Format, Roll};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::places::{AT_LEAST_ONE, Places};
use super::{ConfigError, Mode};

/// Rows of a Parquet file; a row group of that format has about as many.
const PART_ROWS: u64 = 1_000_000;
/// Age at which the rows of a live stream reach readers of Parquet files.
const PART_SECONDS: u64 = 300;
/// Bytes of a file of dead letters, which anybody who may send can fill.
const DEAD_LETTER_BYTES: u64 = 64 << 20;
/// Finished files of dead letters that are kept.
const DEAD_LETTER_FILES: u64 = 16;

/// Where predictions are written: `path` or `kafka`, one of them.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PredictionsConfig {
    /// A file; for Parquet a folder of files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// A topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka: Option<TopicConfig>,
    /// Format of the file. Default: by the file's name, else JSON Lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// When the file is finished. Default: never; for Parquet at 1,000,000 rows, in live mode also
    /// after 300 seconds.
    #[serde(default, skip_serializing_if = "is_default")]
    pub roll: Roll,
}

impl PredictionsConfig {
    /// The format of the file.
    pub fn file_format(&self) -> Format {
        let by_name = || self.path.as_deref().map_or(Format::Jsonl, Format::of);
        self.format.unwrap_or_else(by_name)
    }

    /// When the file is finished.
    pub fn roll(&self, mode: Mode) -> Roll {
        let default = Roll {
            rows: Some(PART_ROWS),
            seconds: (mode == Mode::Live).then_some(PART_SECONDS),
            ..Roll::default()
        };
        match self.file_format() {
            Format::Parquet => self.roll.or(&default),
            Format::Jsonl | Format::Csv => self.roll.clone(),
        }
    }

    pub(super) fn check(&self, mode: Mode, places: &Places) -> Result<(), ConfigError> {
        let (roll, is_parquet) = (&self.roll, self.file_format() == Format::Parquet);
        let is_file = self.path.is_some();
        check_roll(roll, "predictions", is_file, is_parquet, mode, places)?;
        let message = "expected \"path\" or \"kafka\", one of them";
        let is_one = self.path.is_some() != self.kafka.is_some();
        places.require(is_one, "predictions", message)?;
        let message = "the format of a topic is predictions.kafka.format";
        let is_of_file = self.format.is_none() || self.path.is_some();
        places.require(is_of_file, "predictions.format", message)
    }
}

/// Where unusable records are written: `path` or `kafka`, at most one of them.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeadLettersConfig {
    /// A JSON Lines file. Default, without a topic: `dead-letters.jsonl` in the state folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// A topic, which gets the records byte for byte, with the reason in a header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka: Option<DeadLetterTopic>,
    /// When the file is finished, and how many are kept. Default: 64 MiB, and 16 finished files.
    #[serde(default, skip_serializing_if = "is_default")]
    pub roll: Roll,
}

impl DeadLettersConfig {
    /// When the file is finished, and how many are kept.
    pub fn roll(&self) -> Roll {
        self.roll.or(&Roll {
            bytes: Some(DEAD_LETTER_BYTES),
            keep: Some(DEAD_LETTER_FILES),
            ..Roll::default()
        })
    }

    pub(super) fn check(&self, mode: Mode, places: &Places) -> Result<(), ConfigError> {
        let is_file = self.kafka.is_none();
        check_roll(&self.roll, "dead_letters", is_file, false, mode, places)?;
        let message = "\"path\" and \"kafka\" exclude each other";
        let is_both = self.path.is_some() && self.kafka.is_some();
        places.require(!is_both, "dead_letters", message)
    }
}

/// A topic of unusable records, byte for byte as they were read.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeadLetterTopic {
    /// Name of the topic.
    pub topic: String,
}

/// Whether a file rolls as it does by default.
pub(super) fn is_default(roll: &Roll) -> bool {
    *roll == Roll::default()
}

/// Checks when the file of the output `section` rolls.
pub(super) fn check_roll(
    roll: &Roll,
    section: &str,
    is_file: bool,
    is_parquet: bool,
    mode: Mode,
    places: &Places,
) -> Result<(), ConfigError> {
    let path = |key: &str| format!("{section}.roll.{key}");
    let message = "only a file rolls: set path, or remove this";
    let is_valid = is_file || is_default(roll);
    places.require(is_valid, &format!("{section}.roll"), message)?;
    let message = "a Parquet file rolls by rows: set roll.rows";
    let is_valid = roll.bytes.is_none() || !is_parquet;
    places.require(is_valid, &path("bytes"), message)?;
    let message = "only Parquet files roll by rows: set roll.bytes";
    let is_valid = roll.rows.is_none() || is_parquet;
    places.require(is_valid, &path("rows"), message)?;
    let message = "a replay is the same each time, so its files roll by size alone: set mode: \
                   live, or remove this";
    let is_valid = roll.seconds.is_none() || mode == Mode::Live;
    places.require(is_valid, &path("seconds"), message)?;
    let limits = [
        ("bytes", roll.bytes),
        ("rows", roll.rows),
        ("seconds", roll.seconds),
    ];
    for (key, limit) in limits {
        places.require(limit != Some(0), &path(key), AT_LEAST_ONE)?;
    }
    Ok(())
}
