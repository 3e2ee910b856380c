//! Marks of commits in the offsets of the consumer group. They tell which commit was the group's
//! last, and which run made it.

use std::collections::BTreeSet;

use perennial_operators::{Offsets, TopicPartition};
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError as ClientError;
use rdkafka::{Offset, TopicPartitionList};

use crate::kafka::{Client, KafkaConfig, KafkaError, ask_by_consumer, consumer};

/// Prefix of the number of a commit in the metadata of an offset.
const COMMIT: &str = "perennial commit ";

/// A commit, as the offsets of a group name it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct CommitMark {
    /// The commit's number.
    pub number: u64,
    /// The run that made it; empty if its version did not say.
    pub run: String,
}

impl CommitMark {
    /// The metadata of an offset. librdkafka needs a zero at its end, which the crate does not add.
    fn metadata(&self) -> String {
        format!("{COMMIT}{};{};\0", self.number, self.run)
    }

    fn parse(metadata: &str) -> Option<CommitMark> {
        let mut parts = metadata.strip_prefix(COMMIT)?.split(';');
        let number = parts.next()?.parse().ok()?;
        let run = parts.next().unwrap_or_default();
        let run = run.trim_end_matches('\0').to_string();
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

/// The mark of the group's last commit with any of `places`; none if there is none, or if another
/// program has set the offsets.
///
/// # Errors
/// No broker answers.
pub fn committed(
    config: &KafkaConfig,
    group: &str,
    places: &BTreeSet<TopicPartition>,
) -> Result<Option<CommitMark>, KafkaError> {
    let failed = |error: ClientError| KafkaError::Failed {
        brokers: config.brokers.clone(),
        reason: error.to_string(),
    };
    let consumer = consumer(config, group, Client::default())?;
    let mut list = TopicPartitionList::with_capacity(places.len());
    for place in places {
        list.add_partition(&place.topic, place.partition);
    }
    let list = ask_by_consumer(&consumer, config, |patience| {
        consumer.committed_offsets(list.clone(), patience)
    })?;
    let elements = list.elements().into_iter();
    let marks = elements.map(|element| match element.error() {
        Ok(()) => Ok(CommitMark::parse(element.metadata())),
        Err(error) => Err(failed(error)),
    });
    let marks: Vec<Option<CommitMark>> = marks.collect::<Result<_, _>>()?;
    Ok(marks.into_iter().flatten().max())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_read_as_they_were_written() {
        let mark = CommitMark {
            number: 12,
            run: "5f".to_string(),
        };
        assert_eq!(CommitMark::parse(&mark.metadata()), Some(mark));
        for earlier in ["perennial commit 7;", "perennial commit 7;\0"] {
            let mark = CommitMark::parse(earlier).unwrap();
            assert_eq!((mark.number, mark.run.as_str()), (7, ""));
        }
        assert_eq!(CommitMark::parse("someone else's"), None);
    }
}
