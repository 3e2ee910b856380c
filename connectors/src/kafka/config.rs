//! The settings of Kafka.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::Problem;

/// How to reach Kafka, and which partitions this process has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KafkaConfig {
    /// Brokers to begin with: `host:port`, separated by commas.
    pub brokers: String,
    /// The consumer group under which offsets are committed. Default: the pipeline's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The partitions that this process reads, such as `0-3` or `0,2,5-7`, of the samples and of
    /// the labels. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partitions: Option<Partitions>,
    /// Whether results can repeat after a crash.
    #[serde(default)]
    pub delivery: Delivery,
    /// The registry of Avro schemas, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<RegistryConfig>,
    /// Longest time in seconds that a run waits for Kafka and the registry when it begins, and that
    /// a message waits for a schema that the registry does not give although it works.
    #[serde(default = "default_wait_seconds")]
    pub wait_seconds: u64,
    /// Settings of librdkafka, by its names, such as `security.protocol`. `file:PATH` stands for
    /// the content of the file, without the line break at its end.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, OptionValue>,
}

fn default_wait_seconds() -> u64 {
    300
}

/// A schema registry with the protocol of Confluent's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RegistryConfig {
    /// Its address: `http://host:port`.
    pub url: String,
    /// User of basic authentication.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Its password; `file:PATH` is read from the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<OptionValue>,
    /// The file with the certificates (PEM) that are trusted for https. Default: the authorities
    /// that Mozilla trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
}

/// How results are delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// Results are written in transactions: a reader with `read_committed` gets each once.
    #[default]
    ExactlyOnce,
    /// Results can repeat after a crash.
    AtLeastOnce,
}

/// A value of [`KafkaConfig::options`]. It may be a secret, so neither `Debug` nor an error shows
/// it.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum OptionValue {
    /// `true` or `false`.
    Switch(bool),
    /// A number.
    Number(serde_json::Number),
    /// A text.
    Text(String),
}

impl fmt::Debug for OptionValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// A set of partitions, written as `0-3` or `0,2,5-7`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "PartitionsText", into = "String")]
#[schemars(with = "PartitionsText")]
pub struct Partitions(BTreeSet<i32>);

/// Partitions as a user writes them: one alone can be a number.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum PartitionsText {
    One(i32),
    Text(String),
}

/// Bound on a range of partitions, above what any topic has.
const MOST_PARTITIONS: usize = 100_000;

impl Partitions {
    /// Whether `partition` is in the set.
    pub fn contains(&self, partition: i32) -> bool {
        self.0.contains(&partition)
    }

    /// The partitions, ascending.
    pub fn iter(&self) -> impl Iterator<Item = i32> {
        self.0.iter().copied()
    }
}

impl TryFrom<PartitionsText> for Partitions {
    type Error = String;

    fn try_from(text: PartitionsText) -> Result<Self, String> {
        let text = match text {
            PartitionsText::One(partition) => partition.to_string(),
            PartitionsText::Text(text) => text,
        };
        let expected = || format!("\"{text}\" is no list of partitions such as 0-3 or 0,2,5-7");
        let number = |text: &str| text.trim().parse::<i32>().ok().filter(|n| *n >= 0);
        let mut partitions = BTreeSet::new();
        for part in text.split(',') {
            let (from, to) = part.split_once('-').unwrap_or((part, part));
            match (number(from), number(to)) {
                (Some(from), Some(to))
                    if from <= to && ((to - from) as usize) < MOST_PARTITIONS =>
                {
                    partitions.extend(from..=to);
                }
                _ => return Err(expected()),
            }
        }
        Ok(Partitions(partitions))
    }
}

impl From<Partitions> for String {
    fn from(partitions: Partitions) -> String {
        partitions.to_string()
    }
}

impl fmt::Display for Partitions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.iter().peekable();
        let mut separator = "";
        while let Some(from) = rest.next() {
            let mut to = from;
            while let Some(next) = rest.next_if(|next| *next == to + 1) {
                to = next;
            }
            match to - from {
                0 => write!(f, "{separator}{from}")?,
                _ => write!(f, "{separator}{from}-{to}")?,
            }
            separator = ",";
        }
        Ok(())
    }
}

