//! Changes of samples and labels that wait for each other, and of label requests.

use perennial_operators::algorithms::unseen::LabelsRequested;
use perennial_operators::flow::EpochEffects;

use super::CommitWriter;
use crate::knowledge_base::KnowledgeError;
use crate::knowledge_base::layout::{Family, META_ASKED, number_key, released_key, seen_key};

impl CommitWriter<'_> {
    pub(super) fn request_labels(
        &mut self,
        requested: &LabelsRequested,
    ) -> Result<(), KnowledgeError> {
        for request in &requested.requests {
            self.put(Family::Requests, &number_key(request.sequence), request)?;
        }
        self.put_meta(META_ASKED, &requested.asked)
    }

    /// Adds the samples that still wait after the last of the epochs. A sample that came to wait
    /// and was released within the commit is never written.
    pub(super) fn pending(&mut self, epochs: &[EpochEffects]) -> Result<(), KnowledgeError> {
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

    /// Adds the ids of samples, and removes those that count no more as duplicates.
    pub(super) fn seen(&mut self, epochs: &[EpochEffects]) -> Result<(), KnowledgeError> {
        let intakes = epochs.iter().filter_map(|effects| effects.intake.as_ref());
        let mut floor = 0;
        for intake in intakes.filter(|intake| !intake.seen.ids.is_empty()) {
            let end = intake.header.end;
            self.put(Family::Meta, &seen_key(end), &intake.seen.ids)?;
            floor = end.saturating_sub(intake.seen.within);
        }
        if floor > 0 {
            let family = self.kb.family(Family::Meta)?;
            self.batch
                .delete_range_cf(family, seen_key(0), seen_key(floor + 1));
        }
        Ok(())
    }

    /// Adds labels that wait for their samples, and removes labels that wait no more.
    pub(super) fn early_labels(&mut self, epochs: &[EpochEffects]) -> Result<(), KnowledgeError> {
        let family = self.kb.family(Family::EarlyLabels)?;
        for intake in epochs.iter().filter_map(|effects| effects.intake.as_ref()) {
            for id in &intake.settled_labels {
                self.batch.delete_cf(family, number_key(*id));
            }
            for label in &intake.early_labels {
                self.put(Family::EarlyLabels, &number_key(label.id), label)?;
            }
        }
        Ok(())
    }
}
