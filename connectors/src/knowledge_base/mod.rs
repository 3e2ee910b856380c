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
mod read;
mod records;
mod verify;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DB, DBRecoveryMode, IteratorMode, Options,
    WriteBatch, WriteOptions,
};
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
use layout::{
    Family, META_FINGERPRINT, META_FORMAT, META_PROGRESS, META_REVISED, META_RUN, META_SINCE,
};

/// Version of the layout on disk. A store of another version is refused.
const FORMAT: u32 = 10;

/// Name of the part of a fingerprint with the schema of the samples (JSON).
pub const SCHEMA: &str = "schema";
/// Bound in bytes on the write buffers of all column families together.
const WRITE_BUFFERS: usize = 64 << 20;
/// Bound in bytes on the block cache of all column families together.
const BLOCK_CACHE: usize = 32 << 20;

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
}

impl KnowledgeBase {
    /// Opens the knowledge base in `path`, or creates one there. `fingerprint` has the names and
    /// values of the parts of the config that must not change.
    pub fn open(path: &Path, fingerprint: &[(String, String)]) -> Result<Self, KnowledgeError> {
        let store = path.join("knowledge");
        let exists = store.join("CURRENT").exists();
        if exists {
            check_format(path, &store)?;
        } else {
            prepare_folder(path)?;
        }
        let kb = Self::open_store(path, &store, true)?;
        // A process that is killed while it creates a store leaves an empty one.
        if exists && !kb.is_empty(Family::Meta)? {
            kb.check_fingerprint(fingerprint)?;
        } else {
            kb.initialize(fingerprint)?;
        }
        kb.finish_forgetting()?;
        kb.with_run()
    }

    /// Opens an existing knowledge base to read it, also while a run uses it.
    pub fn open_to_read(path: &Path) -> Result<Self, KnowledgeError> {
        let store = path.join("knowledge");
        if !store.join("CURRENT").exists() {
            return Err(KnowledgeError::Missing(path.into()));
        }
        check_format(path, &store)?;
        Self::open_store(path, &store, false)?.with_run()
    }

    /// Opens an existing knowledge base to change it by hand, while no run uses it.
    ///
    /// # Errors
    /// A run uses it, or a crash left a prepared commit that the next run has to settle first.
    pub fn open_to_edit(path: &Path) -> Result<Self, KnowledgeError> {
        let kb = Self::open_to_settle(path)?;
        if kb.prepared()?.is_some() {
            return Err(KnowledgeError::Unsettled(path.into()));
        }
        kb.finish_forgetting()?;
        Ok(kb)
    }

    /// Opens an existing knowledge base to settle its prepared commit by hand, while no run uses
    /// it.
    pub fn open_to_settle(path: &Path) -> Result<Self, KnowledgeError> {
        let store = path.join("knowledge");
        if !store.join("CURRENT").exists() {
            return Err(KnowledgeError::Missing(path.into()));
        }
        check_format(path, &store)?;
        Self::open_store(path, &store, true)?.with_run()
    }

    fn open_store(path: &Path, store: &Path, write: bool) -> Result<Self, KnowledgeError> {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_keep_log_file_num(2);
        options.set_paranoid_checks(true);
        // Without this bound each column family fills a buffer of its own.
        options.set_db_write_buffer_size(WRITE_BUFFERS);
        // A crash may leave an incomplete write at the end of the log. Any other error in it is
        // damage; RocksDB's default would treat it as the end and drop committed writes.
        options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
        let mut blocks = BlockBasedOptions::default();
        blocks.set_block_cache(&Cache::new_lru_cache(BLOCK_CACHE));
        blocks.set_cache_index_and_filter_blocks(true);
        let mut family_options = Options::default();
        family_options.set_block_based_table_factory(&blocks);
        let mut statistics_options = family_options.clone();
        set_sums(&mut statistics_options);
        let families = Family::ALL.map(|family| {
            let options = match family {
                Family::Statistics => &statistics_options,
                _ => &family_options,
            };
            ColumnFamilyDescriptor::new(family.name(), options.clone())
        });
        let opened = if write {
            DB::open_cf_descriptors(&options, store, families)
        } else {
            DB::open_cf_descriptors_read_only(&options, store, families, false)
        };
        let db = opened.map_err(|error| open_error(path, &error))?;
        Ok(KnowledgeBase {
            db: Arc::new(db),
            path: path.into(),
            run: String::new(),
            since: 0,
            incarnation: random_id(),
            revised: AtomicI64::new(0),
        })
    }

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
        if error.kind() == rocksdb::ErrorKind::Corruption {
            return self.damaged(error);
        }
        KnowledgeError::Storage {
            path: self.path.clone(),
            detail: error.to_string(),
        }
    }
}

