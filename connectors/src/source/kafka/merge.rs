//! Records of several partitions as one stream, in the order of their timestamps as far as it can be told.
//!
//! Whoever reads a backlog of samples and labels must not learn a label long before or after the samples
//! of its time were read, and a partition must not run away from the others. So of the records at hand the
//! earliest goes first, and a partition that has more to come is waited for, a little.

use std::ffi::CString;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::ThreadId;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use perennial_operators::{Offsets, RawRecord, TopicPartition};
use rdkafka::Offset;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};

use super::KafkaOptions;
use crate::kafka::{Client, Health, KafkaError, PATIENCE, known_end, pack};

/// How long a partition that should have more records is waited for.
const LAG: Duration = Duration::from_millis(200);
/// How long to sleep at most when there is nothing to do. The arrival of records ends it.
const SLEEP: Duration = Duration::from_millis(50);

/// While brokers do not answer and there is nothing to read, how often they are asked whether they do again, and
/// how long they have for it.
const ASK: Duration = Duration::from_secs(1);

/// What a topic is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    /// Samples go before labels of the same moment.
    Samples,
    /// Labels.
    Labels,
}

/// The record that a partition gives next, with bytes that are used again and again.
#[derive(Debug, Default)]
struct Head {
    offset: i64,
    timestamp: i64,
    /// The time by which records are ordered.
    order: i64,
    key: Option<Vec<u8>>,
    headers: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    /// Buffers of what was taken before.
    spare: Vec<Vec<u8>>,
}

impl Head {
    fn fill(&mut self, message: &BorrowedMessage<'_>, clock: &mut Clock) {
        let kept = [self.key.take(), self.headers.take(), self.value.take()];
        self.spare.extend(kept.into_iter().flatten());
        self.offset = message.offset();
        self.timestamp = message.timestamp().to_millis().unwrap_or(-1);
        self.order = clock.bounded(self.timestamp);
        self.key = self.copy(message.key());
        self.value = self.copy(message.payload());
        if let Some(headers) = message.headers() {
            let mut bytes = self.buffer();
            pack(headers, &mut bytes);
            self.headers = Some(bytes);
        }
    }

    fn copy(&mut self, bytes: Option<&[u8]>) -> Option<Vec<u8>> {
        let bytes = bytes?;
        let mut copy = self.buffer();
        copy.extend_from_slice(bytes);
        Some(copy)
    }

    fn buffer(&mut self) -> Vec<u8> {
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.clear();
        buffer
    }
}

/// The clock on the wall, read only when a record claims to be later than it was.
#[derive(Debug, Default)]
struct Clock {
    now: i64,
}

impl Clock {
    /// A timestamp, or now if it is still to come: a record from the future would hold up its partition for
    /// ever.
    fn bounded(&mut self, timestamp: i64) -> i64 {
        if timestamp > self.now {
            let since = SystemTime::now().duration_since(UNIX_EPOCH);
            self.now = since.map_or(0, |since| since.as_millis() as i64);
        }
        timestamp.min(self.now)
    }
}

/// A partition that is read.
pub(super) struct Lane {
    pub(super) role: Role,
    pub(super) topic: Arc<str>,
    /// The topic as librdkafka takes it.
    name: CString,
    partition: i32,
    /// The offset of the record to take next.
    next: i64,
    /// What that was when the last epoch was closed; none before the first, unless a run before has committed it.
    closed: Option<i64>,
    /// Where reading stops, if it does.
    stop: Option<i64>,
    queue: PartitionQueue<Client>,
    head: Head,
    has_head: bool,
    /// Whether the broker has said that nothing follows.
    at_end: bool,
}

impl Lane {
    /// Whether it has given all that it is to give.
    fn is_done(&self) -> bool {
        self.stop.is_some_and(|stop| self.next >= stop)
    }

    /// Looks for a head.
    fn look(&mut self, clock: &mut Clock) -> Result<(), ClientError> {
        while !self.has_head && !self.is_done() {
            match self.queue.poll(Duration::ZERO) {
                None => return Ok(()),
                Some(Ok(message)) => {
                    self.at_end = false;
                    // A position that was asked for twice gives records twice.
                    if message.offset() >= self.next {
                        self.head.fill(&message, clock);
                        self.has_head = true;
                    }
                }
                Some(Err(ClientError::PartitionEOF(_))) => {
                    self.at_end = true;
                    // What is missing up to the end are no records but marks of transactions.
                    if let Some(stop) = self.stop {
                        self.next = self.next.max(stop);
                    }
                    return Ok(());
                }
                Some(Err(error)) => return Err(error),
            }
        }
        Ok(())
    }
}

