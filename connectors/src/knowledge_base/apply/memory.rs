//! Applies changes of memory: retained samples, recent samples and the calibration.

use perennial_operators::flow::CalibrationMoved;
use perennial_operators::{Epoch, RecentMoved, SamplesRetained};

use super::Touched;
use crate::knowledge_base::KnowledgeError;
use crate::knowledge_base::layout::{Family, number_key, sample_key, task_epoch_key};

impl Touched<'_> {
    pub(crate) fn retain(&mut self, retained: &SamplesRetained) -> Result<(), KnowledgeError> {
        let task = retained.task;
        for sample in &retained.samples {
            let key = sample_key(task, sample.sequence);
            self.kb
                .put(&mut self.batch, Family::Samples, &key, sample)?;
        }
        let family = self.kb.family(Family::Samples)?;
        for sequence in &retained.dropped {
            self.batch.delete_cf(family, sample_key(task, *sequence));
        }
        let classes = retained.classes.clone();
        self.reservoirs.insert(task, classes);
        Ok(())
    }

    pub(crate) fn move_recent(
        &mut self,
        epoch: Epoch,
        moved: &RecentMoved,
    ) -> Result<(), KnowledgeError> {
        let key = task_epoch_key(moved.task, epoch);
        self.kb
            .put(&mut self.batch, Family::Recents, &key, &moved.samples)?;
        let family = self.kb.family(Family::Recents)?;
        for left in &moved.left {
            self.batch
                .delete_cf(family, task_epoch_key(moved.task, *left));
        }
        Ok(())
    }

    pub(crate) fn move_calibration(
        &mut self,
        epoch: Epoch,
        moved: &CalibrationMoved,
    ) -> Result<(), KnowledgeError> {
        let key = number_key(epoch.0);
        self.kb
            .put(&mut self.batch, Family::Calibration, &key, &moved.scores)?;
        let family = self.kb.family(Family::Calibration)?;
        for left in &moved.left {
            self.batch.delete_cf(family, number_key(left.0));
        }
        Ok(())
    }
}
