//! Changes of samples and labels that wait for each other, and of label requests.

use perennial_operators::algorithms::unseen::LabelsRequested;
use perennial_operators::flow::{EpochEffects, Intake};

use super::CommitWriter;
use crate::knowledge_base::KnowledgeError;
use crate::knowledge_base::layout::{Family, META_ASKED, number_key, released_key, seen_key};

impl CommitWriter<'_> {
    pub(super) fn request_labels(
        &mut self,
        requested: &LabelsRequested,
    ) -> Result<(), KnowledgeError> {
        let floor = self.pending_floor.unwrap_or(0);
        let requests = requested.requests.iter();
        for request in requests.filter(|request| request.sequence >= floor) {
            self.put(Family::Requests, &number_key(request.sequence), request)?;
        }
        self.put_meta(META_ASKED, &requested.asked)
    }

    /// Adds the samples that still wait after the last of the epochs. A sample that came to wait
    /// and was released within the commit is never written.
    pub(super) fn pending(&mut self, epochs: &[EpochEffects]) -> Result<(), KnowledgeError> {
        let (pending, released) = (
            self.kb.family(Family::Pending)?,
            self.kb.family(Family::Released)?,
        );
        let Some(floor) = self.pending_floor else {
            return Ok(());
        };
        let families = [Family::Pending, Family::Released, Family::Requests];
        let key = |number: u64| number_key(number).to_vec();
        self.remove_below(&families, |removed| &removed.waiting, key, floor)?;
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
        let intakes = intakes.filter(|intake| !intake.seen.ids.is_empty());
        let within = |intake: &Intake| intake.header.end.saturating_sub(intake.seen.within);
        let Some(floor) = intakes.clone().map(within).next_back() else {
            return Ok(());
        };
        for intake in intakes.filter(|intake| intake.header.end > floor) {
            self.put(Family::Meta, &seen_key(intake.header.end), &intake.seen.ids)?;
        }
        self.remove_below(
            &[Family::Meta],
            |removed| &removed.seen,
            seen_key,
            floor + 1,
        )
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
