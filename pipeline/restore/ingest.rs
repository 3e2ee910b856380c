//! First state of the stage ingest.

use perennial_operators::ingest::{Allocator, TaskBound};
use perennial_operators::{Epoch, TaskId};

use super::Restored;
use crate::config::Settings;

/// First state of the stage ingest.
pub struct IngestStart {
    /// The first epoch to read.
    pub epoch: Epoch,
    /// Allocates samples to tasks; knows which tasks are aliases.
    pub allocator: Allocator,
    /// Tasks that are defined already.
    pub defined: Vec<TaskId>,
}

impl Restored {
    pub(super) fn start_ingest(&self, settings: &Settings) -> IngestStart {
        let mut allocator = Allocator::new(settings.levels.clone());
        for (task, old) in &self.aliases {
            allocator.alias(*task, old.clone());
        }
        let bound = TaskBound {
            most: settings.config().tasks.most,
            bootstrap_only: settings.defines_by_groups(),
        };
        allocator.bound(bound, self.tasks.iter().map(|task| task.task));
        IngestStart {
            epoch: self.epoch(),
            allocator,
            defined: self.tasks.iter().map(|task| task.task).collect(),
        }
    }
}
