//! Section `kafka`: the brokers and what is on their topics.

use perennial_connectors::kafka::{Delivery, KafkaConfig, TRANSACTION_TIMEOUT};

use super::places::Places;
use super::{CommitConfig, ConfigError, Mode, SourceConfig};

/// Message about a missing section.
pub(super) const MISSING: &str = "missing: it says how to reach Kafka (brokers)";

/// Checks the section, which is required where samples or results are on topics.
pub(super) fn check_kafka(
    kafka: Option<&KafkaConfig>,
    source: &SourceConfig,
    has_output: bool,
    (mode, commit): (Mode, &CommitConfig),
    places: &Places,
) -> Result<(), ConfigError> {
    let has_topics = source.kafka.is_some() || has_output;
    let Some(kafka) = kafka else {
        return places.require(!has_topics, "kafka", MISSING);
    };
    let message = "nothing is on a topic: remove this, or set source.kafka";
    places.require(has_topics, "kafka", message)?;
    let message = "only what was read from Kafka is written to it exactly once: set at_least_once, \
                   or bring the samples to a topic first";
    let can_deliver = source.kafka.is_some() || kafka.delivery != Delivery::ExactlyOnce;
    places.require(can_deliver, "kafka.delivery", message)?;
    let samples = source.kafka.as_ref();
    let is_endless = samples.is_some_and(|samples| !samples.stop_at_end);
    let message = "a replay has an end: set source.kafka.stop_at_end, or live here";
    places.require(!(is_endless && mode == Mode::Replay), "mode", message)?;
    if has_output && mode == Mode::Live && kafka.delivery == Delivery::ExactlyOnce {
        check_interval(kafka, commit, places)?;
    }
    places.require_none(kafka.problems())
}

/// Checks that Kafka does not abort a transaction before its commit is due. Half of the timeout is
/// left for the commit itself.
fn check_interval(
    kafka: &KafkaConfig,
    commit: &CommitConfig,
    places: &Places,
) -> Result<(), ConfigError> {
    let timeout = kafka.transaction_timeout().as_millis() as u64;
    let message = format!(
        "expected at most {}, half of kafka.options.{TRANSACTION_TIMEOUT} ({timeout}): Kafka \
         aborts a transaction that is open for longer",
        timeout / 2
    );
    let is_short = commit.interval_ms <= timeout / 2;
    places.require(is_short, "commit.interval_ms", message)
}
