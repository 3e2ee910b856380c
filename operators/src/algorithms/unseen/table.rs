//! Table of unseen tasks: those with the most samples, in bounded memory.
//!
//! It is the Space-Saving summary of Metwally et al. 2005, "Efficient computation of frequent and
//! top-k elements in data streams", §3: when the table is full, the group with the fewest samples
//! is evicted, and the new one inherits its count. In a table of `k` groups, every group with more
//! than 1/k of all groups' samples is present.

use std::collections::BTreeSet;

use rustc_hash::FxHashMap;

use super::group::{HeldSample, UnseenGroup};
use crate::data::{TaskId, TaskPath};

/// A group and its held samples.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The group.
    pub group: UnseenGroup,
    /// Labelled samples of the group, in the order of the stream.
    pub held: Vec<HeldSample>,
}

/// A table of at most `room` groups, kept by the Space-Saving rule.
///
/// ```
/// use perennial_operators::algorithms::unseen::Table;
/// use perennial_operators::{TaskDefinition, TaskPath};
///
/// let path = |city: &str| {
///     let base = TaskDefinition::base();
///     let own = base.child(&[("city".into(), city.into())]);
///     TaskPath { nodes: vec![base, own] }
/// };
/// let mut table = Table::restore(2, []);
/// table.add_samples(path("athens"), 5, 0); // 5 samples, from sequence number 0 on
/// table.add_samples(path("oslo"), 1, 5);
///
/// // The table is full: the smallest group is evicted, and the new one inherits its count.
/// let evicted = table.add_samples(path("lima"), 1, 6).unwrap();
/// assert_eq!(&*evicted.group.task().name, "city=oslo");
/// let lima = &table.get(path("lima").leaf().task).unwrap().group;
/// assert_eq!((lima.samples, lima.error), (2, 1));
/// ```
pub struct Table {
    room: usize,
    groups: FxHashMap<TaskId, Entry>,
    /// Groups in the order of their eviction: by number of samples, then by the first sample.
    by_samples: BTreeSet<(u64, u64, TaskId)>,
}

/// Key of a group in `Table::by_samples`.
fn place(group: &UnseenGroup) -> (u64, u64, TaskId) {
    (group.samples, group.first, group.task().task)
}

impl Table {
    /// Creates a table with room for `room` groups, with these in it.
    pub fn restore(room: usize, entries: impl IntoIterator<Item = Entry>) -> Table {
        let mut table = Table {
            room,
            groups: FxHashMap::default(),
            by_samples: BTreeSet::new(),
        };
        for entry in entries {
            table.by_samples.insert(place(&entry.group));
            table.groups.insert(entry.group.task().task, entry);
        }
        table
    }

    /// The entry of a group, if it is in the table.
    pub fn get(&self, task: TaskId) -> Option<&Entry> {
        self.groups.get(&task)
    }

    /// Adds samples of a group, of which `first` is the lowest sequence number. Returns the group
    /// that was evicted for it, if any.
    pub fn add_samples(&mut self, path: TaskPath, samples: u64, first: u64) -> Option<Entry> {
        let task = path.leaf().task;
        if let Some(entry) = self.groups.get_mut(&task) {
            self.by_samples.remove(&place(&entry.group));
            entry.group.samples += samples;
            self.by_samples.insert(place(&entry.group));
            return None;
        }
        let full = self.groups.len() >= self.room;
        let smallest = self.by_samples.first().filter(|_| full);
        let smallest = smallest.map(|(_, _, task)| *task);
        let evicted = smallest.and_then(|task| self.remove(task));
        let error = evicted.as_ref().map_or(0, |entry| entry.group.samples);
        let group = UnseenGroup {
            path,
            first,
            samples: error + samples,
            error,
            labelled: 0,
            tried: 0,
            trying: false,
        };
        self.by_samples.insert(place(&group));
        let held = Vec::new();
        self.groups.insert(task, Entry { group, held });
        evicted
    }

