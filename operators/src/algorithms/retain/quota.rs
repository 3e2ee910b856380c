//! The level: how many samples a task may keep, so that all tasks together stay within their bound.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use crate::data::TaskId;

/// Finds the level: the highest at which all tasks together keep no more samples than they may. The largest tasks alone
/// give up for the others. As samples come in it only ever falls.
#[derive(Clone, Debug)]
pub struct Quota {
    /// The most samples of all tasks.
    most: u64,
    /// The most samples of one task.
    level: u64,
    /// What each task would keep on its own.
    sizes: FxHashMap<TaskId, u64>,
    /// Numbers of samples below the level, and how many tasks keep so many.
    below: BTreeMap<u64, u64>,
    /// How many tasks have as many samples as the level allows, or more.
    full: u64,
    /// Samples of all tasks.
    total: u64,
}

impl Quota {
    /// No task keeps anything yet; one may keep `per_task` samples, all together may keep `most`.
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

    /// The most samples that a task may keep.
    pub fn samples_per_task(&self) -> u64 {
        self.level
    }

    /// Labels of a task came.
    pub fn grow(&mut self, task: TaskId, labels: u64) {
        let size = self.sizes.entry(task).or_default();
        let before = (*size).min(self.level);
        // Beyond the level it makes no difference how large a task is: there is no way back up.
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

    /// Lowers the level as far as it takes; says whether it did.
    pub fn fall(&mut self) -> bool {
        let before = self.level;
        while self.total > self.most {
            // Down to the next size it is the same tasks that give up.
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
