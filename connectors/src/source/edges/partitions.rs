//! Partitions of the topic of changes: where reading of each begins, and where it goes on after the
//! broker has refused an offset.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use perennial_operators::TopicPartition;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError as ClientError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::{EdgeSource, EdgesOptions, EdgesResume};
use crate::kafka::{Client, KafkaError, ask_by_consumer, consumer};
use crate::link::partitions_of;
use crate::source::continuity::Continuity;

/// Interval and timeout of requests about partitions that were lost.
const ASK: Duration = Duration::from_secs(1);

/// The state of one partition.
pub(super) struct PartitionState {
    pub(super) partition: i32,
    /// Offset of the next message.
    pub(super) next: i64,
    /// Offset at which reading ends, if it does.
    pub(super) stop: Option<i64>,
    /// Where a restart resumes, as of the last closed epoch.
    pub(super) closed: Option<i64>,
}

impl PartitionState {
    /// Whether everything up to `stop` has been read.
    pub(super) fn is_done(&self) -> bool {
        self.stop.is_some_and(|stop| self.next >= stop)
    }
}

/// Assigns all partitions to the consumer, to go on at `resume`.
pub(super) fn open_partitions(
    consumer: &BaseConsumer<Client>,
    options: &EdgesOptions<'_>,
    topic: &Arc<str>,
    resume: &EdgesResume,
) -> Result<(Vec<PartitionState>, Continuity), KafkaError> {
    let on_gone = ("source.edges.on_gone", options.on_gone);
    let known = &resume.topics;
    let mut continuity = Continuity::open(consumer, options.kafka, &[topic], known, on_gone)?;
    let mut states = Vec::new();
    let is_over = || options.stop.load(Ordering::Relaxed);
    for partition in 0..partitions_of(consumer, options.kafka, topic, &is_over)? {
        let (low, high) = ask_by_consumer(consumer, options.kafka, |patience| {
            consumer.fetch_watermarks(topic, partition, patience)
        })?;
        let place = TopicPartition {
            topic: topic.clone(),
            partition,
        };
        let resumed = resume.offsets.get(&place).copied();
        let next = match resumed {
            Some(offset) => continuity.resume(&place, offset, (low, high))?,
            None => low,
        };
        states.push(PartitionState {
            partition,
            next,
            stop: options.stop_at_end.then_some(high),
            closed: resumed.filter(|offset| *offset == next),
        });
    }
    continuity.all_resumed();
    assign(consumer, topic, &states).map_err(|error| KafkaError::Failed {
        brokers: options.kafka.brokers.clone(),
        reason: error.to_string(),
    })?;
    Ok((states, continuity))
}

fn assign(
    consumer: &BaseConsumer<Client>,
    topic: &str,
    states: &[PartitionState],
) -> Result<(), ClientError> {
    let mut assignment = TopicPartitionList::with_capacity(states.len());
    for state in states {
        let offset = Offset::Offset(state.next);
        assignment.add_partition_offset(topic, state.partition, offset)?;
    }
    consumer.assign(&assignment)
}

impl EdgeSource {
    /// Notes that nothing more may come until the partitions are assigned again.
    pub(super) fn lose(&mut self, reason: &str) {
        self.health.report_waiting(reason);
        self.is_lost = true;
    }

    /// Reads the partitions by a new consumer, from the messages to read next on or from what takes
    /// their place: librdkafka can fetch nothing more of a topic that was made anew, even if its
    /// partitions are assigned again. While brokers do not answer this is tried again after
    /// `pause`.
    pub(super) fn find_lost(&mut self, pause: Duration) -> Result<(), KafkaError> {
        if self.asked.elapsed() < ASK {
            std::thread::sleep(pause);
            return Ok(());
        }
        self.asked = Instant::now();
        let ends = self.continuity.refresh(&self.consumer, ASK);
        let ends = ends.and_then(|()| {
            let states = self.partitions.iter();
            let ends = states.map(|state| {
                self.consumer
                    .fetch_watermarks(&self.topic, state.partition, ASK)
            });
            ends.collect::<Result<Vec<(i64, i64)>, ClientError>>()
        });
        let ends = match ends {
            Ok(ends) => ends,
            Err(error) => {
                self.health.report_waiting(&error.to_string());
                return Ok(());
            }
        };
        for (state, ends) in self.partitions.iter_mut().zip(ends) {
            let place = TopicPartition {
                topic: self.topic.clone(),
                partition: state.partition,
            };
            let next = self.continuity.resume(&place, state.next, ends)?;
            if next != state.next {
                // What waits in memory is no longer in the topic.
                self.merge.forget_offsets(state.partition);
                self.parked.forget_offsets(state.partition);
                self.sealed.forget_offsets(state.partition);
                self.refusals.forget_offsets(state.partition);
                state.next = next;
            }
        }
        let client = Client::new(&self.health);
        let consumer = consumer(&self.kafka, &self.group, client)?;
        let assigned = assign(&consumer, &self.topic, &self.partitions);
        assigned.map_err(|error| self.failed(&error))?;
        self.consumer = consumer;
        self.continuity.all_resumed();
        self.is_lost = false;
        self.health.report_well();
        Ok(())
    }
}
