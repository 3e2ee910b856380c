//! Removal of rows that count no more.
//!
//! Each row is deleted by its key. RocksDB could delete ranges, but keeps each of them until it
//! writes its buffers to files, and puts all of them in order again whenever something is read:
//! with one for each commit, memory and time grow with the square of the commits.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rocksdb::ReadOptions;

use super::CommitWriter;
use crate::knowledge_base::layout::Family;
use crate::knowledge_base::{KnowledgeBase, KnowledgeError};

/// Numbers below which no rows are left, so that a commit looks for none of them again.
#[derive(Default)]
pub(in crate::knowledge_base) struct RemovedRows {
    /// Samples that waited for their labels, and requests for these.
    pub(super) waiting: AtomicU64,
    /// Ids of samples.
    pub(super) seen: AtomicU64,
    /// Changes in the outbox.
    pub(super) outbox: AtomicU64,
    /// State of the latest commit: prepared and not applied, so that it may yet be dropped.
    is_prepared: AtomicBool,
}

impl RemovedRows {
    /// Begins another commit. It takes the place of one that was prepared and not applied, which
    /// has removed nothing.
    pub(super) fn begin_commit(&self) {
        if self.is_prepared.swap(false, Ordering::SeqCst) {
            for number in [&self.waiting, &self.seen, &self.outbox] {
                number.store(0, Ordering::SeqCst);
            }
        }
    }

    /// Notes that the commit is prepared, or that it is applied.
    pub(super) fn set_prepared(&self, is_prepared: bool) {
        self.is_prepared.store(is_prepared, Ordering::SeqCst);
    }
}

impl CommitWriter<'_> {
    /// Removes the stored rows of the families whose keys begin with a number below `end`. Rows of
    /// this commit stay.
    pub(super) fn remove_below(
        &mut self,
        families: &[Family],
        removed: impl Fn(&RemovedRows) -> &AtomicU64,
        key: impl Fn(u64) -> Vec<u8>,
        end: u64,
    ) -> Result<(), KnowledgeError> {
        let begin = removed(&self.kb.removed).fetch_max(end, Ordering::SeqCst);
        if begin >= end {
            return Ok(());
        }
        for family in families {
            self.remove_rows(*family, key(begin), key(end))?;
        }
        Ok(())
    }

    /// Removes the stored rows from a key up to another one. Rows of this commit stay.
    pub(super) fn remove_rows(
        &mut self,
        family: Family,
        from: Vec<u8>,
        to: Vec<u8>,
    ) -> Result<(), KnowledgeError> {
        let kb: &KnowledgeBase = self.kb;
        let mut options = ReadOptions::default();
        options.set_iterate_range(from..to);
        let family = kb.family(family)?;
        let mut rows = kb.db.raw_iterator_cf_opt(family, options);
        rows.seek_to_first();
        while let Some(key) = rows.key() {
            self.batch.delete_cf(family, key);
            rows.next();
        }
        rows.status().map_err(|error| kb.storage(&error))
    }
}

#[cfg(test)]
mod tests {
    use perennial_operators::Epoch;
    use perennial_operators::flow::EpochEffects;

    use super::*;
    use crate::knowledge_base::{OutboxWrite, Progress};

    /// An epoch after which samples from a sequence number on wait, one of them new.
    fn epoch(number: u64, floor: u64, added: u64) -> [EpochEffects; 1] {
        let mut effects = EpochEffects::gather(Epoch(number), Vec::new());
        effects.pending_floor = Some(floor);
        effects.pending = vec![(added, vec![0])];
        [effects]
    }

    #[test]
    fn rows_are_removed_once_their_removal_is_applied() {
        let folder = tempfile::tempdir().unwrap();
        let knowledge = KnowledgeBase::open(folder.path(), &[]).unwrap();
        let (progress, outbox) = (Progress::default(), OutboxWrite::default());
        let waiting = || knowledge.view().pending().unwrap().len();
        let prepare = |epochs: &[EpochEffects]| {
            knowledge.prepare(epochs, &progress, &outbox).unwrap();
        };
        for sequence in 0..3 {
            let epochs = epoch(sequence, 0, sequence);
            knowledge.commit(&epochs, &progress, &outbox).unwrap();
        }
        assert_eq!(waiting(), 3);
        // Prepared again, since a transaction was aborted.
        prepare(&epoch(3, 3, 3));
        prepare(&epoch(3, 3, 3));
        assert_eq!(waiting(), 3);
        knowledge.apply_prepared().unwrap();
        assert_eq!(waiting(), 1);
        // Dropped, and made by another commit.
        prepare(&epoch(4, 4, 4));
        knowledge.drop_prepared().unwrap();
        assert_eq!(waiting(), 1);
        let epochs = epoch(4, 4, 4);
        knowledge.commit(&epochs, &progress, &outbox).unwrap();
        assert_eq!(waiting(), 1);
        knowledge
            .commit(&epoch(5, 5, 5), &progress, &outbox)
            .unwrap();
        assert_eq!(waiting(), 1);
    }
}
