//! Forgetting: removes tasks, and every record that has their values, for good.
//!
//! It goes in two steps, each of which is repeated when the knowledge base is next opened to write,
//! if the process is killed meanwhile. First the record of changes and all families are rewritten
//! without what is forgotten, and a change says that something was forgotten. Then all files are
//! rewritten, since RocksDB keeps deleted values in its files until it compacts them.

mod changes;
mod families;

use perennial_operators::flow::{Effect, EpochEffects, KnowledgeChange};
use perennial_operators::{Erasure, Forgotten};
use rocksdb::{BottommostLevelCompaction, CompactOptions, WriteBatch};

use super::layout::{Family, META_FORGETTING, META_REWRITING};
use super::records::OutboxWrite;
use super::{KnowledgeBase, KnowledgeError};

/// Bytes of a batch that rewrites values.
const BATCH: usize = 16 << 20;

impl KnowledgeBase {
    /// Forgets tasks and the samples of a site for good. No view of the knowledge base may be open,
    /// since RocksDB keeps what a view may read.
    ///
    /// # Errors
    /// Changes wait in the outbox, or the store fails.
    pub fn forget(&self, erasure: &Erasure) -> Result<Forgotten, KnowledgeError> {
        let waiting = self.view().outbox_sizes()?.len() as u64;
        if waiting > 0 {
            let path = self.path.clone();
            return Err(KnowledgeError::Outbox { path, waiting });
        }
        let mut batch = WriteBatch::default();
        self.put(&mut batch, Family::Meta, META_FORGETTING, erasure)?;
        self.write(batch)?;
        let forgotten = self.remove(erasure)?;
        self.rewrite_files()?;
        Ok(forgotten)
    }

    /// Goes on with what an earlier process has begun to forget.
    pub(super) fn finish_forgetting(&self) -> Result<(), KnowledgeError> {
        if let Some(erasure) = self.get::<Erasure>(Family::Meta, META_FORGETTING)? {
            self.remove(&erasure)?;
        }
        if self.get::<()>(Family::Meta, META_REWRITING)?.is_some() {
            self.rewrite_files()?;
        }
        Ok(())
    }

    /// Rewrites the record of changes and all families without what is forgotten.
    fn remove(&self, erasure: &Erasure) -> Result<Forgotten, KnowledgeError> {
        let (left, removed) = self.forget_changes(erasure)?;
        let cleared = self.forget_families(erasure)?;
        let forgotten = Forgotten {
            tasks: cleared.tasks,
            samples: cleared.samples,
            changes: removed,
        };
        let mut changes = vec![KnowledgeChange::Forgotten(forgotten)];
        changes.extend(cleared.regions.map(KnowledgeChange::RegionsMoved));
        let mut progress = self.view().progress()?;
        progress.epoch = progress.next_epoch();
        progress.changes = left + changes.len() as u64;
        progress.unlabelled += cleared.waited;
        let effects = changes.into_iter().map(Effect::Change).collect();
        let effects = EpochEffects::gather(progress.epoch, effects);
        let mut batch = self.batch(&[effects], &progress, &OutboxWrite::default())?;
        batch.delete_cf(self.family(Family::Meta)?, META_FORGETTING);
        self.put(&mut batch, Family::Meta, META_REWRITING, &())?;
        self.write(batch)?;
        Ok(forgotten)
    }

    /// Rewrites all files of the store, so that no deleted value is left in one.
    fn rewrite_files(&self) -> Result<(), KnowledgeError> {
        for family in Family::ALL {
            self.rewrite_family(family)?;
        }
        let mut batch = WriteBatch::default();
        batch.delete_cf(self.family(Family::Meta)?, META_REWRITING);
        self.write(batch)?;
        // Logs are dropped once no family has anything in memory.
        self.rewrite_family(Family::Meta)
    }

    fn rewrite_family(&self, family: Family) -> Result<(), KnowledgeError> {
        let family = self.family(family)?;
        self.db
            .flush_cf(family)
            .map_err(|error| self.storage(&error))?;
        let mut options = CompactOptions::default();
        options.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
        let all = None::<&[u8]>;
        self.db.compact_range_cf_opt(family, all, all, &options);
        Ok(())
    }
}
