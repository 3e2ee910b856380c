//! Transactions, which commit results and the offsets of their inputs together or not at all.

use std::time::{Duration, Instant};

use perennial_operators::Offsets;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, Producer};

use super::{CommitMark, KafkaSink, PAUSE, RunMark};
use crate::kafka::{
    Client, KafkaConfig, KafkaError, PATIENCE, consumer, is_refusal, producer, remind,
};

/// How long an abort may take after all its messages are delivered or given up.
const ABORT: Duration = Duration::from_secs(1);

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its results and offsets are committed.
    Committed,
    /// Nothing is committed: all messages have to be sent again.
    Aborted,
}

/// The transactional state of a producer.
pub(super) struct Transactions {
    pub(super) id: String,
    brokers: String,
    partitions: String,
    group: ConsumerGroupMetadata,
    /// A consumer of the group, which tells its offsets.
    pub(super) consumer: BaseConsumer<Client>,
    is_open: bool,
    /// When the first transaction since the last commit was opened, if one was.
    since: Option<Instant>,
    /// How long a transaction may be open before Kafka aborts it.
    timeout: Duration,
}

/// Ends the transaction that an earlier process with the partitions of `config` has left open, and
/// fences that process if it still runs.
///
/// # Errors
/// No broker answers.
pub fn end_transaction(config: &KafkaConfig, group: &str) -> Result<(), KafkaError> {
    let id = RunMark::new(config).transactional_id(group);
    let producer = producer(config, Some(&id), Client::default())?;
    Transactions::init(config, group, id, &producer).map(drop)
}

impl Transactions {
    pub(super) fn init(
        config: &KafkaConfig,
        group: &str,
        id: String,
        producer: &BaseProducer<Client>,
    ) -> Result<Transactions, KafkaError> {
        let failed = |reason: String| KafkaError::Failed {
            brokers: config.brokers.clone(),
            reason,
        };
        let consumer = consumer(config, group, Client::default())?;
        let metadata = consumer
            .group_metadata()
            .ok_or_else(|| failed("the consumer group has no metadata".to_string()))?;
        // The open transaction of a dead process can take until its timeout to settle.
        let began = Instant::now();
        loop {
            match producer.init_transactions(PATIENCE) {
                Ok(()) => break,
                Err(ClientError::Transaction(error)) if error.is_retriable() => {
                    if began.elapsed() >= 4 * PATIENCE {
                        return Err(KafkaError::Unreachable {
                            brokers: config.brokers.clone(),
                            reason: error.to_string(),
                        });
                    }
                    producer.poll(Duration::ZERO);
                    remind(producer.client());
                }
                Err(error) => return Err(failed(error.to_string())),
            }
        }
        Ok(Transactions {
            id,
            consumer,
            brokers: config.brokers.clone(),
            partitions: config
                .partitions
                .as_ref()
                .map_or_else(|| "0 and up".to_string(), ToString::to_string),
            group: metadata,
            is_open: false,
            since: None,
            timeout: config.transaction_timeout(),
        })
    }

    /// Opens a transaction unless one is open.
    pub(super) fn begin(&mut self, producer: &BaseProducer<Client>) -> Result<(), ClientError> {
        if !self.is_open {
            producer.begin_transaction()?;
            self.is_open = true;
            self.since.get_or_insert_with(Instant::now);
        }
        Ok(())
    }

    /// Whether Kafka may have aborted a transaction since the last commit, for being open for too
    /// long.
    pub(super) fn may_have_timed_out(&self) -> bool {
        self.since
            .is_some_and(|since| since.elapsed() >= self.timeout)
    }

    /// The error of a process that another one has replaced.
    pub(super) fn fenced(&self) -> KafkaError {
        KafkaError::Fenced {
            partitions: self.partitions.clone(),
            id: self.id.clone(),
        }
    }

    /// The definite error of a failed step.
    fn definite(&self, error: &ClientError) -> KafkaError {
        let fenced = [
            RDKafkaErrorCode::Fenced,
            RDKafkaErrorCode::ProducerFenced,
            RDKafkaErrorCode::InvalidProducerEpoch,
        ];
        if error
            .rdkafka_error_code()
            .is_some_and(|code| fenced.contains(&code))
        {
            return self.fenced();
        }
        // The answer to a commit was lost and an abort came too late, or the other way round.
        // Sending the results again could double them; the group's offsets tell.
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::InvalidTransactionalState) {
            return KafkaError::Undecided {
                brokers: self.brokers.clone(),
                reason: error.to_string(),
            };
        }
        KafkaError::Failed {
            brokers: self.brokers.clone(),
            reason: error.to_string(),
        }
    }
}

/// What to do after a failed step of a transaction.
enum Remedy {
    /// Retry the step: the error is transient.
    Retry,
    /// Abort the transaction.
    Abort,
    /// Fail: the error is definite.
    Fail(KafkaError),
}

