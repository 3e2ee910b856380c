//! First state of the stage train.

use std::collections::BTreeMap;
use std::sync::Arc;

use perennial_connectors::knowledge_base::{StageRecord, TaskRecord};
use perennial_operators::algorithms::drift::Detectors;
use perennial_operators::flow::{StageKind, TrainOrder};
use perennial_operators::learn::{TaskTraining, Watch};
use perennial_operators::{Epoch, ModelId, TaskId};

use super::{Restored, Shard};
use crate::config::Settings;

/// First state of the stage train.
pub struct TrainStart {
    /// Watches the worker's tasks for conditions that trigger training.
    pub watch: Watch,
    /// The last committed epoch, and the orders until then whose trainings have not ended; no
    /// orders except on worker 0.
    pub resumed: (Epoch, Vec<TrainOrder>),
}

impl Restored {
    pub(super) fn start_train(&self, settings: &Settings, shard: Shard) -> TrainStart {
        let mine = self.training.iter().filter(|(task, _)| shard.has(*task));
        let clock = self.progress.header.map_or(i64::MIN, |header| header.clock);
        TrainStart {
            watch: Watch::restore(
                settings.rules.clone(),
                mine.cloned().collect::<Vec<_>>(),
                clock,
            ),
            resumed: match self.progress.last_epoch() {
                Some(last) if shard.worker == 0 => (last, self.orders.clone()),
                _ => (Epoch(0), Vec::new()),
            },
        }
    }
}

/// Orders whose trainings have not ended.
pub(super) fn unfinished(stages: &BTreeMap<(ModelId, StageKind), StageRecord>) -> Vec<TrainOrder> {
    stages
        .iter()
        .filter(|((_, kind), record)| *kind == StageKind::Train && !record.state().ended())
        .map(|((model, _), record)| TrainOrder {
            model: *model,
            labelled: record.labelled,
            clock: record.clock,
            reason: record.reason.clone(),
            initial: record.initial,
            recent: record.recent,
        })
        .collect()
}

/// Trainings of tasks that had one, or that are watched for drift.
pub(super) fn training(
    tasks: &BTreeMap<TaskId, TaskRecord>,
    orders: &[TrainOrder],
    detectors: &BTreeMap<TaskId, Arc<Detectors>>,
) -> Vec<(TaskId, TaskTraining)> {
    tasks
        .iter()
        .filter(|(task, record)| record.ordered > 0 || detectors.contains_key(task))
        .map(|(task, record)| {
            let running = orders.iter().any(|order| order.model.task == *task);
            let mut training = TaskTraining::ordered(
                record.ordered,
                record.labelled_at_order,
                record.clock_at_order,
                running,
            );
            training.drift = detectors.get(task).and_then(|detectors| detectors.latest);
            (*task, training)
        })
        .collect()
}