/// The partitions of a process.
pub(super) struct Merge {
    consumer: Arc<BaseConsumer<Client>>,
    health: Health,
    /// Set when nothing is to be waited for any more.
    stop: Arc<AtomicBool>,
    brokers: String,
    lanes: Vec<Lane>,
    clock: Clock,
    /// Since when a partition that should have more records has been waited for.
    lagging: Option<Instant>,
    /// The thread that the arrival of records wakes.
    woken: Option<ThreadId>,
    /// When brokers that did not answer were last asked whether they do again.
    asked: Option<Instant>,
}

/// What to read, and where to begin.
pub(super) struct Start {
    pub(super) role: Role,
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    pub(super) offset: i64,
    /// Whether a run before has committed the offset.
    pub(super) is_resumed: bool,
    pub(super) stop: Option<i64>,
}

impl Merge {
    /// Assigns the partitions to the consumer.
    pub(super) fn new(
        consumer: BaseConsumer<Client>,
        options: &KafkaOptions<'_>,
        starts: Vec<Start>,
    ) -> Result<Merge, KafkaError> {
        let brokers = &options.kafka.brokers;
        let failed = |error: ClientError| KafkaError::Failed {
            brokers: brokers.clone(),
            reason: error.to_string(),
        };
        let consumer = Arc::new(consumer);
        let mut assignment = TopicPartitionList::new();
        let mut lanes = Vec::new();
        for start in starts {
            assignment
                .add_partition_offset(&start.topic, start.partition, Offset::Offset(start.offset))
                .map_err(failed)?;
            let queue = consumer.split_partition_queue(&start.topic, start.partition);
            let (Some(queue), Ok(name)) = (queue, CString::new(&*start.topic)) else {
                let reason = format!(
                    "there is no partition {} of {}",
                    start.partition, start.topic
                );
                return Err(KafkaError::Failed {
                    brokers: brokers.clone(),
                    reason,
                });
            };
            lanes.push(Lane {
                role: start.role,
                topic: start.topic,
                name,
                partition: start.partition,
                next: start.offset,
                closed: start.is_resumed.then_some(start.offset),
                stop: start.stop,
                queue,
                head: Head::default(),
                has_head: false,
                at_end: false,
            });
        }
        // Only now that each partition has a queue of its own: what is fetched before goes to the consumer's.
        consumer.assign(&assignment).map_err(failed)?;
        Ok(Merge {
            health: options.health.clone(),
            stop: options.stop.clone(),
            consumer,
            brokers: brokers.clone(),
            lanes,
            clock: Clock::default(),
            lagging: None,
            woken: None,
            asked: None,
        })
    }

    /// Lets the arrival of records wake the thread that calls this.
    fn wake_this_thread(&mut self) {
        let thread = std::thread::current();
        if self.woken.replace(thread.id()) == Some(thread.id()) {
            return;
        }
        for lane in &mut self.lanes {
            let thread = thread.clone();
            lane.queue.set_nonempty_callback(move || thread.unpark());
        }
    }

    /// Whether every partition has given all that it is to give.
    pub(super) fn is_done(&self) -> bool {
        !self.lanes.is_empty()
            && self
                .lanes
                .iter()
                .all(|lane| !lane.has_head && lane.is_done())
    }

    /// Whether a partition has moved on, or begun, since the last epoch was closed.
    pub(super) fn has_moved(&self) -> bool {
        let mut lanes = self.lanes.iter();
        lanes.any(|lane| lane.closed != Some(lane.next))
    }

    /// Closes an epoch: where reading goes on in the partitions that have moved on in it.
    ///
    /// Where a partition begins is bound to the first one, before anything has come: else a restart could not
    /// tell a partition in which nothing came from one that was not there, and a commit that was prepared
    /// before anything came would have no offsets to carry its number.
    pub(super) fn close(&mut self) -> Offsets {
        let mut offsets = Offsets::new();
        for lane in &mut self.lanes {
            if lane.closed.replace(lane.next) != Some(lane.next) {
                let place = TopicPartition {
                    topic: lane.topic.clone(),
                    partition: lane.partition,
                };
                offsets.insert(place, lane.next);
            }
        }
        offsets
    }

    /// Hands the next record, of all partitions or of those with one role, to `take`; none if none has come until the
    /// deadline, or the run is to stop.
    pub(super) fn next<T>(
        &mut self,
        role: Option<Role>,
        deadline: Instant,
        take: impl FnOnce(&Lane, RawRecord<'_>) -> T,
    ) -> Result<Option<T>, KafkaError> {
        loop {
            match self.earliest(role)? {
                Some(index) => {
                    let lane = &mut self.lanes[index];
                    lane.has_head = false;
                    lane.next = lane.head.offset + 1;
                    let lane = &self.lanes[index];
                    return Ok(Some(take(lane, raw(lane))));
                }
                None if self.is_done() || self.stop.load(Ordering::Relaxed) => return Ok(None),
                None => {}
            }
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                return Ok(None);
            };
            self.wake_this_thread();
            self.events()?;
            self.ask_again();
            std::thread::park_timeout(left.min(SLEEP));
        }
    }

