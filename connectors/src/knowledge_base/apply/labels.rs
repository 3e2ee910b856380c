//! Applies changes of samples and labels that wait for each other.

use perennial_operators::flow::EpochEffects;

use super::Touched;
use crate::knowledge_base::KnowledgeError;
use crate::knowledge_base::layout::{Family, number_key, released_key};

impl Touched<'_> {
    /// Samples that still wait after the last of the epochs. What came to wait and was released
    /// within the commit is never written.
    pub(crate) fn pending(&mut self, epochs: &[EpochEffects]) -> Result<(), KnowledgeError> {
        let (pending, released, requests) = (
            self.kb.family(Family::Pending)?,
            self.kb.family(Family::Released)?,
            self.kb.family(Family::Requests)?,
        );
        let mut latest = epochs.iter().rev();
        let Some(floor) = latest.find_map(|effects| effects.pending_floor) else {
            return Ok(());
        };
        for family in [pending, released, requests] {
            self.batch
                .delete_range_cf(family, number_key(0), number_key(floor));
        }
        for effects in epochs {
            for (last, bytes) in effects.pending.iter().filter(|(last, _)| *last >= floor) {
                self.batch.put_cf(pending, number_key(*last), bytes);
            }
            for (last, bytes) in effects.released.iter().filter(|(last, _)| *last >= floor) {
                let key = released_key(*last, effects.epoch);
                self.batch.put_cf(released, key, bytes);
            }
        }
        Ok(())
    }

    /// Labels that wait for their samples, and those that wait no more.
    pub(crate) fn early_labels(&mut self, epochs: &[EpochEffects]) -> Result<(), KnowledgeError> {
        let family = self.kb.family(Family::EarlyLabels)?;
        for intake in epochs.iter().filter_map(|effects| effects.intake.as_ref()) {
            for id in &intake.settled_labels {
                self.batch.delete_cf(family, number_key(*id));
            }
            for label in &intake.early_labels {
                let key = number_key(label.id);
                self.kb
                    .put(&mut self.batch, Family::EarlyLabels, &key, label)?;
            }
        }
        Ok(())
    }
}
