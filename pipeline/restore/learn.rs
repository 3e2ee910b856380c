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

/// First state of the stage learn, for the worker's tasks.
pub struct LearnStart {
    /// Statistics of tasks.
    pub statistics: Vec<RestoredStatistics>,
    /// Drift detectors of tasks.
    pub detectors: Vec<(TaskId, Arc<Detectors>)>,
    /// Tasks with enough labels to be known; none if unseen samples are not recognized.
    pub known: Vec<TaskId>,
    /// Adapters of tasks.
    pub adapters: Adapters,
    /// Epochs of the recent samples of each task, with the number of samples in each.
    pub recent_epochs: Vec<(TaskId, WindowEpochs)>,
    /// Retained samples of tasks.
    pub memory: RestoredMemory,
}

/// Recent samples of all tasks, in the order in which their labels became known.
pub(super) fn recents(
    view: &View<'_>,
    tasks: &BTreeMap<TaskId, TaskRecord>,
) -> Result<Vec<(Epoch, RecentMoved)>, Error> {
    let moved = view.recents()?.into_iter().map(|((task, epoch), samples)| {
        let parent = tasks.get(&task).and_then(|record| record.definition.parent);
        let moved = RecentMoved {
            task,
            parent,
            samples: Arc::new(samples),
            left: Vec::new(),
        };
        (epoch, moved)
    });
    let mut recents: Vec<_> = moved.collect();
    recents.sort_by_key(|(epoch, moved)| (*epoch, moved.task));
    Ok(recents)
}

/// Statistics of all tasks, each with the epochs of its window.
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

    /// Tasks with at least `labels` labels here, and tasks that the cloud published.
    pub(super) fn known(&self, labels: i64) -> impl Iterator<Item = TaskId> {
        let labelled = self
            .statistics
            .iter()
            .filter(move |restored| restored.total.labelled >= labels)
            .map(|restored| restored.task);
        // A donor's labels are of tasks elsewhere: they make no task known here.
        let published = self
            .followed
            .keys()
            .filter(|(_, donor)| *donor == 0)
            .map(|(task, _)| *task);
        labelled.chain(published)
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
        self.adapters
            .iter()
            .filter(|(task, _)| shard.has(**task))
            .map(|(task, adapter)| (*task, adapter.clone()))
            .collect()
    }

    /// The drift detectors of a worker's tasks; they resume at the scores of the last commit.
    fn detectors(&self, shard: Shard) -> Vec<(TaskId, Arc<Detectors>)> {
        self.statistics
            .iter()
            .filter(|restored| shard.has(restored.task))
            .filter_map(|RestoredStatistics { task, total, .. }| {
                let detectors = self.detectors.get(task)?;
                Some((*task, Arc::new((**detectors).clone().resume(total.score))))
            })
            .collect()
    }

    /// The epochs of the recent samples of a worker's tasks.
    fn recent_epochs(&self, shard: Shard) -> Vec<(TaskId, WindowEpochs)> {
        let mut epochs: BTreeMap<TaskId, WindowEpochs> = BTreeMap::new();
        for (epoch, moved) in &self.recents {
            if shard.has(moved.task) {
                let count = moved.samples.labels.len();
                epochs
                    .entry(moved.task)
                    .or_default()
                    .push_back((*epoch, count));
            }
        }
        epochs.into_iter().collect()
    }

    /// The retained samples of a worker's tasks, with the limits and label counts of all tasks.
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