    /// The partition, of all or of those with one role, whose record goes first, if that can be told.
    fn earliest(&mut self, role: Option<Role>) -> Result<Option<usize>, KafkaError> {
        let mut first: Option<usize> = None;
        let mut all_there = true;
        for index in 0..self.lanes.len() {
            let lane = &mut self.lanes[index];
            if role.is_some_and(|role| role != lane.role) {
                continue;
            }
            if let Err(error) = lane.look(&mut self.clock) {
                self.trouble(index, error)?;
                continue;
            }
            if lane.has_head {
                let order = |lane: &Lane| (lane.head.order, lane.role, lane.partition);
                let mine = order(lane);
                if first.is_none_or(|first| mine < order(&self.lanes[first])) {
                    first = Some(index);
                }
            } else if !lane.at_end && !lane.is_done() {
                all_there &= self.caught_up(index);
            }
        }
        if first.is_some() {
            self.health.is_well();
        }
        if all_there || first.is_none() {
            self.lagging = None;
            return Ok(first);
        }
        let since = *self.lagging.get_or_insert_with(Instant::now);
        Ok(first.filter(|_| since.elapsed() >= LAG))
    }

    /// Whether a partition without a head is known to have no more than was read.
    fn caught_up(&self, index: usize) -> bool {
        let lane = &self.lanes[index];
        match known_end(&self.consumer, &lane.name, lane.partition) {
            Some(end) => lane.next >= end,
            None => false,
        }
    }

    /// Serves what is not of a single partition.
    fn events(&mut self) -> Result<(), KafkaError> {
        // Records come from the partitions' queues; here come errors and the client's own business.
        match self.consumer.poll(Duration::ZERO) {
            Some(Err(ClientError::MessageConsumptionFatal(code))) => Err(self.failed(&code)),
            Some(Err(error)) => {
                self.health.waits(&error.to_string());
                Ok(())
            }
            // It would be lost.
            Some(Ok(message)) => Err(self.failed(&format!(
                "a record of {}[{}] came past its queue",
                message.topic(),
                message.partition()
            ))),
            None => Ok(()),
        }
    }

    /// After an outage, finds out that it is over though no record comes: clients hear of bad news alone.
    fn ask_again(&mut self) {
        if !self.health.is_waiting() || self.asked.is_some_and(|asked| asked.elapsed() < ASK) {
            return;
        }
        let mut ends = TopicPartitionList::with_capacity(self.lanes.len());
        let added = self.lanes.iter().try_for_each(|lane| {
            ends.add_partition_offset(&lane.topic, lane.partition, Offset::End)
        });
        // It asks the leader of each partition where it ends.
        let answer = added.and_then(|()| self.consumer.offsets_for_times(ends, ASK));
        if answer.is_ok_and(|ends| ends.elements().iter().all(|end| end.error().is_ok())) {
            self.health.is_well();
        }
        self.asked = Some(Instant::now());
    }

    /// Tells what passes by itself from what does not.
    fn trouble(&self, index: usize, error: ClientError) -> Result<(), KafkaError> {
        let lane = &self.lanes[index];
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::OffsetOutOfRange | RDKafkaErrorCode::AutoOffsetReset) => {
                let (low, high) = self
                    .consumer
                    .fetch_watermarks(&lane.topic, lane.partition, PATIENCE)
                    .unwrap_or((-1, -1));
                Err(KafkaError::Gone {
                    topic: lane.topic.to_string(),
                    partition: lane.partition,
                    offset: lane.next,
                    low,
                    high,
                })
            }
            Some(
                code @ (RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::GroupAuthorizationFailed
                | RDKafkaErrorCode::Fatal),
            ) => Err(self.failed(&code)),
            _ => {
                self.health.waits(&error.to_string());
                Ok(())
            }
        }
    }

    fn failed(&self, error: &dyn std::fmt::Display) -> KafkaError {
        KafkaError::Failed {
            brokers: self.brokers.clone(),
            reason: error.to_string(),
        }
    }
}

fn raw(lane: &Lane) -> RawRecord<'_> {
    RawRecord {
        partition: lane.partition,
        offset: lane.head.offset,
        timestamp: lane.head.timestamp,
        key: lane.head.key.as_deref(),
        headers: lane.head.headers.as_deref(),
        value: lane.head.value.as_deref(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_still_to_come_is_bounded() {
        let mut clock = Clock::default();
        let before = clock.bounded(i64::MAX);
        assert!(before > 0 && before < i64::MAX);
        assert_eq!(clock.bounded(before - 5), before - 5);
        assert_eq!(clock.bounded(-1), -1);
        assert!(clock.bounded(i64::MAX) >= before);
    }
}
