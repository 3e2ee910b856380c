//! First state of the stage label.

use perennial_operators::label::{Joiner, RestoredRows};
use perennial_operators::{Failure, TaskPseudonym};

use super::{Restored, Shard};
use crate::config::Settings;

/// First state of the stage label.
pub struct LabelStart {
    /// Joins predictions with labels; starts with the worker's pending samples.
    pub joiner: Joiner,
    /// Tasks whose pseudonyms were shared already.
    pub renamed: Vec<TaskPseudonym>,
}

impl Restored {
    pub(super) fn start_label(
        &self,
        settings: &Settings,
        shard: Shard,
    ) -> Result<LabelStart, Failure> {
        // Pending samples are dealt to workers batch by batch: any worker can join any of them.
        let pending: Vec<Vec<u8>> = self
            .pending
            .iter()
            .skip(shard.worker)
            .step_by(shard.workers)
            .cloned()
            .collect();
        let rows = RestoredRows {
            pending: &pending,
            released: &self.released,
            committed: self.progress.header.as_ref(),
            requested: &self.requested,
        };
        Ok(LabelStart {
            joiner: Joiner::restore(settings.arrival, rows)?,
            renamed: self.renamed.clone(),
        })
    }
}
