//! A watch over a topic of the link: whether what is written to it also arrives.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};

use crate::kafka::{Client, topic_ids};

/// Time between two looks at a topic of which nothing is heard.
const EVERY: Duration = Duration::from_secs(30);
/// Timeout of a request.
const GLANCE: Duration = Duration::from_secs(2);

/// A partition that is watched.
#[derive(Default)]
struct Watched {
    /// Its end at the last look, once there was one.
    end: Option<i64>,
    /// Whether its end had moved at the last look although nothing was heard.
    is_suspect: bool,
}

/// A watch over the partitions of a topic. A consumer whose topic was made anew, or that has
/// stopped fetching for another reason, reports nothing; the watch notices.
pub(crate) struct TopicWatch {
    topic: String,
    /// Id of the topic at the first look, if brokers know ids.
    id: Option<String>,
    partitions: BTreeMap<i32, Watched>,
    /// Partitions of which something was heard since the last look.
    heard: BTreeSet<i32>,
    /// When it last looked; none before the first look.
    looked: Option<Instant>,
}

impl TopicWatch {
    pub(crate) fn new(topic: &str, partitions: impl Iterator<Item = i32>) -> TopicWatch {
        TopicWatch {
            topic: topic.to_string(),
            id: None,
            partitions: partitions
                .map(|partition| (partition, Watched::default()))
                .collect(),
            heard: BTreeSet::new(),
            looked: None,
        }
    }

    /// Notes that a message of a partition, or its end, has arrived.
    pub(crate) fn heard(&mut self, partition: i32) {
        self.heard.insert(partition);
    }

    /// Looks at the topic from time to time, and returns why it has to be opened again, if it has.
    /// It is called when nothing comes; while brokers do not answer, it finds nothing.
    pub(crate) fn look(&mut self, consumer: &BaseConsumer<Client>) -> Option<String> {
        if self.looked.is_some_and(|looked| looked.elapsed() < EVERY) {
            return None;
        }
        self.looked = Some(Instant::now());
        let heard = std::mem::take(&mut self.heard);
        let topic = &self.topic;
        let ids = topic_ids(consumer.client(), &[topic], GLANCE).ok()?;
        let found = ids.into_values().next();
        if self.id.is_some() && found.is_some() && self.id != found {
            self.id = found;
            return Some(format!("the topic \"{topic}\" was deleted and made anew"));
        }
        self.id = self.id.take().or(found);
        for (partition, watched) in &mut self.partitions {
            let (_, end) = consumer.fetch_watermarks(topic, *partition, GLANCE).ok()?;
            let has_moved = watched.end.replace(end).is_some_and(|before| before < end);
            if heard.contains(partition) {
                watched.is_suspect = false;
            } else if watched.is_suspect {
                watched.is_suspect = false;
                return Some(format!(
                    "nothing arrives of {topic}[{partition}], although messages are written to it"
                ));
            } else {
                watched.is_suspect = has_moved;
            }
        }
        None
    }
}
