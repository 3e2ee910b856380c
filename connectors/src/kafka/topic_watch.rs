//! A watch over topics that are read: whether what is written to them also arrives.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use perennial_operators::TopicPartition;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError as ClientError;
use rdkafka::{Offset, TopicPartitionList};

use super::{Client, topic_ids};

/// Time between two looks at the topics.
const EVERY: Duration = Duration::from_secs(10);
/// Timeout of a request.
const GLANCE: Duration = Duration::from_secs(2);

/// A partition that is watched.
struct Watched {
    place: TopicPartition,
    /// Whether a record or its end has arrived since the last look.
    is_heard: bool,
    /// Its end at the last look, once there was one.
    end: Option<i64>,
    /// Whether its end had moved at the last look although nothing was heard.
    is_suspect: bool,
}

/// Partitions that have to be assigned again.
#[derive(Debug)]
pub(crate) struct LostPartitions {
    /// Their indices among those that are watched, in order.
    pub(crate) indices: Vec<usize>,
    /// Why.
    pub(crate) reason: String,
}

/// A watch over partitions that are read. A consumer whose topic was made anew, or that has stopped
/// fetching for another reason, reports nothing; the watch notices.
pub(crate) struct TopicWatch {
    partitions: Vec<Watched>,
    /// Ids of the topics at the last look, of brokers that know ids.
    ids: BTreeMap<Arc<str>, String>,
    /// Time of the last look; none before the first one.
    looked: Option<Instant>,
}

impl TopicWatch {
    pub(crate) fn new(places: impl IntoIterator<Item = TopicPartition>) -> TopicWatch {
        let watched = |place| Watched {
            place,
            is_heard: false,
            end: None,
            is_suspect: false,
        };
        TopicWatch {
            partitions: places.into_iter().map(watched).collect(),
            ids: BTreeMap::new(),
            looked: None,
        }
    }

    /// A watch over the first `count` partitions of a topic: a partition's number is its index.
    pub(crate) fn of_topic(topic: &str, count: i32) -> TopicWatch {
        let topic: Arc<str> = topic.into();
        TopicWatch::new((0..count).map(|partition| TopicPartition {
            topic: topic.clone(),
            partition,
        }))
    }

    /// Notes that a record of a partition, or its end, has arrived, or that none is due.
    pub(crate) fn heard(&mut self, index: usize) {
        if let Some(watched) = self.partitions.get_mut(index) {
            watched.is_heard = true;
        }
    }

    /// Whether it is time for another look.
    pub(crate) fn is_due(&self) -> bool {
        self.looked.is_none_or(|looked| looked.elapsed() >= EVERY)
    }

    /// Looks at the topics if it is time, and returns the partitions of topics that were made anew;
    /// if there are none, those of which nothing arrives although records are written to them.
    /// While brokers do not answer, it finds nothing.
    pub(crate) fn look(&mut self, consumer: &BaseConsumer<Client>) -> Option<LostPartitions> {
        if !self.is_due() {
            return None;
        }
        self.looked = Some(Instant::now());
        let remade = self.remade(consumer).ok()?;
        if remade.is_some() {
            return remade;
        }
        let ends = self.ends(consumer).ok()?;
        self.silent(&ends)
    }

    /// The partitions of topics whose ids have changed since the last look.
    fn remade(
        &mut self,
        consumer: &BaseConsumer<Client>,
    ) -> Result<Option<LostPartitions>, ClientError> {
        let mut topics: Vec<&str> = self
            .partitions
            .iter()
            .map(|one| &*one.place.topic)
            .collect();
        topics.dedup();
        let found = topic_ids(consumer.client(), &topics, GLANCE)?;
        let known = std::mem::take(&mut self.ids);
        let is_remade = |topic: &Arc<str>| {
            let ids = known.get(topic).zip(found.get(topic));
            ids.is_some_and(|(known, found)| known != found)
        };
        let names: Vec<&str> = topics
            .into_iter()
            .filter(|topic| is_remade(&Arc::from(*topic)))
            .collect();
        let lost = (!names.is_empty()).then(|| LostPartitions {
            indices: self.indices(|one| is_remade(&one.place.topic)),
            reason: format!("deleted and made anew: the topic {}", names.join(", ")),
        });
        // A topic that does not exist now may be on its way.
        self.ids = known;
        self.ids.extend(found);
        Ok(lost)
    }

    /// The ends of the partitions; none of one that does not exist or has no leader.
    fn ends(&self, consumer: &BaseConsumer<Client>) -> Result<Vec<Option<i64>>, ClientError> {
        let mut places = TopicPartitionList::with_capacity(self.partitions.len());
        for TopicPartition { topic, partition } in self.partitions.iter().map(|one| &one.place) {
            places.add_partition_offset(topic, *partition, Offset::End)?;
        }
        let found = consumer.offsets_for_times(places, GLANCE)?;
        let end = |element: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>| match (
            element.error(),
            element.offset(),
        ) {
            (Ok(()), Offset::Offset(end)) => Some(end),
            _ => None,
        };
        Ok(found.elements().iter().map(end).collect())
    }

    /// The partitions whose ends have moved at this look and the one before, while nothing of them
    /// was heard.
    fn silent(&mut self, ends: &[Option<i64>]) -> Option<LostPartitions> {
        let mut indices = Vec::new();
        for (index, (watched, end)) in self.partitions.iter_mut().zip(ends).enumerate() {
            let moved = watched.end.zip(*end).is_some_and(|(old, new)| old < new);
            watched.end = end.or(watched.end);
            if std::mem::take(&mut watched.is_heard) {
                watched.is_suspect = false;
            } else if watched.is_suspect {
                watched.is_suspect = false;
                indices.push(index);
            } else {
                watched.is_suspect = moved;
            }
        }
        let names = |index: &usize| {
            let TopicPartition { topic, partition } = &self.partitions[*index].place;
            format!("{topic}[{partition}]")
        };
        let names: Vec<String> = indices.iter().map(names).collect();
        (!names.is_empty()).then(|| LostPartitions {
            indices,
            reason: format!(
                "nothing arrives of {}, although records are written to it",
                names.join(", ")
            ),
        })
    }

    fn indices(&self, is_meant: impl Fn(&Watched) -> bool) -> Vec<usize> {
        let watched = self.partitions.iter().enumerate();
        let meant = watched.filter(|(_, one)| is_meant(one));
        meant.map(|(index, _)| index).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partition_is_silent_after_two_looks_without_a_record() {
        let mut watch = TopicWatch::of_topic("samples", 3);
        let mut silent = |heard: &[usize], ends: [Option<i64>; 3]| {
            heard.iter().for_each(|index| watch.heard(*index));
            watch.silent(&ends).map(|lost| lost.indices)
        };
        assert_eq!(silent(&[], [Some(5), Some(5), Some(5)]), None);
        // The first is heard, the second has nothing new, the third is silent from here on.
        assert_eq!(silent(&[0], [Some(9), Some(5), Some(9)]), None);
        assert_eq!(silent(&[0], [Some(12), Some(5), Some(9)]), Some(vec![2]));
        // One that cannot be asked about is no other than it was.
        assert_eq!(silent(&[], [None, Some(5), Some(9)]), None);
        assert_eq!(silent(&[], [Some(13), Some(5), Some(9)]), None);
        assert_eq!(silent(&[], [Some(13), Some(5), Some(9)]), Some(vec![0]));
    }
}
