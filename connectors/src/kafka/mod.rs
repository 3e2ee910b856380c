//! What the Kafka source and the Kafka sink share: settings, clients, health, headers.

mod arrivals;
mod ask;
mod client;
mod config;
mod headers;
mod health;
mod scratch;
mod topic;

use thiserror::Error;

pub use self::arrivals::Arrivals;
pub(crate) use self::ask::{ask_by_consumer, ask_by_producer};
pub(crate) use self::client::{
    Client, PATIENCE, Undelivered, admin, consumer, is_too_large, known_end, option, producer,
};
pub use self::config::{
    Delivery, KafkaConfig, OptionValue, Partitions, RegistryConfig, TopicConfig, TopicFormat,
};
pub(crate) use self::headers::{Headers, pack, push_header};
pub use self::health::Health;
pub(crate) use self::health::Side;
pub use self::scratch::ScratchTopics;
pub(crate) use self::topic::topic_partitions;

/// What can go wrong with Kafka as a whole. What may pass by itself is no error: it is waited for, and
/// [`Health`] says so.
#[derive(Debug, Error)]
pub enum KafkaError {
    /// A setting that librdkafka does not take.
    #[error("kafka.options: {0}")]
    Option(String),
    /// A secret that cannot be read.
    #[error("kafka.options.{key}: the file {path} cannot be read: {source}")]
    Secret {
        /// The option.
        key: String,
        /// The file that it names.
        path: String,
        /// Why.
        source: std::io::Error,
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
        /// What librdkafka says.
        reason: String,
    },
    /// A broker answers, and does not let this client in.
    #[error(
        "Kafka at {brokers} does not let this client in: {reason}. Check kafka.options: security.protocol, the certificates, and the user and password"
    )]
    TurnedAway {
        /// The setting.
        brokers: String,
        /// What librdkafka says.
        reason: String,
    },
    /// A message that a broker does not take for its size, and that cannot be sent otherwise.
    #[error(
        "the topic \"{topic}\" does not take messages of the size that they have, with values of up to {bytes} bytes: set its max.message.bytes above that, or kafka.options.batch.size below max.message.bytes if it is many small messages together that are too large"
    )]
    TooLarge {
        /// The topic.
        topic: String,
        /// The length of the longest value that was refused.
        bytes: usize,
    },
    /// The topic is not there.
    #[error(
        "the topic \"{topic}\" does not exist at {brokers}. Create it: kafka-topics.sh --bootstrap-server {brokers} --create --topic {topic} --partitions 4"
    )]
    NoTopic {
        /// The topic.
        topic: String,
        /// Where.
        brokers: String,
    },
    /// A partition that was asked for is not there.
    #[error(
        "the topic \"{topic}\" has {count} partitions, numbered from 0, and kafka.partitions asks for {partition}"
    )]
    NoPartition {
        /// The topic.
        topic: String,
        /// How many it has.
        count: usize,
        /// What was asked for.
        partition: i32,
    },
    /// The records to go on with have been deleted.
    #[error(
        "the records to go on with are no longer in {topic}[{partition}]: offset {offset} is wanted, and it has {low} to {high}. Restore them, or start anew with another --state folder and kafka.group"
    )]
    Gone {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The offset that is wanted.
        offset: i64,
        /// The first one there.
        low: i64,
        /// The one after the last.
        high: i64,
    },
    /// Topics of samples and labels whose partitions do not match.
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
    /// Messages that did not arrive.
    #[error("{count} messages could not be delivered to {brokers}: {reason}")]
    Undelivered {
        /// How many.
        count: u64,
        /// Where.
        brokers: String,
        /// Why the first of them did not.
        reason: String,
    },
    /// Another process has the same transactional id, or the transaction took too long: Kafka says the same of
    /// both, so only who starts the process again can tell.
    #[error(
        "another process has taken over the partitions {partitions} of this pipeline (transactional id \"{id}\"), or this one could not reach Kafka for longer than transaction.timeout.ms: it has stopped, and nothing that it had not committed counts. Give each process kafka.partitions of its own; if there is no other one, start this one again"
    )]
    Fenced {
        /// The partitions.
        partitions: String,
        /// The id.
        id: String,
    },
    /// It cannot be told whether the last transaction counts.
    #[error(
        "Kafka at {brokers} did not say whether the last transaction counts ({reason}): this process has stopped, and nothing is lost. Start it again, and it finds out"
    )]
    Undecided {
        /// Where.
        brokers: String,
        /// What librdkafka or the broker says.
        reason: String,
    },
    /// What the group has committed and what the knowledge base has do not belong together.
    #[error(
        "the consumer group \"{group}\" is at commit {found} of this pipeline and the knowledge base at {known}: they do not belong together. Restore the state folder that goes with the group, or give another kafka.group and another --state folder"
    )]
    Apart {
        /// The group.
        group: String,
        /// The commit that the group's offsets carry.
        found: u64,
        /// The knowledge base's.
        known: u64,
    },
    /// Anything else that does not pass by itself.
    #[error("Kafka at {brokers}: {reason}")]
    Failed {
        /// The setting.
        brokers: String,
        /// What librdkafka or the broker says.
        reason: String,
    },
}
