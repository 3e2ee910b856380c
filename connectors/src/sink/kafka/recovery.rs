//! Recovery of a producer that has failed for good, in place: it is made anew, and the offsets of
//! the group tell whether its last transaction counts.
//!
//! A producer fails so after an outage in which its transaction timed out, and also when another
//! process takes its transactional id. Kafka reports both in the same way, but only the first can
//! have happened to a transaction that was open for longer than its timeout, and only in the second
//! does the group have a commit that is not of this run.

use rdkafka::producer::Producer;

use super::transaction::Transactions;
use super::{CommitMark, KafkaSink, Outcome, PAUSE, committed};
use crate::kafka::{Client, KafkaError, producer};

impl KafkaSink {
    /// Makes the producer anew after `error`, and returns how the transaction of the commit `mark`
    /// ended.
    ///
    /// # Errors
    /// `error` itself, if another attempt cannot succeed; the run is to stop; or another process
    /// has taken over.
    pub(super) fn recover(
        &mut self,
        mark: &CommitMark,
        error: KafkaError,
    ) -> Result<Outcome, KafkaError> {
        let Some(transactions) = &self.transactions else {
            return Err(error);
        };
        let (id, is_late) = (transactions.id.clone(), transactions.may_have_timed_out());
        let may_succeed = match error {
            KafkaError::Fenced { .. } => is_late,
            KafkaError::Undecided { .. } => true,
            _ => self.producer.client().fatal_error().is_some(),
        };
        // A failure that comes again at once would come for ever.
        let is_first = self.recovering.replace(mark.number) != Some(mark.number);
        if !may_succeed || !(is_first || is_late) {
            return Err(error);
        }
        // Before another process that has taken over is fenced in turn.
        self.find_last(mark)?;
        tracing::warn!("making the producer anew after an outage: {error}");
        let (config, group) = (self.config.clone(), self.group.clone());
        let client = Client::new(&self.client.health);
        let (producer, transactions) = self.until_answered(|_| {
            let producer = producer(&config, Some(&id), client.clone())?;
            let transactions = Transactions::init(&config, &group, id.clone(), &producer)?;
            Ok((producer, transactions))
        })?;
        (self.client, self.producer) = (client, producer);
        self.transactions = Some(transactions);
        self.refused = None;
        let found = self.find_last(mark)?;
        if found.as_ref() == Some(mark) {
            return Ok(Outcome::Committed);
        }
        Ok(Outcome::Aborted)
    }

    /// The group's last commit: `mark`, or the one before it.
    ///
    /// # Errors
    /// It is another one, so that another process has taken over; or the run is to stop.
    fn find_last(&mut self, mark: &CommitMark) -> Result<Option<CommitMark>, KafkaError> {
        let found =
            self.until_answered(|sink| committed(&sink.config, &sink.group, &sink.places))?;
        let found = found.last().cloned();
        if found.as_ref() == Some(mark) || found == self.last {
            return Ok(found);
        }
        Err(self.fenced())
    }

    /// Repeats a step until brokers answer.
    fn until_answered<T>(
        &mut self,
        mut step: impl FnMut(&KafkaSink) -> Result<T, KafkaError>,
    ) -> Result<T, KafkaError> {
        loop {
            match step(self) {
                Err(error) if error.is_transient() => {
                    self.client.health.report_waiting(&error.to_string());
                    self.check_stop()?;
                    std::thread::sleep(PAUSE);
                }
                answered => {
                    self.client.health.report_well();
                    return answered;
                }
            }
        }
    }

    /// Makes the producer anew if it has failed for good, where nothing is written in transactions.
    pub(super) fn renew(&mut self) -> Result<(), KafkaError> {
        if self.transactions.is_none()
            && let Some((_, reason)) = self.producer.client().fatal_error()
        {
            tracing::warn!("making the producer anew: {reason}");
            self.producer = producer(&self.config, None, self.client.clone())?;
        }
        Ok(())
    }
}
