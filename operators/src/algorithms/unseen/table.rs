//! The table of unseen tasks: those that come most often, in bounded memory.
//!
//! It is the Space-Saving summary of Metwally et al. 2005, "Efficient computation of frequent and top-k elements in data
//! streams", §3: where there is no room, the group with the fewest samples makes way, and the new one counts its samples as
//! its own. With room for k groups, every one that has more than a k-th of all their samples is in the table.

use std::collections::BTreeSet;

use rustc_hash::FxHashMap;

use super::group::{HeldSample, UnseenGroup};
use crate::data::{TaskId, TaskPath};

/// A group and the labelled samples that it holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The group.
    pub group: UnseenGroup,
    /// Its labelled samples, in the order of the stream.
    pub held: Vec<HeldSample>,
}

/// So many groups at most.
pub struct Table {
    room: usize,
    groups: FxHashMap<TaskId, Entry>,
    /// By number of samples, those that came first in front.
    by_samples: BTreeSet<(u64, u64, TaskId)>,
}

fn place(group: &UnseenGroup) -> (u64, u64, TaskId) {
    (group.samples, group.first, group.task().task)
}

impl Table {
    /// A table with room for so many groups, and these in it.
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

    /// A group.
    pub fn get(&self, task: TaskId) -> Option<&Entry> {
        self.groups.get(&task)
    }

    /// Takes in samples of a group, the first of them with this sequence number; gives back the group that made room.
    pub fn sight(&mut self, path: TaskPath, samples: u64, first: u64) -> Option<Entry> {
        let task = path.leaf().task;
        if let Some(entry) = self.groups.get_mut(&task) {
            self.by_samples.remove(&place(&entry.group));
            entry.group.samples += samples;
            self.by_samples.insert(place(&entry.group));
            return None;
        }
        let full = self.groups.len() >= self.room;
        let least = self.by_samples.first().filter(|_| full);
        let gone = least.map(|(_, _, task)| *task);
        let gone = gone.and_then(|task| self.remove(task));
        let error = gone.as_ref().map_or(0, |gone| gone.group.samples);
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
        gone
    }

    /// Holds a labelled sample of a group; gives back the group that made room, if it has to be taken in for that.
    pub fn hold(&mut self, path: TaskPath, sample: HeldSample) -> Option<Entry> {
        let task = path.leaf().task;
        let gone = match self.groups.contains_key(&task) {
            true => None,
            false => self.sight(path, 1, sample.sequence),
        };
        if let Some(entry) = self.groups.get_mut(&task) {
            entry.group.labelled += 1;
            let place = |held: &HeldSample| held.sequence < sample.sequence;
            let place = entry.held.partition_point(place);
            entry.held.insert(place, sample);
        }
        gone
    }

    /// Notes that a group is being tried with the labels that it has now, or that it is no more.
    pub fn set_trying(&mut self, task: TaskId, trying: bool) {
        if let Some(Entry { group, .. }) = self.groups.get_mut(&task) {
            group.trying = trying;
            if trying {
                group.tried = group.labelled;
            }
        }
    }

    /// Takes a group out.
    pub fn remove(&mut self, task: TaskId) -> Option<Entry> {
        let entry = self.groups.remove(&task)?;
        self.by_samples.remove(&place(&entry.group));
        Some(entry)
    }

    /// Takes the labelled samples of all groups out, with how many tasks above each are defined.
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

    /// The groups that have labels, by task.
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
    fn those_that_come_often_stay_and_counts_are_bounds() {
        let mut table = Table::restore(20, []);
        let mut counts = vec![0_u64; 10_000];
        for round in 0..5_000 {
            // Every fifth is of one of three that come again and again; the others come once.
            let value = match round % 5 {
                0 => round % 3,
                _ => 10 + round,
            };
            counts[value] += 1;
            table.sight(path(value), 1, round as u64);
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
        let gone = table.sight(path(2), 1, 8).expect("the first made room");
        assert_eq!((gone.group.labelled, gone.held), (1, vec![sample]));
        assert!(table.labelled().is_empty());
    }
}
