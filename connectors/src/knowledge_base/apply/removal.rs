//! Removal of rows that count no more.
//!
//! Each row is deleted by its key. RocksDB could delete ranges, but keeps each of them until it
//! writes its buffers to files, and puts all of them in order again whenever something is read:
//! with one for each commit, memory and time grow with the square of the commits.

use std::sync::atomic::{AtomicU64, Ordering};

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
}

impl RemovedRows {
    /// Forgets the numbers: a prepared commit that removed rows below them was dropped.
    pub(super) fn reset(&self) {
        for number in [&self.waiting, &self.seen, &self.outbox] {
            number.store(0, Ordering::SeqCst);
        }
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
