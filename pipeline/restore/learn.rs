//! First state of the stage learn.

use std::collections::BTreeMap;
use std::sync::Arc;

use perennial_connectors::knowledge_base::{Retained, TaskRecord, View};
use perennial_operators::algorithms::drift::Detectors;
use perennial_operators::algorithms::pool::Adapters;
use perennial_operators::algorithms::retain::Reservoir;
use perennial_operators::learn::{RestoredMemory, RestoredStatistics, WindowEpochs};
use perennial_operators::{Epoch, RecentMoved, TaskId, TaskScores};

use super::{Restored, Shard};
use crate::config::Settings;
use crate::error::Error;

/// First state of the stage learn: that of the worker's tasks.
pub struct LearnStart {
    /// Statistics.
    pub statistics: Vec<RestoredStatistics>,
    /// Drift detectors.
    pub detectors: Vec<(TaskId, Arc<Detectors>)>,
    /// Tasks that have labels enough to be known, if unseen samples are recognized.
    pub known: Vec<TaskId>,
    /// Adapters.
    pub adapters: Adapters,
    /// The epochs that the recent samples of each task are of.
    pub recent_epochs: Vec<(TaskId, WindowEpochs)>,
    /// Retained samples.
    pub memory: RestoredMemory,
}

/// Recent samples of all tasks, in the order in which their labels became known.
pub(super) fn recents(
    view: &View<'_>,
    tasks: &BTreeMap<TaskId, TaskRecord>,
) -> Result<Vec<(Epoch, RecentMoved)>, Error> {
    let recents = view.recents()?.into_iter().map(|((task, epoch), samples)| {
        let parent = tasks.get(&task).and_then(|record| record.definition.parent);
        let moved = RecentMoved {
            task,
            parent,
            samples: Arc::new(samples),
            left: Vec::new(),
        };
        (epoch, moved)
    });
    let mut recents: Vec<_> = recents.collect();
    recents.sort_by_key(|(epoch, moved)| (*epoch, moved.task));
    Ok(recents)
}

pub(super) fn statistics(view: &View<'_>) -> Result<Vec<RestoredStatistics>, Error> {
    let mut windows: BTreeMap<TaskId, Vec<(Epoch, TaskScores)>> = BTreeMap::new();
    for ((task, epoch), scores) in view.windows()? {
        windows.entry(task).or_default().push((epoch, scores));
    }
    let restored = view.scores()?.into_iter().map(|(task, total)| {
        let window = windows.remove(&task).unwrap_or_default();
        RestoredStatistics {
            task,
            total,
            window,
        }
    });
    Ok(restored.collect())
}

impl Restored {
    pub(super) fn start_learn(&self, settings: &Settings, shard: Shard) -> LearnStart {
        let rules = settings.unseen.as_ref();
        LearnStart {
            statistics: self.statistics(shard),
            detectors: self.detectors(shard),
            known: rules.map_or_else(Vec::new, |rules| self.known(rules.known_after).collect()),
            adapters: self.adapters(shard),
            recent_epochs: self.recent_epochs(shard),
            memory: self.memory(shard),
        }
    }

    /// Tasks with at least `labels` labels, here or in the cloud.
    pub(super) fn known(&self, labels: i64) -> impl Iterator<Item = TaskId> {
        let stand = self.statistics.iter();
        let known = stand.filter(move |restored| restored.total.labelled >= labels);
        // What donors know of their tasks says nothing of those here.
        let followed = self.followed.keys().filter(|(_, donor)| *donor == 0);
        let followed = followed.map(|(task, _)| *task);
        known.map(|restored| restored.task).chain(followed)
    }

    /// The statistics of a worker's tasks.
    fn statistics(&self, shard: Shard) -> Vec<RestoredStatistics> {
        self.statistics
            .iter()
            .filter(|restored| shard.has(restored.task))
            .cloned()
            .collect()
    }

    /// The adapters of a worker's tasks.
    fn adapters(&self, shard: Shard) -> Adapters {
        let adapters = self.adapters.iter();
        let mine = adapters.filter(|(task, _)| shard.has(**task));
        mine.map(|(task, adapter)| (*task, adapter.clone()))
            .collect()
    }

    /// What watches a worker's tasks for drift.
    fn detectors(&self, shard: Shard) -> Vec<(TaskId, Arc<Detectors>)> {
        let stand = self.statistics.iter();
        let mine = stand.filter(|restored| shard.has(restored.task));
        mine.filter_map(|RestoredStatistics { task, total, .. }| {
            let detectors = self.detectors.get(task)?;
            Some((*task, Arc::new((**detectors).clone().resume(total.score))))
        })
        .collect()
    }

    /// The epochs that the recent samples of a worker's tasks are of.
    fn recent_epochs(&self, shard: Shard) -> Vec<(TaskId, WindowEpochs)> {
        let mut held: BTreeMap<TaskId, WindowEpochs> = BTreeMap::new();
        for (epoch, moved) in &self.recents {
            if shard.has(moved.task) {
                let count = moved.samples.labels.len();
                held.entry(moved.task)
                    .or_default()
                    .push_back((*epoch, count));
            }
        }
        held.into_iter().collect()
    }

    /// What is retained, of a worker's tasks.
    fn memory(&self, shard: Shard) -> RestoredMemory {
        let reservoir = |retained: &Retained| {
            Reservoir::restore(&retained.classes, retained.samples.iter().copied())
        };
        let all = || self.retained.iter();
        let seen = |retained: &Retained| retained.classes.iter().map(|class| class.seen).sum();
        let limits = |retained: &Retained| -> Vec<Option<u64>> {
            retained.classes.iter().map(|class| class.limit).collect()
        };
        RestoredMemory {
            start: self.epoch(),
            bounded: self.bounded,
            reservoirs: all()
                .filter(|(task, _)| shard.has(**task))
                .map(|(task, retained)| (*task, reservoir(retained)))
                .collect(),
            limits: all()
                .map(|(task, retained)| (*task, limits(retained)))
                .filter(|(_, limits)| limits.iter().any(Option::is_some))
                .collect(),
            seen: all()
                .map(|(task, retained)| (*task, seen(retained)))
                .collect(),
        }
    }
}
