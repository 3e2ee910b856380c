//! Merging of several partitions into one stream, in the order of timestamps as far as it is known.
//!
//! With a backlog of samples and labels, a label must not be read long before or after the samples
//! of its time, and no partition may get far ahead of the others. So the earliest of the fetched
//! records comes first, and the merge waits a little for a partition that has more records.

use std::ffi::CString;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use perennial_operators::{Offsets, RawRecord, TopicPartition};
use rdkafka::Offset;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};

use super::KafkaOptions;
use super::connect::Connector;
use super::ready::{HeadOrder, Ready, Role};
use crate::kafka::{Client, KafkaError, TopicWatch, is_lost, known_end, pack, remind};
use crate::source::continuity::Continuity;

/// How long to wait for a partition that should have more records.
const LAG: Duration = Duration::from_millis(200);
/// Bound on one sleep, which the arrival of records ends.
const SLEEP: Duration = Duration::from_millis(50);

/// Interval and timeout of requests to brokers that have stopped answering, while no record comes.
pub(super) const ASK: Duration = Duration::from_secs(1);

/// The next record of a partition. It reuses its buffers.
#[derive(Debug, Default)]
struct Head {
    offset: i64,
    timestamp: i64,
    /// The time by which records are ordered.
    order: i64,
    key: Option<Vec<u8>>,
    headers: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    /// Buffers of earlier records.
    spare: Vec<Vec<u8>>,
}

