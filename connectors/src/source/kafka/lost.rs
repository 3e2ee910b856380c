//! Partitions that stopped while a run goes on: the broker has refused their offsets, or no longer
//! knows them. librdkafka fetches nothing more of such a partition until it is assigned again.

use std::time::Instant;

use rdkafka::consumer::Consumer;
use rdkafka::{Offset, TopicPartitionList};

use super::merge::{ASK, Merge};
use crate::kafka::KafkaError;

impl Merge {
    /// Looks from time to time whether what is written to the partitions also arrives, and notes
    /// those that are lost although no error has said so.
    pub(super) fn look(&mut self) {
        if !self.watch.is_due() || self.has_lost || self.health.is_waiting() {
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

    /// Assigns lost partitions again, at the records to read next or at what takes their place.
    /// While brokers do not answer they stay lost.
    ///
    /// # Errors
    /// The records are gone, and the pipeline is not to go on without them.
    pub(super) fn find_lost(&mut self) -> Result<(), KafkaError> {
        if self.asked.is_some_and(|asked| asked.elapsed() < ASK) {
            return Ok(());
        }
        self.asked = Some(Instant::now());
        if let Err(error) = self.continuity.refresh(&self.consumer, ASK) {
            self.health.report_waiting(&error.to_string());
            return Ok(());
        }
        let mut found = Vec::new();
        for index in 0..self.readers.len() {
            let reader = &mut self.readers[index];
            // All partitions of a topic made anew are other ones now.
            reader.is_lost |= self.continuity.is_remade(&reader.topic);
            if !reader.is_lost {
                continue;
            }
            self.ready.lose(index);
            let (topic, partition) = (&reader.topic, reader.partition);
            match self.consumer.fetch_watermarks(topic, partition, ASK) {
                Ok(ends) => found.push((index, ends)),
                Err(error) => {
                    self.health.report_waiting(&error.to_string());
                    return Ok(());
                }
            }
        }
        let mut list = TopicPartitionList::with_capacity(found.len());
        for (index, ends) in found {
            let reader = &mut self.readers[index];
            let place = reader.place();
            let next = self.continuity.resume(&place, reader.next, ends)?;
            reader.go_to(next);
            self.ready.find(index);
            let offset = Offset::Offset(next);
            let added = list.add_partition_offset(&place.topic, place.partition, offset);
            added.map_err(|error| self.failed(&error))?;
        }
        let assigned = self.consumer.incremental_unassign(&list);
        let assigned = assigned.and_then(|()| self.consumer.incremental_assign(&list));
        assigned.map_err(|error| self.failed(&error))?;
        self.continuity.all_resumed();
        self.has_lost = false;
        Ok(())
    }
}
