//! What all users of Kafka share: settings, clients, errors, health, headers.

mod arrivals;
mod client;
mod config;
mod headers;
mod health;
mod outage;
mod preflight;
mod scratch_topics;
mod topic;
mod topic_ids;
mod topic_watch;
mod wait;

use thiserror::Error;

pub use self::arrivals::Arrivals;
pub(crate) use self::client::{
    Client, PATIENCE, Undelivered, admin, consumer, is_lost, is_refusal, is_too_large, known_end,
    option, producer, queued_consumer, remind,
};
pub use self::config::{
    Delivery, KafkaConfig, OptionValue, Partitions, RegistryConfig, TRANSACTION_TIMEOUT,
    TopicConfig, TopicFormat,
};
pub(crate) use self::headers::{Headers, pack, push_header};
pub use self::health::Health;
pub(crate) use self::health::Side;
pub use self::outage::OutageCount;
pub(crate) use self::preflight::{ask_by_consumer, ask_by_consumer_until, ask_by_producer};
pub use self::scratch_topics::ScratchTopics;
pub(crate) use self::topic::topic_partitions;
pub(crate) use self::topic_ids::topic_ids;
pub(crate) use self::topic_watch::TopicWatch;
pub use self::wait::wait_for_brokers;

/// Failures of Kafka that end what was tried. While a run goes on, its sources and sinks wait for
/// failures that pass by themselves and report them through [`Health`] instead.
#[derive(Debug, Error)]
pub enum KafkaError {
    /// A setting that librdkafka does not take.
    #[error("kafka.options: {0}")]
    Option(String),
    /// A secret that cannot be read.
    #[error("kafka.options.{key}: the file {path} cannot be read: {reason}")]
    Secret {
        /// The option.
        key: String,
        /// The file that it names.
        path: String,
        /// Why.
        reason: std::io::Error,
    },
    /// An Avro schema that cannot be used.
    #[error("{0}")]
    Schema(String),
    /// No broker answers.
    #[error(
        "no Kafka broker answers at {brokers}: {reason}. Start it, or set kafka.brokers, or kafka.options.security.protocol if it takes TLS or SASL alone"
    )]
    Unreachable {
        /// The setting.
        brokers: String,
        /// The message of librdkafka.
        reason: String,
    },
    /// A broker answers, but rejects this client.
    #[error(
        "Kafka at {brokers} does not let this client in: {reason}. Check kafka.options: security.protocol, the certificates, and the user and password"
    )]
    TurnedAway {
        /// The setting.
        brokers: String,
        /// The message of librdkafka.
        reason: String,
    },
    /// A broker rejects a message for its size, and the message cannot be split or shortened.
    #[error(
        "the topic \"{topic}\" does not take messages of the size that they have, of up to {bytes} bytes: set its max.message.bytes above that, or kafka.options.batch.size below max.message.bytes if it is many small messages together that are too large"
    )]
    TooLarge {
        /// The topic.
        topic: String,
        /// Size of the longest refused message: key, headers and value.
        bytes: usize,
    },
    /// The topic does not exist.
    #[error(
        "the topic \"{topic}\" does not exist at {brokers}. Create it: kafka-topics.sh --bootstrap-server {brokers} --create --topic {topic} --partitions 4"
    )]
    NoTopic {
        /// The topic.
        topic: String,
        /// The setting.
        brokers: String,
    },
    /// A partition of `kafka.partitions` does not exist.
    #[error(
        "the topic \"{topic}\" has {count} partitions, numbered from 0, and kafka.partitions asks for {partition}"
    )]
    NoPartition {
        /// The topic.
        topic: String,
        /// Number of its partitions.
        count: usize,
        /// The partition in `kafka.partitions`.
        partition: i32,
    },
    /// The records at which reading resumes have been deleted.
    #[error(
        "the records to go on with are no longer in {topic}[{partition}]: offset {offset} is wanted, and it has {low} to {high}. Set {setting}: earliest to go on with the oldest that are left, or latest with new ones; what is skipped is counted"
    )]
    Gone {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The offset to resume at.
        offset: i64,
        /// The first offset that exists.
        low: i64,
        /// The offset after the last.
        high: i64,
        /// The setting that lets the pipeline go on.
        setting: &'static str,
    },
    /// A topic was deleted and made anew after it was last read.
    #[error(
        "the topic \"{topic}\" was deleted and made anew, so that offset {offset} of partition {partition} no longer is the record to go on with. Set {setting}: earliest to read it from its beginning, or latest to read new records alone"
    )]
    Remade {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The offset to resume at.
        offset: i64,
        /// The setting that lets the pipeline go on.
        setting: &'static str,
    },
    /// The topics of samples and labels differ in their number of partitions.
    #[error(
        "the topic \"{samples}\" has {sample_count} partitions and \"{labels}\" has {label_count}: give both the same number, so that labels are in the partitions of their samples"
    )]
    Unmatched {
        /// The topic of the samples.
        samples: String,
        /// Its partitions.
        sample_count: usize,
        /// The topic of the labels.
        labels: String,
        /// Its partitions.
        label_count: usize,
    },
    /// Messages could not be delivered.
    #[error("{count} messages could not be delivered to {brokers}: {reason}")]
    Undelivered {
        /// Number of messages.
        count: u64,
        /// The setting.
        brokers: String,
        /// Why the first of them was not delivered.
        reason: String,
    },
    /// Another process has taken the transactional id.
    #[error(
        "another process has taken over the partitions {partitions} of this pipeline (transactional id \"{id}\"): this one has stopped, and nothing that it had not committed counts. Give each process kafka.partitions of its own; if there is no other one, start this one again"
    )]
    Fenced {
        /// The partitions of this process.
        partitions: String,
        /// The transactional id.
        id: String,
    },
    /// Another process of the group has some of the partitions.
    #[error(
        "another process of the consumer group \"{group}\" reads the partitions {other}, and this one {own}: what is in those of both would count twice, so this one has stopped. Give each process kafka.partitions of its own; if that process is no longer meant to run, give this one another kafka.group and another --state folder"
    )]
    Shared {
        /// The group.
        group: String,
        /// The partitions of this process.
        own: String,
        /// The partitions of the other one.
        other: String,
    },
    /// The outcome of the last transaction is unknown.
    #[error(
        "Kafka at {brokers} did not say whether the last transaction counts ({reason}): this process has stopped, and nothing is lost. Start it again, and it finds out"
    )]
    Undecided {
        /// The setting.
        brokers: String,
        /// The message of librdkafka or the broker.
        reason: String,
    },
    /// The offsets of the group and the knowledge base are of different commits.
    #[error(
        "the consumer group \"{group}\" is at commit {found} of this pipeline and the knowledge base at {known}: they do not belong together. Restore the state folder that goes with the group, or give another kafka.group and another --state folder"
    )]
    Apart {
        /// The group.
        group: String,
        /// The commit number in the group's offsets.
        found: u64,
        /// The commit number of the knowledge base.
        known: u64,
    },
    /// A commit is prepared, and the group no longer tells whether it counts.
    #[error(
        "the consumer group \"{group}\" has no commits any more, as Kafka drops those of a group that was idle for offsets.retention.minutes: so it cannot be told whether commit {number} of this pipeline counts. If the topic of predictions has results of it, run perennial kb settle apply with this --state, else perennial kb settle drop"
    )]
    Forgotten {
        /// The group.
        group: String,
        /// The number of the prepared commit.
        number: u64,
    },
    /// A commit is prepared, and the config has no group to ask whether it counts.
    #[error(
        "the last run ended in the middle of commit {number} to Kafka, and its consumer group tells whether it counts: run the pipeline once with the section kafka that it had"
    )]
    NoGroup {
        /// The number of the prepared commit.
        number: u64,
    },
    /// Any other definite failure.
    #[error("Kafka at {brokers}: {reason}")]
    Failed {
        /// The setting.
        brokers: String,
        /// The message of librdkafka or the broker.
        reason: String,
    },
}

impl KafkaError {
    /// Whether the same attempt may succeed later without a change by the user. All other errors
    /// are definite.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            KafkaError::Unreachable { .. } | KafkaError::Undelivered { .. }
        )
    }
}
