//! What goes to the cloud, and what comes from edges.

use perennial_operators::flow::{EdgeReport, EpochEffects, ModelDonated};
use perennial_operators::{Epoch, SharedStatistics};

use super::Touched;
use crate::knowledge_base::layout::{Family, META_TERMS, donor_key, number_key, reported_key};
use crate::knowledge_base::{Departure, DonatedRecord, KnowledgeError, OutboxWrite};

impl Touched<'_> {
    /// What is to leave, and what waits no more.
    pub(super) fn outbox(&mut self, write: &OutboxWrite) -> Result<(), KnowledgeError> {
        let family = self.kb.family(Family::Outbox)?;
        for (number, departure, change) in &write.added {
            let key = number_key(*number);
            self.kb
                .put(&mut self.batch, Family::Departures, &key, departure)?;
            if let Some(change) = change {
                self.batch.put_cf(family, key, change);
            }
        }
        for (number, shed, tried) in &write.shed {
            let key = number_key(*number);
            let departure: Option<Departure> = self.kb.get(Family::Departures, &key)?;
            if let Some(mut departure) = departure {
                (departure.shed, departure.tried) = (Some(*shed), *tried);
                self.kb
                    .put(&mut self.batch, Family::Departures, &key, &departure)?;
            }
            self.batch.delete_cf(family, key);
        }
        if let Some(floor) = write.floor {
            self.batch
                .delete_range_cf(family, number_key(0), number_key(floor));
        }
        if let Some(terms) = &write.terms {
            self.kb
                .put(&mut self.batch, Family::Meta, META_TERMS, terms)?;
        }
        Ok(())
    }

    /// How far what edges share was taken in.
    pub(super) fn edges(&mut self, epochs: &[EpochEffects]) -> Result<(), KnowledgeError> {
        for intake in epochs.iter().filter_map(|effects| effects.intake.as_ref()) {
            for (edge, progress) in &intake.edges {
                self.kb
                    .put(&mut self.batch, Family::Edges, edge.as_bytes(), progress)?;
            }
        }
        Ok(())
    }

    /// A donor's model takes the place of the one before.
    pub(super) fn donate(
        &mut self,
        epoch: Epoch,
        donated: &ModelDonated,
    ) -> Result<(), KnowledgeError> {
        let key = donor_key(donated.task(), Some(&donated.donor));
        let record = DonatedRecord {
            epoch,
            donated: donated.clone(),
        };
        self.kb.put(&mut self.batch, Family::Donated, &key, &record)
    }

    /// Adds up how edges did.
    pub(super) fn report(&mut self, reported: &EdgeReport) -> Result<(), KnowledgeError> {
        let EdgeReport { edge, statistics } = reported;
        let key = (edge.clone(), statistics.task.task);
        let mut sum = match self.reported.remove(&key) {
            Some(known) => known,
            None => {
                let stored: Option<(String, SharedStatistics)> =
                    self.kb.get(Family::Reported, &reported_key(edge, key.1))?;
                stored.map_or_else(
                    || SharedStatistics {
                        labelled: 0,
                        score: Default::default(),
                        ..statistics.clone()
                    },
                    |(_, known)| known,
                )
            }
        };
        sum.labelled += statistics.labelled;
        sum.score.add(&statistics.score);
        self.reported.insert(key, sum);
        Ok(())
    }
}
