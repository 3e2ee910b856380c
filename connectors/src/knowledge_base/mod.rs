//! The knowledge base: everything that the pipeline knows, stored in RocksDB.
//!
//! It is the materialized view of [`KnowledgeChange`](perennial_operators::flow::KnowledgeChange)s:
//! a column family for each kind of fact, and one for the changes themselves. All writes go through
//! [`KnowledgeBase::commit`] or [`KnowledgeBase::prepare`], which write the effects of one or more
//! epochs atomically with the input position.

mod apply;
mod forget;
mod layout;
mod link;
mod merge;
mod open;
mod read;
mod read_models;
mod records;
mod verify;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use rocksdb::{DB, IteratorMode, WriteBatch, WriteOptions};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use merge::set_sums;
pub use read::View;
pub use records::{
    DonatedRecord, Incarnation, ModelRecord, OutboxProgress, OutboxWrite, Progress, Retained,
    ShareTerms, SharedRecord, ShedReason, SkippedTotal, StageRecord, TaskRecord,
};
pub use verify::Finding;

use crate::schema::{Label, Schema};
use apply::RemovedRows;
use layout::{
    Family, META_FINGERPRINT, META_FORMAT, META_PROGRESS, META_REVISED, META_RUN, META_SINCE,
};

/// Version of the layout on disk. A store of another version is refused.
const FORMAT: u32 = 10;

/// Name of the part of a fingerprint with the schema of the samples (JSON).
pub const SCHEMA: &str = "schema";

/// Failures of a knowledge base.
#[derive(Debug, thiserror::Error)]
pub enum KnowledgeError {
    /// The folder has no knowledge base.
    #[error("there is no knowledge base in {0}: give the --state folder of a run")]
    Missing(PathBuf),
    /// The folder has other content.
    #[error("{0} is not empty and holds no knowledge base: give another --state folder")]
    Foreign(PathBuf),
    /// The knowledge base has another format.
    #[error(
        "the knowledge base in {path} has format {found}, this version reads format {FORMAT}: use the version that wrote it, or another --state folder"
    )]
    Format {
        /// The state folder.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// The knowledge base was created with a config of other tasks, features or classes.
    #[error(
        "the knowledge base in {path} was made with another {what}: it can only go on with the same; give another --state folder to start anew"
    )]
    Fingerprint {
        /// The state folder.
        path: PathBuf,
        /// What differs.
        what: String,
    },
    /// Another process has the knowledge base open.
    #[error("the knowledge base in {0} is in use by another process")]
    Locked(PathBuf),
    /// A crash left a prepared commit.
    #[error(
        "the last run on {0} ended in the middle of a commit: run the pipeline once more, which settles it, and stop it again"
    )]
    Unsettled(PathBuf),
    /// The folder cannot be created or written.
    #[error("the state folder {path} cannot be used: {reason}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        reason: std::io::Error,
    },
    /// The knowledge base is damaged.
    #[error(
        "the knowledge base in {path} is damaged ({detail}): restore it from a copy, or give another --state folder"
    )]
    Damaged {
        /// The state folder.
        path: PathBuf,
        /// The message of RocksDB or of the decoder.
        detail: String,
    },
    /// Something that is to be forgotten may be among the changes that wait in the outbox.
    #[error(
        "{waiting} changes in {path} wait for the cloud and may hold what is to be forgotten: run the pipeline until they have arrived (perennial status shows them), and forget then"
    )]
    Outbox {
        /// The state folder.
        path: PathBuf,
        /// Number of changes.
        waiting: u64,
    },
    /// Another process changed the knowledge base while it was read.
    #[error(
        "the knowledge base in {path} is being written, and changed while it was read ({detail}): run the command again"
    )]
    Busy {
        /// The state folder.
        path: PathBuf,
        /// The message of RocksDB.
        detail: String,
    },
    /// The system refuses files, room or memory, or the disk fails. The knowledge base is as it
    /// was.
    #[error("the knowledge base in {path} cannot be used: {problem} ({detail})")]
    System {
        /// The state folder.
        path: PathBuf,
        /// What the system lacks, and what to do.
        problem: &'static str,
        /// The message of RocksDB.
        detail: String,
    },
    /// RocksDB could not read or write.
    #[error("the knowledge base in {path} cannot be written or read: {detail}")]
    Storage {
        /// The state folder.
        path: PathBuf,
        /// The message of RocksDB.
        detail: String,
    },
}

/// An open knowledge base.
pub struct KnowledgeBase {
    db: Arc<DB>,
    path: PathBuf,
    run: String,
    since: i64,
    /// Random id of this opening, not 0.
    incarnation: u64,
    /// When the numbers of published revisions last began anew; 0 if never.
    revised: AtomicI64,
    removed: RemovedRows,
    /// Whether it was opened to read, so that another process may be writing it.
    is_read_only: bool,
}

impl KnowledgeBase {
    fn with_run(mut self) -> Result<Self, KnowledgeError> {
        self.run = self.get(Family::Meta, META_RUN)?.unwrap_or_default();
        self.since = self.get(Family::Meta, META_SINCE)?.unwrap_or_default();
        let revised = self.get(Family::Meta, META_REVISED)?;
        self.revised = AtomicI64::new(revised.unwrap_or_default());
        Ok(self)
    }

    /// The id of the stream of the knowledge base, created with it.
    pub fn run(&self) -> &str {
        &self.run
    }

    /// When it was created, microseconds since 1970.
    pub fn since(&self) -> i64 {
        self.since
    }