    /// Holds a labelled sample of a group, which is added if it is new. Returns the group that was
    /// evicted for it, if any.
    pub fn hold(&mut self, path: TaskPath, sample: HeldSample) -> Option<Entry> {
        let task = path.leaf().task;
        let evicted = if self.groups.contains_key(&task) {
            None
        } else {
            self.add_samples(path, 1, sample.sequence)
        };
        if let Some(entry) = self.groups.get_mut(&task) {
            entry.group.labelled += 1;
            let earlier = |held: &HeldSample| held.sequence < sample.sequence;
            let place = entry.held.partition_point(earlier);
            entry.held.insert(place, sample);
        }
        evicted
    }

    /// Marks that a trial of a group with its present labels began, or that it ended.
    pub fn set_trying(&mut self, task: TaskId, trying: bool) {
        if let Some(Entry { group, .. }) = self.groups.get_mut(&task) {
            group.trying = trying;
            if trying {
                group.tried = group.labelled;
            }
        }
    }

    /// Removes a group.
    pub fn remove(&mut self, task: TaskId) -> Option<Entry> {
        let entry = self.groups.remove(&task)?;
        self.by_samples.remove(&place(&entry.group));
        Some(entry)
    }

    /// Removes the held samples of all groups, in the order of the stream, each with the number of
    /// defined tasks on its path.
    pub fn take_held(&mut self) -> Vec<(usize, HeldSample)> {
        let mut held = Vec::new();
        for entry in self.groups.values_mut() {
            let above = entry.group.path.nodes.len() - 1;
            held.extend(entry.held.drain(..).map(|sample| (above, sample)));
            entry.group.labelled = 0;
        }
        held.sort_by_key(|(_, sample)| sample.sequence);
        held
    }

    /// Groups with held labels, by task.
    pub fn labelled(&self) -> Vec<TaskId> {
        let labelled = self
            .groups
            .iter()
            .filter(|(_, entry)| !entry.held.is_empty());
        let mut tasks: Vec<TaskId> = labelled.map(|(task, _)| *task).collect();
        tasks.sort_unstable();
        tasks
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::TaskDefinition;

    fn path(value: usize) -> TaskPath {
        let base = TaskDefinition::base();
        let own = base.child(&[("site".to_string(), value.to_string())]);
        TaskPath {
            nodes: vec![base, own],
        }
    }

    #[test]
    fn frequent_groups_stay_and_counts_are_bounds() {
        let mut table = Table::restore(20, []);
        let mut counts = vec![0_u64; 10_000];
        for round in 0..5_000 {
            // Every fifth sample is of one of three frequent groups; all others are of new groups.
            let value = match round % 5 {
                0 => round % 3,
                _ => 10 + round,
            };
            counts[value] += 1;
            table.add_samples(path(value), 1, round as u64);
        }
        assert_eq!(table.groups.len(), 20);
        let total: u64 = table.groups.values().map(|entry| entry.group.samples).sum();
        assert_eq!(total, 5_000);
        for (value, count) in counts.iter().enumerate() {
            if let Some(entry) = table.get(path(value).leaf().task) {
                let UnseenGroup { samples, error, .. } = entry.group;
                assert!(samples - error <= *count && *count <= samples);
            } else {
                assert!(*count <= 5_000 / 20, "{value}");
            }
        }
        assert!((0..3).all(|value| table.get(path(value).leaf().task).is_some()));
    }

    #[test]
    fn labels_leave_with_their_group() {
        let mut table = Table::restore(1, []);
        let sample = HeldSample {
            sequence: 7,
            label: 1.0,
            stored: Vec::new(),
        };
        assert!(table.hold(path(1), sample.clone()).is_none());
        assert_eq!(table.labelled(), [path(1).leaf().task]);
        let evicted = table.add_samples(path(2), 1, 8).expect("the first group");
        assert_eq!((evicted.group.labelled, evicted.held), (1, vec![sample]));
        assert!(table.labelled().is_empty());
    }
}
