//! Changes of the link: the outbox to the cloud, and what comes from the cloud and from edges.

use perennial_operators::flow::{EdgeReport, EpochEffects, ModelDonated, Revision};
use perennial_operators::{Epoch, SharedStatistics, TaskId, TaskPseudonym};

use super::CommitWriter;
use crate::knowledge_base::layout::{
    Family, META_INCARNATIONS, META_TERMS, donor_key, history_key, number_key, reported_key,
    task_key,
};
use crate::knowledge_base::{DonatedRecord, KnowledgeError, OutboxWrite, SharedRecord};

impl CommitWriter<'_> {
    /// Adds changes to the outbox, sheds some, and removes the ones that were sent.
    pub(super) fn outbox(&mut self, write: &OutboxWrite) -> Result<(), KnowledgeError> {
        let family = self.kb.family(Family::Outbox)?;
        let floor = write.floor.unwrap_or(0);
        for (number, record, change) in &write.added {
            let key = number_key(*number);
            self.put(Family::Departures, &key, record)?;
            if let Some(change) = change.as_ref().filter(|_| *number >= floor) {
                self.batch.put_cf(family, key, change);
            }
        }
        for (number, shed, tried) in &write.shed {
            let key = number_key(*number);
            let record: Option<SharedRecord> = self.kb.get(Family::Departures, &key)?;
            if let Some(mut record) = record {
                (record.shed, record.tried) = (Some(*shed), *tried);
                self.put(Family::Departures, &key, &record)?;
            }
            self.batch.delete_cf(family, key);
        }
        let key = |number: u64| number_key(number).to_vec();
        self.remove_below(&[Family::Outbox], |removed| &removed.outbox, key, floor)?;
        if let Some(terms) = &write.terms {
            self.put_meta(META_TERMS, terms)?;
        }
        if let Some(incarnations) = &write.incarnations {
            self.put_meta(META_INCARNATIONS, incarnations)?;
        }
        Ok(())
    }

    /// Sets the progress and the history of edges.
    pub(super) fn edges(&mut self, epochs: &[EpochEffects]) -> Result<(), KnowledgeError> {
        for intake in epochs.iter().filter_map(|effects| effects.intake.as_ref()) {
            for (edge, progress) in &intake.edges {
                self.put(Family::Edges, edge.as_bytes(), progress)?;
            }
            for (edge, history) in &intake.histories {
                self.put(Family::Edges, &history_key(edge), history)?;
            }
        }
        Ok(())
    }

    /// Sets the revision of a task, or of a donor's model of it, that came from the cloud.
    pub(super) fn follow(
        &mut self,
        task: TaskId,
        donor: Option<&str>,
        revision: &Revision,
    ) -> Result<(), KnowledgeError> {
        self.put(Family::Followed, &donor_key(task, donor), revision)
    }

    /// Sets the name that a task has elsewhere.
    pub(super) fn rename_task(&mut self, renamed: &TaskPseudonym) -> Result<(), KnowledgeError> {
        self.put(Family::Renamed, &task_key(renamed.elsewhere.task), renamed)
    }

    /// Sets a donor's model of a task, in place of an earlier one.
    pub(super) fn donate_model(
        &mut self,
        epoch: Epoch,
        donated: &ModelDonated,
    ) -> Result<(), KnowledgeError> {
        let key = donor_key(donated.task(), Some(&donated.donor));
        let record = DonatedRecord {
            epoch,
            donated: donated.clone(),
        };
        self.put(Family::Donated, &key, &record)
    }

    /// Adds to the statistics that an edge has reported of a task.
    pub(super) fn add_report(&mut self, reported: &EdgeReport) -> Result<(), KnowledgeError> {
        let EdgeReport { edge, statistics } = reported;
        let key = (edge.clone(), statistics.task.task);
        let mut sum = match self.reported.remove(&key) {
            Some(modified) => modified,
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
        // The numbers come over the network.
        sum.labelled = sum.labelled.saturating_add(statistics.labelled);
        sum.score.add(&statistics.score);
        self.reported.insert(key, sum);
        Ok(())
    }
}