    fn initialize(&self, fingerprint: &[(String, String)]) -> Result<(), KnowledgeError> {
        // Unique enough to distinguish two runs, and no secret.
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        let seed = format!("{}-{}", now.as_nanos(), std::process::id());
        let run = blake3::hash(seed.as_bytes()).to_hex()[..16].to_string();
        let mut batch = WriteBatch::default();
        self.put(&mut batch, Family::Meta, META_FORMAT, &FORMAT)?;
        self.put(&mut batch, Family::Meta, META_RUN, &run)?;
        let since = now.as_micros() as i64;
        self.put(&mut batch, Family::Meta, META_SINCE, &since)?;
        self.put(&mut batch, Family::Meta, META_FINGERPRINT, &fingerprint)?;
        self.put(
            &mut batch,
            Family::Meta,
            META_PROGRESS,
            &Progress::default(),
        )?;
        self.write(batch)
    }

    fn is_empty(&self, family: Family) -> Result<bool, KnowledgeError> {
        let first = self
            .db
            .iterator_cf(self.family(family)?, IteratorMode::Start)
            .next();
        match first {
            None => Ok(true),
            Some(Ok(_)) => Ok(false),
            Some(Err(error)) => Err(self.storage(&error)),
        }
    }

    fn check_fingerprint(&self, wanted: &[(String, String)]) -> Result<(), KnowledgeError> {
        let found: Vec<(String, String)> = self
            .get(Family::Meta, META_FINGERPRINT)?
            .unwrap_or_default();
        let different = wanted
            .iter()
            .find(|part| !found.contains(part))
            .or_else(|| found.iter().find(|part| !wanted.contains(part)));
        match different {
            None => Ok(()),
            Some((what, _)) => Err(KnowledgeError::Fingerprint {
                path: self.path.clone(),
                what: what.clone(),
            }),
        }
    }

    /// The schema of its stream.
    pub fn schema(&self) -> Result<Schema, KnowledgeError> {
        let parts: Vec<(String, String)> = self
            .get(Family::Meta, META_FINGERPRINT)?
            .unwrap_or_default();
        let schema = parts.iter().find(|(name, _)| name == SCHEMA);
        schema
            .and_then(|(_, schema)| serde_json::from_str(schema).ok())
            .ok_or_else(|| self.damaged(&"it does not say what its columns are"))
    }

    /// The label of its stream.
    pub fn label(&self) -> Result<Label, KnowledgeError> {
        let label = self.schema()?.label;
        label.ok_or_else(|| self.damaged(&"it does not say what its labels are"))
    }

    /// A consistent view of what is committed now.
    pub fn view(&self) -> View<'_> {
        View::new(self)
    }

    /// The value of a key, if it exists.
    fn get<T: DeserializeOwned>(
        &self,
        family: Family,
        key: &[u8],
    ) -> Result<Option<T>, KnowledgeError> {
        let found = self
            .db
            .get_pinned_cf(self.family(family)?, key)
            .map_err(|error| self.storage(&error))?;
        found.map(|bytes| self.decode(&bytes)).transpose()
    }

    fn put<T: Serialize + ?Sized>(
        &self,
        batch: &mut WriteBatch,
        family: Family,
        key: &[u8],
        value: &T,
    ) -> Result<(), KnowledgeError> {
        batch.put_cf(self.family(family)?, key, self.encode(value)?);
        Ok(())
    }

    fn encode<T: Serialize + ?Sized>(&self, value: &T) -> Result<Vec<u8>, KnowledgeError> {
        postcard::to_stdvec(value).map_err(|error| self.damaged(&error))
    }

    /// Appends an encoded value to `bytes`.
    fn append<T: Serialize + ?Sized>(
        &self,
        bytes: Vec<u8>,
        value: &T,
    ) -> Result<Vec<u8>, KnowledgeError> {
        postcard::to_extend(value, bytes).map_err(|error| self.damaged(&error))
    }

    fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, KnowledgeError> {
        postcard::from_bytes(bytes).map_err(|error| self.damaged(&error))
    }

    /// Writes a batch, and returns when it is durable.
    fn write(&self, batch: WriteBatch) -> Result<(), KnowledgeError> {
        self.write_with(batch, true)
    }

    /// Writes a batch, which is durable with the next synced write at the latest.
    fn write_soon(&self, batch: WriteBatch) -> Result<(), KnowledgeError> {
        self.write_with(batch, false)
    }

    fn write_with(&self, batch: WriteBatch, sync: bool) -> Result<(), KnowledgeError> {
        let mut options = WriteOptions::default();
        options.set_sync(sync);
        self.db
            .write_opt(batch, &options)
            .map_err(|error| self.storage(&error))
    }

    fn family(&self, family: Family) -> Result<&rocksdb::ColumnFamily, KnowledgeError> {
        self.db
            .cf_handle(family.name())
            .ok_or_else(|| self.damaged(&format!("it has no column family {}", family.name())))
    }

    fn damaged(&self, detail: &dyn std::fmt::Display) -> KnowledgeError {
        KnowledgeError::Damaged {
            path: self.path.clone(),
            detail: detail.to_string(),
        }
    }

    fn storage(&self, error: &rocksdb::Error) -> KnowledgeError {
        let named = open::named(&self.path, error);
        if self.is_read_only && matches!(named, KnowledgeError::Damaged { .. }) {
            return open::damaged_or_busy(named);
        }
        named
    }
}