impl Head {
    fn fill(&mut self, message: &BorrowedMessage<'_>, clock: &mut WallClock) {
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

/// The wall clock, read only if a record is later than its last reading.
#[derive(Debug, Default)]
struct WallClock {
    now: i64,
}

impl WallClock {
    /// The timestamp, or now if it is in the future: such a record would block its partition.
    fn bounded(&mut self, timestamp: i64) -> i64 {
        if timestamp > self.now {
            let since = SystemTime::now().duration_since(UNIX_EPOCH);
            self.now = since.map_or(0, |since| since.as_millis() as i64);
        }
        timestamp.min(self.now)
    }
}

/// A reader of one partition.
pub(super) struct PartitionReader {
    pub(super) role: Role,
    pub(super) topic: Arc<str>,
    /// The topic's name for librdkafka.
    name: CString,
    pub(super) partition: i32,
    /// Offset of the next record.
    pub(super) next: i64,
    /// The value of `next` at the last closed epoch; none before the first, unless an earlier run
    /// has committed it.
    closed: Option<i64>,
    /// Offset at which reading ends, if it does.
    stop: Option<i64>,
    queue: PartitionQueue<Client>,
    head: Head,
    has_head: bool,
    /// Whether the broker has reported the end of the partition.
    at_end: bool,
    /// Whether nothing more is fetched of the partition.
    pub(super) is_lost: bool,
}

impl PartitionReader {
    pub(super) fn place(&self) -> TopicPartition {
        TopicPartition {
            topic: self.topic.clone(),
            partition: self.partition,
        }
    }

    /// Order of its next record among those of all partitions.
    fn order(&self, index: usize) -> HeadOrder {
        (self.head.order, self.role, self.partition, index)
    }

    fn new(start: Start, name: CString, queue: PartitionQueue<Client>) -> PartitionReader {
        PartitionReader {
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
            is_lost: false,
        }
    }

    /// Drops what was fetched, and goes on with the queue of another consumer, which begins at the
    /// next record.
    pub(super) fn restart(&mut self, queue: PartitionQueue<Client>) {
        self.queue = queue;
        (self.has_head, self.at_end, self.is_lost) = (false, false, false);
    }

    /// Whether a record may arrive: neither was one fetched, nor has reading ended.
    pub(super) fn expects_record(&self) -> bool {
        !self.has_head && !self.is_done()
    }

    /// Whether everything up to `stop` has been read.
    fn is_done(&self) -> bool {
        self.stop.is_some_and(|stop| self.next >= stop)
    }

    /// Fetches the next record, if one has arrived; returns whether anything has. Without one, and
    /// unless reading has ended, the queue is empty then.
    fn fetch(
        &mut self,
        consumer: &BaseConsumer<Client>,
        clock: &mut WallClock,
    ) -> Result<bool, ClientError> {
        let mut is_heard = false;
        while self.expects_record() {
            match self.queue.poll(Duration::ZERO) {
                None => break,
                Some(Ok(message)) => {
                    (self.at_end, is_heard) = (false, true);
                    // After a repeated seek librdkafka returns records again.
                    if message.offset() >= self.next {
                        self.head.fill(&message, clock);
                        self.has_head = true;
                    }
                }
                Some(Err(ClientError::PartitionEOF(_))) => {
                    (self.at_end, is_heard) = (true, true);
                    // The last offsets before the end can be transaction markers and no records. A
                    // new leader of the partition may report an earlier end at first.
                    let end = known_end(consumer, &self.name, self.partition);
                    if let Some(stop) = self.stop.filter(|stop| end >= Some(*stop)) {
                        self.next = self.next.max(stop);
                    }
                }
                Some(Err(error)) => return Err(error),
            }
        }
        Ok(is_heard)
    }
}

/// The merge of the partitions of a process.
pub(super) struct Merge {
    pub(super) connector: Connector,
    pub(super) consumer: Arc<BaseConsumer<Client>>,
    /// Set when the source is to stop waiting.
    stop: Arc<AtomicBool>,
    pub(super) readers: Vec<PartitionReader>,
    /// Which of the readers to look at.
    pub(super) ready: Ready,
    /// Whether a reader is lost.
    pub(super) has_lost: bool,
    pub(super) continuity: Continuity,
    pub(super) watch: TopicWatch,
    clock: WallClock,
    /// Since when the merge waits for a partition that should have more records.
    lagging: Option<Instant>,
    /// Time of the last request to brokers that have stopped answering, or about lost partitions.
    pub(super) asked: Option<Instant>,
}

/// A partition to read, and where reading begins.
pub(super) struct Start {
    pub(super) role: Role,
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    pub(super) offset: i64,
    /// Whether an earlier run has committed the offset.
    pub(super) is_resumed: bool,
    pub(super) stop: Option<i64>,
}

impl Merge {
    /// Makes the consumer of the partitions.
    pub(super) fn new(
        options: &KafkaOptions<'_>,
        starts: Vec<Start>,
        continuity: Continuity,
    ) -> Result<Merge, KafkaError> {
        let connector = Connector {
            kafka: options.kafka.clone(),
            group: options.group.to_string(),
            health: options.health.clone(),
        };
        let ready = Ready::new(starts.len());
        let place = |start: &Start| {
            let (topic, partition) = (start.topic.clone(), start.partition);
            (TopicPartition { topic, partition }, start.offset)
        };
        let places: Vec<(TopicPartition, i64)> = starts.iter().map(place).collect();
        let (consumer, queues) = connector.connect(&places, &ready.signals)?;
        let mut readers = Vec::with_capacity(starts.len());
        for (start, queue) in starts.into_iter().zip(queues) {
            let name = CString::new(&*start.topic).map_err(|error| connector.failed(&error))?;
            readers.push(PartitionReader::new(start, name, queue));
        }
        Ok(Merge {
            stop: options.stop.clone(),
            connector,
            consumer,
            readers,
            ready,
            has_lost: false,
            continuity,
            watch: TopicWatch::new(places.into_iter().map(|(place, _)| place)),
            clock: WallClock::default(),
            lagging: None,
            asked: None,
        })
    }

    /// Whether every partition has been read up to its `stop`.
    pub(super) fn is_done(&self) -> bool {
        !self.readers.is_empty()
            && self
                .readers
                .iter()
                .all(|reader| !reader.has_head && reader.is_done())
    }

    /// Whether a partition has moved or begun since the last closed epoch.
    pub(super) fn has_moved(&self) -> bool {
        let mut readers = self.readers.iter();
        readers.any(|reader| reader.closed != Some(reader.next))
    }

    /// Closes an epoch, and returns where reading resumes in the partitions that moved in it.
    ///
    /// The first epoch has the start of every partition, even without records. Otherwise a restart
    /// could not distinguish a partition without records from a new one, and a commit prepared
    /// before the first record would have no offsets to carry its number.
    pub(super) fn close(&mut self) -> Offsets {
        let mut offsets = Offsets::new();
        for reader in &mut self.readers {
            if reader.closed.replace(reader.next) != Some(reader.next) {
                offsets.insert(reader.place(), reader.next);
            }
        }
        offsets
    }

    /// Passes the next record, of all partitions or of one role, to `take`; none if no record comes
    /// until the deadline, or the run is to stop.
    pub(super) fn next<T>(
        &mut self,
        role: Option<Role>,
        deadline: Instant,
        take: impl FnOnce(&PartitionReader, RawRecord<'_>) -> T,
    ) -> Result<Option<T>, KafkaError> {
        loop {
            if self.has_lost {
                self.find_lost()?;
            }
            match self.earliest(role)? {
                Some(index) => {
                    let reader = &mut self.readers[index];
                    reader.has_head = false;
                    self.ready.take(reader.role, index);
                    reader.next = reader.head.offset + 1;
                    let reader = &self.readers[index];
                    return Ok(Some(take(reader, raw(reader))));
                }
                None if self.is_done() || self.stop.load(Ordering::Relaxed) => return Ok(None),
                None => {}
            }
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                return Ok(None);
            };
            self.ready.signals.wake_this_thread();
            self.events()?;
            self.ask_again();
            std::thread::park_timeout(left.min(SLEEP));
        }
    }

    /// The partition, of all or of one role, with the next record, if that is known.
    fn earliest(&mut self, role: Option<Role>) -> Result<Option<usize>, KafkaError> {
        let mut to_poll = self.ready.take_to_poll();
        let mut again = Vec::new();
        for index in to_poll.iter().copied() {
            match self.poll(index, role) {
                Ok(false) => {}
                Ok(true) => again.push(index),
                Err(error) => {
                    self.ready.poll_later(to_poll);
                    return Err(error);
                }
            }
        }
        to_poll.clear();
        to_poll.append(&mut again);
        self.ready.poll_later(to_poll);
        let mut missing = self.ready.missing();
        let all_there = missing.all(|index| {
            let is_other = role.is_some_and(|role| role != self.readers[index].role);
            is_other || self.caught_up(index)
        });
        let first = self.ready.first(role);
        if first.is_some() {
            self.connector.health.report_well();
        }
        if all_there || first.is_none() {
            self.lagging = None;
            return Ok(first);
        }
        let since = *self.lagging.get_or_insert_with(Instant::now);
        Ok(first.filter(|_| since.elapsed() >= LAG))
    }

    /// Fetches the next record of a partition, if it is of the role; returns whether it is still to
    /// poll.
    fn poll(&mut self, index: usize, role: Option<Role>) -> Result<bool, KafkaError> {
        let reader = &mut self.readers[index];
        if reader.is_lost || reader.has_head {
            return Ok(false);
        }
        if role.is_some_and(|role| role != reader.role) {
            return Ok(true);
        }
        match reader.fetch(&self.consumer, &mut self.clock) {
            Ok(true) => self.watch.heard(index),
            Ok(false) => {}
            Err(error) => {
                self.ready.has_none(index, true);
                self.handle(index, error)?;
                return Ok(!self.readers[index].is_lost);
            }
        }
        if reader.has_head {
            self.ready.has_head(reader.order(index));
        } else {
            self.ready
                .has_none(index, reader.at_end || reader.is_done());
        }
        Ok(false)
    }

    /// Whether a partition without a fetched record is known to have no more records.
    fn caught_up(&self, index: usize) -> bool {
        let reader = &self.readers[index];
        match known_end(&self.consumer, &reader.name, reader.partition) {
            Some(end) => reader.next >= end,
            None => false,
        }
    }

    /// Serves the consumer's own queue.
    fn events(&mut self) -> Result<(), KafkaError> {
        remind(self.consumer.client());
        // Records come from the partitions' queues; this one has errors and internal events.
        match self.consumer.poll(Duration::ZERO) {
            Some(Err(ClientError::MessageConsumptionFatal(code))) => {
                Err(self.connector.failed(&code))
            }
            Some(Err(error)) => {
                self.connector.health.report_waiting(&error.to_string());
                Ok(())
            }
            // Dropping it would lose the record.
            Some(Ok(message)) => Err(self.connector.failed(&format!(
                "a record of {}[{}] came past its queue",
                message.topic(),
                message.partition()
            ))),
            None => Ok(()),
        }
    }

    /// Finds out that an outage is over even if no record comes: clients report failures only.
    fn ask_again(&mut self) {
        if !self.connector.health.is_waiting()
            || self.asked.is_some_and(|asked| asked.elapsed() < ASK)
        {
            return;
        }
        let mut ends = TopicPartitionList::with_capacity(self.readers.len());
        let added = self.readers.iter().try_for_each(|reader| {
            ends.add_partition_offset(&reader.topic, reader.partition, Offset::End)
        });
        // The request goes to the leader of every partition.
        let answer = added.and_then(|()| self.consumer.offsets_for_times(ends, ASK));
        if answer.is_ok_and(|ends| ends.elements().iter().all(|end| end.error().is_ok())) {
            self.connector.health.report_well();
        }
        self.asked = Some(Instant::now());
    }

    /// Returns a definite error; notes a lost partition; reports a transient error as waiting.
    fn handle(&mut self, index: usize, error: ClientError) -> Result<(), KafkaError> {
        if is_lost(&error) {
            self.readers[index].is_lost = true;
            self.has_lost = true;
        }
        match error.rdkafka_error_code() {
            Some(
                code @ (RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::GroupAuthorizationFailed
                | RDKafkaErrorCode::Fatal),
            ) => Err(self.connector.failed(&code)),
            _ => {
                self.connector.health.report_waiting(&error.to_string());
                Ok(())
            }
        }
    }
}

fn raw(reader: &PartitionReader) -> RawRecord<'_> {
    RawRecord {
        partition: reader.partition,
        offset: reader.head.offset,
        timestamp: reader.head.timestamp,
        key: reader.head.key.as_deref(),
        headers: reader.head.headers.as_deref(),
        value: reader.head.value.as_deref(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_times_in_the_future_are_bounded() {
        let mut clock = WallClock::default();
        let now = clock.bounded(i64::MAX);
        assert!(now > 0 && now < i64::MAX);
        assert_eq!(clock.bounded(now - 5), now - 5);
        assert_eq!(clock.bounded(-1), -1);
        assert!(clock.bounded(i64::MAX) >= now);
    }
}