/// A topic to read or write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TopicConfig {
    /// The topic's name.
    pub topic: String,
    /// The format of the records' values.
    #[serde(default)]
    pub format: TopicFormat,
    /// The file (.avsc) of the schema that the records were written with, for Avro without a
    /// registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<PathBuf>,
}

/// The format of records' values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TopicFormat {
    /// A JSON object.
    #[default]
    Json,
    /// An Avro record: bare, or with the id of its schema in the registry.
    Avro,
}

/// Options that the pipeline sets itself, since its guarantees depend on them, and what to do
/// instead.
const OWN: [(&str, &str); 10] = [
    ("bootstrap.servers", "set kafka.brokers"),
    ("metadata.broker.list", "set kafka.brokers"),
    ("group.id", "set kafka.group"),
    (
        "transactional.id",
        "it is made of the group and the partitions",
    ),
    (
        "enable.auto.commit",
        "offsets are committed with the results",
    ),
    (
        "enable.auto.offset.store",
        "offsets are committed with the results",
    ),
    ("auto.offset.reset", "set source.kafka.from"),
    ("enable.partition.eof", "the source needs it"),
    ("enable.idempotence", "the sink needs it"),
    ("acks", "the sink needs all"),
];

/// The option with the timeout of transactions.
pub const TRANSACTION_TIMEOUT: &str = "transaction.timeout.ms";

/// Milliseconds of [`TRANSACTION_TIMEOUT`] by default.
const DEFAULT_TRANSACTION_TIMEOUT: u64 = 60_000;

impl KafkaConfig {
    /// The default settings for these brokers.
    pub fn new(brokers: impl Into<String>) -> KafkaConfig {
        KafkaConfig {
            brokers: brokers.into(),
            group: None,
            partitions: None,
            delivery: Delivery::default(),
            registry: None,
            wait_seconds: default_wait_seconds(),
            options: BTreeMap::new(),
        }
    }

    /// How long a transaction may be open before Kafka aborts it.
    pub fn transaction_timeout(&self) -> Duration {
        let given = match self.options.get(TRANSACTION_TIMEOUT) {
            Some(OptionValue::Number(number)) => number.as_u64(),
            Some(OptionValue::Text(text)) => text.trim().parse().ok(),
            Some(OptionValue::Switch(_)) | None => None,
        };
        Duration::from_millis(given.unwrap_or(DEFAULT_TRANSACTION_TIMEOUT))
    }

    /// Every reason why the settings cannot be used, whatever the broker; empty if there is none.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.brokers.trim().is_empty() {
            problems.push(("kafka.brokers".into(), "expected host:port".into()));
        }
        for (key, why) in OWN {
            if self.options.contains_key(key) {
                let message = format!("the pipeline sets this itself: {why}");
                problems.push((format!("kafka.options.{key}"), message));
            }
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partitions(json: &str) -> Result<Partitions, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn partitions_are_read_and_written() {
        for (json, shown) in [
            ("\"0-3\"", "0-3"),
            ("7", "7"),
            ("\" 5 - 6,0,1, 9\"", "0-1,5-6,9"),
        ] {
            assert_eq!(partitions(json).unwrap().to_string(), shown);
        }
        for json in ["\"\"", "\"3-1\"", "\"a\"", "-1", "\"0-2000000000\""] {
            let error = partitions(json).unwrap_err();
            assert!(error.contains("no list of partitions"), "{error}");
        }
    }

    #[test]
    fn options_are_not_shown() {
        let config: KafkaConfig = serde_json::from_str(
            r#"{"brokers": "b", "options": {"sasl.password": "secret", "acks": 1, "x": true}}"#,
        )
        .unwrap();
        assert!(!format!("{config:?}").contains("secret"));
        let problems = config.problems();
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].0, "kafka.options.acks");
    }
}
