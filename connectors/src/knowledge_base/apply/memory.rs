//! Changes of memory: retained samples, recent samples and the calibration.

use perennial_operators::flow::CalibrationMoved;
use perennial_operators::{Epoch, RecentMoved, SamplesRetained};

use super::CommitWriter;
use crate::knowledge_base::KnowledgeError;
use crate::knowledge_base::layout::{Family, number_key, sample_key, task_epoch_key};

impl CommitWriter<'_> {
    /// Adds and drops retained samples of a task.
    pub(super) fn retain_samples(
        &mut self,
        retained: &SamplesRetained,
    ) -> Result<(), KnowledgeError> {
        let task = retained.task;
        for sample in &retained.samples {
            self.put(Family::Samples, &sample_key(task, sample.sequence), sample)?;
        }
        let family = self.kb.family(Family::Samples)?;
        for sequence in &retained.dropped {
            self.batch.delete_cf(family, sample_key(task, *sequence));
        }
        self.reservoirs.insert(task, retained.classes.clone());
        Ok(())
    }

    /// Adds an epoch to the recent samples of a task, and removes the epochs that left.
    pub(super) fn move_recent(
        &mut self,
        epoch: Epoch,
        moved: &RecentMoved,
    ) -> Result<(), KnowledgeError> {
        let key = task_epoch_key(moved.task, epoch);
        self.put(Family::Recents, &key, &moved.samples)?;
        let family = self.kb.family(Family::Recents)?;
        for left in &moved.left {
            self.batch
                .delete_cf(family, task_epoch_key(moved.task, *left));
        }
        Ok(())
    }

    /// Adds an epoch to the calibration, and removes the epochs that left.
    pub(super) fn move_calibration(
        &mut self,
        epoch: Epoch,
        moved: &CalibrationMoved,
    ) -> Result<(), KnowledgeError> {
        self.put(Family::Calibration, &number_key(epoch.0), &moved.scores)?;
        let family = self.kb.family(Family::Calibration)?;
        for left in &moved.left {
            self.batch.delete_cf(family, number_key(left.0));
        }
        Ok(())
    }
}
