//! Marks of commits in the offsets of the consumer group. They tell which commit was the group's
//! last, and which run made it.

use std::collections::BTreeSet;
use std::time::Duration;

use perennial_operators::{Offsets, TopicPartition};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError as ClientError;
use rdkafka::{Offset, TopicPartitionList};

use crate::kafka::{Client, KafkaConfig, KafkaError, ask_by_consumer, consumer};

/// Prefix of the number of a commit in the metadata of an offset.
const COMMIT: &str = "perennial commit ";

/// A run, as the marks of its commits name it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct RunMark {
    /// Token that tells the run from any other one; empty if its version did not say.
    pub token: String,
    /// When it began, microseconds since 1970.
    pub since: u64,
    /// The partitions that it reads; empty if its version did not say.
    pub partitions: String,
}

/// The partitions of a process that reads all of them.
const ALL: &str = "all";

impl RunMark {
    /// The mark of a run that begins now.
    pub(super) fn new(config: &KafkaConfig) -> RunMark {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now = now.unwrap_or_default();
        let seed = format!("{}-{}", now.as_nanos(), std::process::id());
        let partitions = config.partitions.as_ref();
        RunMark {
            token: blake3::hash(seed.as_bytes()).to_hex()[..16].to_string(),
            since: now.as_micros() as u64,
            partitions: partitions.map_or_else(|| ALL.to_string(), ToString::to_string),
        }
    }

    /// The transactional id of a process with these partitions: a later one takes over.
    pub(super) fn transactional_id(&self, group: &str) -> String {
        match &*self.partitions {
            ALL => format!("perennial-{group}"),
            partitions => format!("perennial-{group}-{partitions}"),
        }
    }
}

/// A commit, as the offsets of a group name it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct CommitMark {
    /// The commit's number.
    pub number: u64,
    /// The run that made it.
    pub run: RunMark,
}

impl CommitMark {
    /// The metadata of an offset. librdkafka needs a zero at its end, which the crate does not add.
    fn metadata(&self) -> String {
        let CommitMark { number, run } = self;
        let RunMark {
            token,
            since,
            partitions,
        } = run;
        format!("{COMMIT}{number};{token};{since};{partitions};\0")
    }

    fn parse(metadata: &str) -> Option<CommitMark> {
        let metadata = metadata.strip_prefix(COMMIT)?.trim_end_matches('\0');
        let mut parts = metadata.split(';');
        let number = parts.next()?.parse().ok()?;
        let mut next = || parts.next().unwrap_or_default();
        let run = RunMark {
            token: next().to_string(),
            since: next().parse().unwrap_or_default(),
            partitions: next().to_string(),
        };
        Some(CommitMark { number, run })
    }

    /// The offsets of `places` for librdkafka, each with the mark.
    pub(super) fn list(
        &self,
        offsets: &Offsets,
        places: &BTreeSet<TopicPartition>,
    ) -> Result<TopicPartitionList, ClientError> {
        let mut list = TopicPartitionList::with_capacity(offsets.len());
        // Kafka refuses offsets of partitions that a topic made anew no longer has.
        for (place, offset) in offsets.iter().filter(|(place, _)| places.contains(place)) {
            list.add_partition_offset(&place.topic, place.partition, Offset::Offset(*offset))?;
            if let Some(mut element) = list.find_partition(&place.topic, place.partition) {
                element.set_metadata(self.metadata());
            }
        }
        Ok(list)
    }
}

/// The marks of the group's last commits with any of `places`, the last one last; none of offsets
/// that another program has set.
///
/// # Errors
/// No broker answers.
pub fn committed(
    config: &KafkaConfig,
    group: &str,
    places: &BTreeSet<TopicPartition>,
) -> Result<BTreeSet<CommitMark>, KafkaError> {
    let consumer = consumer(config, group, Client::default())?;
    let list = ask_by_consumer(&consumer, config, |patience| {
        committed_offsets(&consumer, places, patience)
    })?;
    marks(&list).map_err(|error| KafkaError::Failed {
        brokers: config.brokers.clone(),
        reason: error.to_string(),
    })
}

/// The offsets of the consumer's group of `places`.
pub(super) fn committed_offsets(
    consumer: &BaseConsumer<Client>,
    places: &BTreeSet<TopicPartition>,
    patience: Duration,
) -> Result<TopicPartitionList, ClientError> {
    let mut list = TopicPartitionList::with_capacity(places.len());
    for place in places {
        list.add_partition(&place.topic, place.partition);
    }
    consumer.committed_offsets(list, patience)
}

/// The marks of offsets.
pub(super) fn marks(list: &TopicPartitionList) -> Result<BTreeSet<CommitMark>, ClientError> {
    let elements = list.elements().into_iter();
    let marks = elements.map(|element| {
        element.error()?;
        Ok(CommitMark::parse(element.metadata()))
    });
    let marks: Vec<Option<CommitMark>> = marks.collect::<Result<_, ClientError>>()?;
    Ok(marks.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_read_as_they_were_written() {
        let mark = CommitMark {
            number: 12,
            run: RunMark {
                token: "5f".to_string(),
                since: 1_700_000_000_000_000,
                partitions: "0-3,7".to_string(),
            },
        };
        assert_eq!(mark.run.transactional_id("g"), "perennial-g-0-3,7");
        assert_eq!(CommitMark::parse(&mark.metadata()), Some(mark));
        for earlier in ["perennial commit 7;", "perennial commit 7;\0"] {
            let mark = CommitMark::parse(earlier).unwrap();
            assert_eq!((mark.number, mark.run), (7, RunMark::default()));
        }
        let earlier = CommitMark::parse("perennial commit 7;5f;\0").unwrap();
        assert_eq!((&*earlier.run.token, earlier.run.since), ("5f", 0));
        assert_eq!(CommitMark::parse("someone else's"), None);
    }
}
