//! Quota: the number of samples that each task may keep, so that all together stay within a bound.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use crate::data::TaskId;

/// Quota of samples of one task: the highest with which all tasks together stay within their bound.
///
/// Only tasks with more samples than the quota give some up for the others. As samples come in, the
/// quota only ever falls.
///
/// ```
/// use perennial_operators::TaskId;
/// use perennial_operators::algorithms::retain::Quota;
///
/// // A task may keep 100 samples, all together 120.
/// let mut quota = Quota::new(100, 120);
/// quota.grow(TaskId(1), 90);
/// quota.grow(TaskId(2), 20);
/// assert!(!quota.fall());
///
/// quota.grow(TaskId(3), 30);
/// assert!(quota.fall());
/// assert_eq!(quota.samples_per_task(), 70); // 70 + 20 + 30 samples
/// ```
#[derive(Clone, Debug)]
pub struct Quota {
    /// Most samples of all tasks together.
    most: u64,
    /// Most samples of one task: the quota.
    level: u64,
    /// Samples of each task, up to the quota at the time when they came.
    sizes: FxHashMap<TaskId, u64>,
    /// Number of tasks by number of samples, for tasks with fewer samples than the quota.
    below: BTreeMap<u64, u64>,
    /// Number of tasks with at least as many samples as the quota.
    full: u64,
    /// Number of samples of all tasks together, each counted up to the quota.
    total: u64,
}

impl Quota {
    /// Starts without samples. One task may keep `per_task` samples, all tasks together `most`.
    pub fn new(per_task: u64, most: u64) -> Self {
        Quota {
            most,
            level: per_task,
            sizes: FxHashMap::default(),
            below: BTreeMap::new(),
            full: 0,
            total: 0,
        }
    }

    /// The quota: most samples that a task may keep.
    pub fn samples_per_task(&self) -> u64 {
        self.level
    }

    /// Adds labels to a task. The quota stays as it is until [`fall`](Quota::fall).
    pub fn grow(&mut self, task: TaskId, labels: u64) {
        let size = self.sizes.entry(task).or_default();
        let before = (*size).min(self.level);
        // Beyond the quota a task's size makes no difference: the quota never rises again.
        *size = before.saturating_add(labels).min(self.level);
        let after = *size;
        if before == after {
            return;
        }
        self.total += after - before;
        if let Some(tasks) = self.below.get_mut(&before) {
            *tasks -= 1;
            if *tasks == 0 {
                self.below.remove(&before);
            }
        }
        if after == self.level {
            self.full += 1;
        } else {
            *self.below.entry(after).or_default() += 1;
        }
    }

    /// Lowers the quota until all tasks together stay within their bound; returns whether it fell.
    pub fn fall(&mut self) -> bool {
        let before = self.level;
        while self.total > self.most {
            // Down to the next size, the same tasks give up samples.
            let next = self.below.last_key_value().map_or(0, |(size, _)| *size);
            let room = self.level - next;
            let steps = match self.full {
                0 => room,
                full => (self.total - self.most).div_ceil(full).min(room),
            };
            self.total -= steps * self.full;
            self.level -= steps;
            if steps == room {
                self.full += self.below.pop_last().map_or(0, |(_, tasks)| tasks);
            }
        }
        self.level < before
    }
}