impl KafkaSink {
    /// Commits all messages since the last transaction with `offsets`, whose metadata is the mark
    /// of the commit with this `number`. A producer that has failed for good in an outage is made
    /// anew.
    ///
    /// # Errors
    /// The commit can never succeed: another process has taken over or has some of the partitions,
    /// or the run is to stop and Kafka does not answer.
    pub fn commit(&mut self, offsets: &Offsets, number: u64) -> Result<Outcome, KafkaError> {
        if self.transactions.is_none() {
            return Ok(Outcome::Committed);
        }
        self.look_for_others()?;
        let mark = CommitMark {
            number,
            run: self.run.clone(),
        };
        let outcome = match self.try_commit(offsets, &mark) {
            Err(error) => self.recover(&mark, error)?,
            Ok(outcome) => outcome,
        };
        if outcome == Outcome::Committed {
            self.last = Some(mark);
            self.limits.clear();
            self.transactions
                .iter_mut()
                .for_each(|all| all.since = None);
        }
        Ok(outcome)
    }

    fn try_commit(&mut self, offsets: &Offsets, mark: &CommitMark) -> Result<Outcome, KafkaError> {
        if let Some(transactions) = &mut self.transactions
            && let Err(error) = transactions.begin(&self.producer)
        {
            return Err(transactions.definite(&error));
        }
        let list = mark.list(offsets, &self.places);
        let list = list.map_err(|error| self.failed(&error))?;
        let sent = self.step(|sink, transactions| {
            let producer = &sink.producer;
            producer.send_offsets_to_transaction(&list, &transactions.group, PATIENCE)
        })?;
        if !sent || self.refused.is_some() {
            return self.abort();
        }
        // A commit that waits for its messages takes at least a tenth of a second.
        self.wait()?;
        if self.client.has_undelivered() {
            return self.abort();
        }
        let committed = self.step(|sink, _| sink.producer.commit_transaction(PATIENCE))?;
        if !committed {
            return self.abort();
        }
        self.closed();
        Ok(Outcome::Committed)
    }

    fn abort(&mut self) -> Result<Outcome, KafkaError> {
        let lost = self.client.undelivered_error();
        // After a refusal librdkafka takes no more messages of the transaction, which is no reason.
        let refused = self.refused.take();
        if let Some(error) = lost.or(refused)
            && !is_refusal(&error)
        {
            self.client.health.report_waiting(&error.to_string());
        }
        let mut aborted = self.producer.abort_transaction(PAUSE);
        while is_retriable(&aborted) && !self.is_drained()? {
            // Only an abort gives up messages that wait to be sent again, which may be some that
            // were on their way when it began.
            let _ = self.producer.flush(PAUSE);
            aborted = self.producer.abort_transaction(PAUSE);
        }
        let mut aborted = Some(aborted).filter(|aborted| !is_retriable(aborted));
        self.step(|sink, _| {
            let again = || sink.producer.abort_transaction(ABORT);
            aborted.take().unwrap_or_else(again)
        })?;
        self.closed();
        // All of this attempt at once: the next one excludes what refused any of them.
        if let Some(lost) = self.client.take_undelivered() {
            self.learn(&lost, None)?;
        }
        Ok(Outcome::Aborted)
    }

    fn closed(&mut self) {
        if let Some(transactions) = &mut self.transactions {
            transactions.is_open = false;
        }
    }

    /// Does a step, with retries after transient errors; false if the transaction has to be
    /// aborted.
    fn step(
        &mut self,
        mut step: impl FnMut(&KafkaSink, &Transactions) -> Result<(), ClientError>,
    ) -> Result<bool, KafkaError> {
        loop {
            let Some(transactions) = &self.transactions else {
                return Ok(true);
            };
            let error = match step(self, transactions) {
                Ok(()) => {
                    self.client.health.report_well();
                    return Ok(true);
                }
                Err(error) => error,
            };
            match remedy(&error, transactions) {
                Remedy::Fail(error) => return Err(error),
                Remedy::Abort => return Ok(false),
                Remedy::Retry => {
                    self.client.health.report_waiting(&error.to_string());
                    remind(self.producer.client());
                    self.check_stop()?;
                    std::thread::sleep(PAUSE);
                }
            }
        }
    }
}

fn is_retriable(step: &Result<(), ClientError>) -> bool {
    matches!(step, Err(ClientError::Transaction(error)) if error.is_retriable())
}

fn remedy(error: &ClientError, transactions: &Transactions) -> Remedy {
    match error {
        ClientError::Transaction(cause) if cause.is_fatal() => {
            Remedy::Fail(transactions.definite(error))
        }
        ClientError::Transaction(cause) if cause.txn_requires_abort() => Remedy::Abort,
        ClientError::Transaction(cause) if cause.is_retriable() => Remedy::Retry,
        ClientError::Flush(RDKafkaErrorCode::OperationTimedOut) => Remedy::Retry,
        _ => Remedy::Fail(transactions.definite(error)),
    }
}
