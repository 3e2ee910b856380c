//! Partitions that stopped while a run goes on: the broker has refused their offsets, or no longer
//! knows them, or nothing of them arrives. librdkafka fetches nothing more of such a partition.

use std::time::Instant;

use rdkafka::consumer::Consumer;

use super::merge::{ASK, Merge};
use super::ready::Ready;
use crate::kafka::KafkaError;

impl Merge {
    /// Looks from time to time whether what is written to the partitions also arrives, and notes
    /// those that are lost although no error has said so.
    pub(super) fn look(&mut self) {
        if !self.watch.is_due() || self.has_lost || self.connector.health.is_waiting() {
            return;
        }
        for (index, reader) in self.readers.iter().enumerate() {
            if !reader.expects_record() {
                self.watch.heard(index);
            }
        }
        if let Some(lost) = self.watch.look(&self.consumer) {
            tracing::warn!("reading partitions anew: {}", lost.reason);
            for index in lost.indices {
                self.readers[index].is_lost = true;
            }
            self.has_lost = true;
        }
    }

    /// Finds where lost partitions go on: at the records to read next, or at what takes their
    /// place. Then all are read by a new consumer. While brokers do not answer they stay lost.
    ///
    /// # Errors
    /// The records are gone, and the pipeline is not to go on without them.
    pub(super) fn find_lost(&mut self) -> Result<(), KafkaError> {
        if self.asked.is_some_and(|asked| asked.elapsed() < ASK) {
            return Ok(());
        }
        self.asked = Some(Instant::now());
        if let Err(error) = self.continuity.refresh(&self.consumer, ASK) {
            self.connector.health.report_waiting(&error.to_string());
            return Ok(());
        }
        let mut found = Vec::new();
        for (index, reader) in self.readers.iter_mut().enumerate() {
            // All partitions of a topic made anew are other ones now.
            reader.is_lost |= self.continuity.is_remade(&reader.topic);
            if !reader.is_lost {
                continue;
            }
            let (topic, partition) = (&reader.topic, reader.partition);
            match self.consumer.fetch_watermarks(topic, partition, ASK) {
                Ok(ends) => found.push((index, ends)),
                Err(error) => {
                    self.connector.health.report_waiting(&error.to_string());
                    return Ok(());
                }
            }
        }
        for (index, ends) in found {
            let reader = &mut self.readers[index];
            reader.next = self.continuity.resume(&reader.place(), reader.next, ends)?;
        }
        self.reconnect()?;
        self.continuity.all_resumed();
        self.has_lost = false;
        Ok(())
    }

    /// Reads all partitions by a new consumer, from their next records on.
    fn reconnect(&mut self) -> Result<(), KafkaError> {
        let places: Vec<_> = self
            .readers
            .iter()
            .map(|it| (it.place(), it.next))
            .collect();
        self.ready = Ready::new(places.len());
        let (consumer, queues) = self.connector.connect(&places, &self.ready.signals)?;
        for (reader, queue) in self.readers.iter_mut().zip(queues) {
            reader.restart(queue);
        }
        self.consumer = consumer;
        Ok(())
    }
}
