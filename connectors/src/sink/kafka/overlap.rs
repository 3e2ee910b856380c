//! Overlap: another process of the group has some of the partitions of this one, and not all of
//! them. Both would count what is in these. They show in the group's offsets, and the later process
//! stops.

use std::time::{Duration, Instant};

use rdkafka::producer::Producer;

use super::mark::{committed_offsets, marks};
use super::{CommitMark, KafkaSink};
use crate::kafka::{Client, KafkaError, PATIENCE, producer};

/// Time between two looks at the group's offsets.
const EVERY: Duration = Duration::from_secs(5);
/// Time limit of a look.
const GLANCE: Duration = Duration::from_secs(1);

impl KafkaSink {
    /// Looks from time to time, before a commit, whether another process has committed some of the
    /// partitions. A later one is fenced.
    ///
    /// # Errors
    /// An earlier one has.
    pub(super) fn look_for_others(&mut self) -> Result<(), KafkaError> {
        let Some(transactions) = &self.transactions else {
            return Ok(());
        };
        if self.looked.is_some_and(|looked| looked.elapsed() < EVERY) {
            return Ok(());
        }
        self.looked = Some(Instant::now());
        let consumer = &transactions.consumer;
        let found = committed_offsets(consumer, &self.places, GLANCE);
        // Whatever is wrong shows in the commit, too.
        let found = found.and_then(|list| marks(&list)).unwrap_or_default();
        for other in found.iter().filter(|mark| self.is_of_other(mark)) {
            if (other.run.since, &other.run.token) < (self.run.since, &self.run.token) {
                return Err(KafkaError::Shared {
                    group: self.group.clone(),
                    own: self.run.partitions.clone(),
                    other: other.run.partitions.clone(),
                });
            }
            self.fence(other);
        }
        Ok(())
    }

    /// Tells whether a mark is of another process that runs now, with other partitions.
    fn is_of_other(&self, mark: &CommitMark) -> bool {
        let (run, own) = (&mark.run, &self.run);
        let is_known = !run.partitions.is_empty() && !self.begun.contains(mark);
        is_known && run.token != own.token && run.partitions != own.partitions
    }

    /// Ends another process.
    fn fence(&self, other: &CommitMark) {
        let id = other.run.transactional_id(&self.group);
        tracing::warn!(
            own = self.run.partitions,
            other = other.run.partitions,
            "another process of this group has some of the partitions too: it began later, and is ended"
        );
        let fenced = producer(&self.config, Some(&id), Client::default());
        let fenced = fenced.map(|producer| producer.init_transactions(PATIENCE));
        if let Err(error) = fenced.map_err(|error| error.to_string()) {
            tracing::warn!("it could not be ended: {error}");
        }
    }
}
