//! Which partitions to look at: those whose queues may have records, and those with a next record,
//! in their order. So a record costs no look at partitions that are at rest.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Thread;

/// The content of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    /// Samples, which come before labels of the same time.
    Samples,
    /// Labels.
    Labels,
}

/// Order of a partition among those with a next record: timestamp, role, number of the partition,
/// and its index among the readers.
pub(super) type HeadOrder = (i64, Role, i32, usize);

/// What librdkafka's threads tell the reading thread.
#[derive(Default)]
pub(super) struct Signals {
    has_any: AtomicBool,
    /// Indices of partitions whose queues are no longer empty.
    partitions: Mutex<Vec<usize>>,
    /// The thread to wake.
    thread: Mutex<Option<Thread>>,
}

impl Signals {
    /// Reports that the queue of a partition is no longer empty.
    pub(super) fn report(&self, index: usize) {
        lock(&self.partitions).push(index);
        self.has_any.store(true, Ordering::Release);
        if let Some(thread) = &*lock(&self.thread) {
            thread.unpark();
        }
    }

    /// Makes arriving records wake the calling thread.
    pub(super) fn wake_this_thread(&self) {
        let this = std::thread::current();
        let mut thread = lock(&self.thread);
        if thread.as_ref().map(Thread::id) != Some(this.id()) {
            *thread = Some(this);
        }
    }

    fn take(&self, into: &mut Vec<usize>) {
        if self.has_any.swap(false, Ordering::Acquire) {
            into.append(&mut lock(&self.partitions));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Partitions to look at.
pub(super) struct Ready {
    pub(super) signals: Arc<Signals>,
    /// Partitions whose queues may have records.
    to_poll: Vec<usize>,
    /// Partitions without a next record that have not reported their end.
    missing: BTreeSet<usize>,
    /// Partitions with a next record, of samples and of labels.
    heads: [BinaryHeap<Reverse<HeadOrder>>; 2],
}

impl Ready {
    /// All of `count` partitions may have records.
    pub(super) fn new(count: usize) -> Ready {
        Ready {
            signals: Arc::default(),
            to_poll: (0..count).collect(),
            missing: BTreeSet::new(),
            heads: Default::default(),
        }
    }

    /// Takes the partitions to poll.
    pub(super) fn take_to_poll(&mut self) -> Vec<usize> {
        self.signals.take(&mut self.to_poll);
        std::mem::take(&mut self.to_poll)
    }

    /// Returns the buffer of [`Ready::take_to_poll`], with the partitions that are still to poll.
    pub(super) fn poll_later(&mut self, mut partitions: Vec<usize>) {
        partitions.append(&mut self.to_poll);
        self.to_poll = partitions;
    }

    /// Records that a partition has a next record.
    pub(super) fn has_head(&mut self, place: HeadOrder) {
        self.missing.remove(&place.3);
        self.heads[place.1 as usize].push(Reverse(place));
    }

    /// Records that a partition has no next record: `ended` if it has reported its end.
    pub(super) fn has_none(&mut self, index: usize, ended: bool) {
        if ended {
            self.missing.remove(&index);
        } else {
            self.missing.insert(index);
        }
    }

    /// Partitions that should have a next record.
    pub(super) fn missing(&self) -> impl Iterator<Item = usize> {
        self.missing.iter().copied()
    }

    /// The partition with the first next record, of all or of one role.
    pub(super) fn first(&self, role: Option<Role>) -> Option<usize> {
        let heaps = self.heads.iter().filter_map(BinaryHeap::peek);
        let places = heaps.map(|Reverse(place)| place);
        let wanted = places.filter(|(_, own, _, _)| role.is_none_or(|role| role == *own));
        wanted.min().map(|(_, _, _, index)| *index)
    }

    /// Takes the next record of a partition, which is the first of its role.
    pub(super) fn take(&mut self, role: Role, index: usize) {
        let taken = self.heads[role as usize].pop();
        debug_assert_eq!(taken.map(|Reverse(place)| place.3), Some(index));
        self.to_poll.push(index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_partitions_that_may_have_records_are_polled() {
        let mut ready = Ready::new(3);
        assert_eq!(ready.take_to_poll(), [0, 1, 2]);
        ready.has_head((20, Role::Samples, 0, 0));
        ready.has_head((20, Role::Labels, 0, 2));
        ready.has_none(1, false);
        assert_eq!(ready.missing().collect::<Vec<_>>(), [1]);
        ready.has_none(1, true);
        assert_eq!(ready.missing().count(), 0);
        assert!(ready.take_to_poll().is_empty());
        assert_eq!(ready.first(None), Some(0));
        assert_eq!(ready.first(Some(Role::Labels)), Some(2));
        ready.signals.report(1);
        ready.take(Role::Samples, 0);
        assert_eq!(ready.take_to_poll(), [0, 1]);
        ready.has_head((10, Role::Samples, 1, 1));
        ready.has_head((30, Role::Samples, 0, 0));
        assert_eq!(ready.first(None), Some(1));
        ready.take(Role::Samples, 1);
        assert_eq!(ready.first(None), Some(2));
    }
}
