//! First state of the stage label.

use perennial_operators::label::{Joiner, RestoredRows};
use perennial_operators::{Failure, TaskPseudonym};

use super::{Restored, Shard};
use crate::config::Settings;

/// First state of the stage label.
pub struct LabelStart {
    /// Joins predictions with labels; it has the worker's pending samples.
    pub joiner: Joiner,
    /// Names of tasks that have left already.
    pub renamed: Vec<TaskPseudonym>,
}

impl Restored {
    pub(super) fn start_label(
        &self,
        settings: &Settings,
        shard: Shard,
    ) -> Result<LabelStart, Failure> {
        let pending = self
            .pending
            .iter()
            .skip(shard.worker)
            .step_by(shard.workers);
        let pending: Vec<Vec<u8>> = pending.cloned().collect();
        let waited = RestoredRows {
            pending: &pending,
            released: &self.released,
            committed: self.progress.header.as_ref(),
            requested: &self.requested,
        };
        Ok(LabelStart {
            joiner: Joiner::restore(settings.arrival, waited)?,
            renamed: self.renamed.clone(),
        })
    }
}