/// A random number, not 0. It is no secret.
fn random_id() -> u64 {
    // Each process seeds its hashers from the system's randomness.
    RandomState::new().build_hasher().finish().max(1)
}

/// Refuses a store of another format. This comes before the store is opened as a whole, since it
/// may lack column families.
fn check_format(path: &Path, store: &Path) -> Result<(), KnowledgeError> {
    let meta = Family::Meta.name();
    let families =
        DB::list_cf(&Options::default(), store).map_err(|error| open_error(path, &error))?;
    // A process was killed while it created the store.
    if !families.iter().any(|family| family == meta) {
        return Ok(());
    }
    let db = DB::open_cf_for_read_only(&Options::default(), store, [meta], false)
        .map_err(|error| open_error(path, &error))?;
    let kb = KnowledgeBase {
        db: Arc::new(db),
        path: path.into(),
        run: String::new(),
        since: 0,
        incarnation: 0,
        revised: AtomicI64::new(0),
    };
    match kb.get::<u32>(Family::Meta, META_FORMAT)? {
        Some(FORMAT) => Ok(()),
        None if kb.is_empty(Family::Meta)? => Ok(()),
        found => Err(KnowledgeError::Format {
            path: path.into(),
            found: found.unwrap_or(0),
        }),
    }
}

/// Creates the state folder, and refuses one with other content.
fn prepare_folder(path: &Path) -> Result<(), KnowledgeError> {
    let folder_error = |reason| KnowledgeError::Folder {
        path: path.into(),
        reason,
    };
    std::fs::create_dir_all(path).map_err(folder_error)?;
    for entry in std::fs::read_dir(path).map_err(folder_error)? {
        let entry = entry.map_err(folder_error)?;
        if entry.file_name() != "knowledge" || !is_just_begun(&entry.path()) {
            return Err(KnowledgeError::Foreign(path.into()));
        }
    }
    Ok(())
}

/// Whether a folder has only the files that RocksDB writes before a new store is complete: a
/// process was killed while it created the store.
fn is_just_begun(store: &Path) -> bool {
    std::fs::read_dir(store).is_ok_and(|mut entries| {
        entries.all(|entry| {
            entry.is_ok_and(|entry| {
                let name = entry.file_name();
                let name = name.to_string_lossy();
                matches!(&*name, "LOCK" | "LOG" | "IDENTITY" | "MANIFEST-000001")
                    || name.starts_with("LOG.old.")
                    || name.ends_with(".dbtmp")
            })
        })
    })
}

fn open_error(path: &Path, error: &rocksdb::Error) -> KnowledgeError {
    let detail = error.to_string();
    match error.kind() {
        rocksdb::ErrorKind::IOError if detail.contains("lock") && detail.contains("LOCK") => {
            if detail.contains("ermission") || detail.contains("Read-only") {
                return folder_denied(path, &detail);
            }
            KnowledgeError::Locked(path.into())
        }
        rocksdb::ErrorKind::IOError
            if detail.contains("ermission") || detail.contains("Read-only") =>
        {
            folder_denied(path, &detail)
        }
        rocksdb::ErrorKind::IOError if detail.contains("No space") => KnowledgeError::Storage {
            path: path.into(),
            detail,
        },
        _ => KnowledgeError::Damaged {
            path: path.into(),
            detail,
        },
    }
}

fn folder_denied(path: &Path, detail: &str) -> KnowledgeError {
    KnowledgeError::Folder {
        path: path.into(),
        reason: std::io::Error::new(std::io::ErrorKind::PermissionDenied, detail.to_string()),
    }
}
