//! Continuity of what is read of topics: whether the records to read next are still there, and
//! where reading resumes if they are not.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use perennial_operators::TopicPartition;
use perennial_operators::flow::RecordsSkipped;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError as ClientError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kafka::{Client, KafkaConfig, KafkaError, ask_by_consumer, topic_ids};

/// What a pipeline does when the records that it has to read next are no longer there: Kafka has
/// deleted them, or the topic was deleted and made anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnGone {
    /// It ends with an error.
    #[default]
    Fail,
    /// It goes on at the oldest records that it has not read.
    Earliest,
    /// It goes on at new records.
    Latest,
}

/// Ids of the topics of a source, and what was skipped of their partitions.
pub(super) struct Continuity {
    on_gone: OnGone,
    /// The key of `on_gone` in the config.
    setting: &'static str,
    /// Ids of the topics that positions are of.
    known: BTreeMap<Arc<str>, String>,
    /// Ids of the topics as they are now.
    found: BTreeMap<Arc<str>, String>,
    /// Ids of the topics that all partitions have been resumed in.
    resumed: BTreeMap<Arc<str>, String>,
    /// What was skipped since the last closed epoch.
    skipped: Vec<RecordsSkipped>,
}

impl Continuity {
    /// Asks for the ids of `topics`; `known` are those by which the positions to resume at were
    /// committed.
    ///
    /// # Errors
    /// No broker answers.
    pub(super) fn open(
        consumer: &BaseConsumer<Client>,
        kafka: &KafkaConfig,
        topics: &[&str],
        known: &BTreeMap<Arc<str>, String>,
        (setting, on_gone): (&'static str, OnGone),
    ) -> Result<Continuity, KafkaError> {
        let found = ask_by_consumer(consumer, kafka, |patience| {
            topic_ids(consumer.client(), topics, patience)
        })?;
        Ok(Continuity {
            on_gone,
            setting,
            known: known.clone(),
            found,
            resumed: BTreeMap::new(),
            skipped: Vec::new(),
        })
    }

    /// Asks for the ids again, while the source runs.
    ///
    /// # Errors
    /// No broker answers within `patience`.
    pub(super) fn refresh(
        &mut self,
        consumer: &BaseConsumer<Client>,
        patience: Duration,
    ) -> Result<(), ClientError> {
        let topics: Vec<&str> = self.found.keys().map(|name| &**name).collect();
        if !topics.is_empty() {
            let found = topic_ids(consumer.client(), &topics, patience)?;
            // A topic that does not exist now may be on its way.
            self.found.extend(found);
        }
        Ok(())
    }

    /// Whether a topic was made anew since its positions were committed.
    pub(super) fn is_remade(&self, topic: &Arc<str>) -> bool {
        let ids = self.known.get(topic).zip(self.found.get(topic));
        ids.is_some_and(|(known, found)| known != found)
    }

    /// The offset at which reading of a partition with records from `low` to `high` resumes, if it
    /// was to resume at `offset`.
    ///
    /// # Errors
    /// The records are gone, and the pipeline is not to go on without them.
    pub(super) fn resume(
        &mut self,
        place: &TopicPartition,
        offset: i64,
        (low, high): (i64, i64),
    ) -> Result<i64, KafkaError> {
        let is_remade = self.is_remade(&place.topic);
        if !is_remade && (low..=high).contains(&offset) {
            return Ok(offset);
        }
        let to = match self.on_gone {
            OnGone::Fail => return Err(self.gone(place, offset, (low, high), is_remade)),
            OnGone::Latest => high,
            // The topic is the same and has lost its last records: those before were read.
            OnGone::Earliest if self.is_known(&place.topic) && !is_remade && offset > high => high,
            OnGone::Earliest => low,
        };
        let (topic, partition) = (&place.topic, place.partition);
        tracing::warn!(
            %topic,
            partition,
            from = offset,
            to,
            is_remade,
            "the records to read next are gone; going on without them"
        );
        self.skipped.push(RecordsSkipped {
            place: place.clone(),
            from: offset,
            to,
            is_remade,
        });
        Ok(to)
    }

    fn is_known(&self, topic: &Arc<str>) -> bool {
        self.known.contains_key(topic) && self.found.contains_key(topic)
    }

    fn gone(
        &self,
        place: &TopicPartition,
        offset: i64,
        (low, high): (i64, i64),
        is_remade: bool,
    ) -> KafkaError {
        let (topic, partition) = (place.topic.to_string(), place.partition);
        let setting = self.setting;
        if is_remade {
            return KafkaError::Remade {
                topic,
                partition,
                offset,
                setting,
            };
        }
        KafkaError::Gone {
            topic,
            partition,
            offset,
            low,
            high,
            setting,
        }
    }

    /// Notes that every partition has been resumed in the topics as they are now.
    pub(super) fn all_resumed(&mut self) {
        self.resumed = self.found.clone();
    }

    /// Takes what the next epoch commits: ids that are not stored yet, and what was skipped.
    pub(super) fn close(&mut self) -> (BTreeMap<Arc<str>, String>, Vec<RecordsSkipped>) {
        let resumed = self.resumed.iter();
        let new = resumed.filter(|(name, id)| self.known.get(*name) != Some(id));
        let new: BTreeMap<Arc<str>, String> =
            new.map(|(name, id)| (name.clone(), id.clone())).collect();
        self.known.extend(new.clone());
        (new, std::mem::take(&mut self.skipped))
    }
}
