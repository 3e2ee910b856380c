//! Opening a knowledge base, to write or to read it, and the errors of RocksDB by their names.

use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DB, DBRecoveryMode, ErrorKind, Options,
};

use super::apply::RemovedRows;
use super::layout::{Family, META_FORMAT};
use super::merge::set_sums;
use super::{FORMAT, KnowledgeBase, KnowledgeError};
use crate::files::{create_private_folder, is_open_to_others, open_files};

/// Bound in bytes on the write buffers of all column families together.
const WRITE_BUFFERS: usize = 64 << 20;
/// Bound in bytes on the block cache of all column families together.
const BLOCK_CACHE: usize = 32 << 20;
/// Bounds of RocksDB's own log: bytes of a file, and number of files.
const LOG: (usize, usize) = (8 << 20, 4);

/// Attempts to read a knowledge base that another process is changing.
const ATTEMPTS: u32 = 10;
/// Pause between two attempts.
const PAUSE: Duration = Duration::from_millis(50);

/// What a system may refuse, as it words it, with the name of it and what to do.
const REFUSALS: [(&str, &str); 6] = [
    (
        "Too many open files in system",
        "the system has too many open files (ENFILE); end other programs, or raise fs.file-max",
    ),
    (
        "Too many open files",
        "too many open files (EMFILE); raise the limit (ulimit -n, or LimitNOFILE of systemd)",
    ),
    (
        "No space left on device",
        "the disk is full (ENOSPC); make room and run again",
    ),
    (
        "Disk quota exceeded",
        "the quota of the disk is used up (EDQUOT); make room and run again",
    ),
    (
        "Input/output error",
        "the disk fails (EIO); see the system's log, and have a copy of the state at hand",
    ),
    (
        "Cannot allocate memory",
        "there is not enough memory (ENOMEM); free some and run again",
    ),
];

impl KnowledgeBase {
    /// Opens the knowledge base in `path`, or creates one there. `fingerprint` has the names and
    /// values of the parts of the config that must not change.
    pub fn open(path: &Path, fingerprint: &[(String, String)]) -> Result<Self, KnowledgeError> {
        let store = path.join("knowledge");
        let exists = store.join("CURRENT").exists();
        if exists {
            check_format(path, &store)?;
        } else {
            prepare_folder(path, &store)?;
        }
        if is_open_to_others(path).unwrap_or(false) {
            tracing::warn!(?path, "other users can read the state folder: chmod 700");
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

    /// Opens an existing knowledge base to read it, also while a run uses it: a file may then be
    /// gone before it is opened, so it is tried again.
    pub fn open_to_read(path: &Path) -> Result<Self, KnowledgeError> {
        let store = path.join("knowledge");
        if !store.join("CURRENT").exists() {
            return Err(KnowledgeError::Missing(path.into()));
        }
        let open = || {
            check_format(path, &store)?;
            Self::open_store(path, &store, false)?.with_run()
        };
        for _ in 1..ATTEMPTS {
            match open() {
                Err(KnowledgeError::Damaged { .. } | KnowledgeError::Busy { .. }) => {
                    std::thread::sleep(PAUSE);
                }
                opened => return opened,
            }
        }
        open().map_err(damaged_or_busy)
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
        options.set_paranoid_checks(true);
        options.set_max_open_files(max_open_files(store, write));
        // Without these bounds a log grows as long as a process lives.
        options.set_max_log_file_size(LOG.0);
        options.set_keep_log_file_num(LOG.1);
        options.set_stats_dump_period_sec(0);
        // Without this bound each column family fills a buffer of its own.
        options.set_db_write_buffer_size(WRITE_BUFFERS);
        // A crash may leave an incomplete write at the end of the log. Any other error in it is
        // damage; RocksDB's default would treat it as the end and drop committed writes.
        options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
        let opened = if write {
            DB::open_cf_descriptors(&options, store, families())
        } else {
            DB::open_cf_descriptors_read_only(&options, store, families(), false)
        };
        let db = opened.map_err(|error| named(path, &error))?;
        Ok(KnowledgeBase {
            db: Arc::new(db),
            path: path.into(),
            run: String::new(),
            since: 0,
            incarnation: random_id(),
            revised: AtomicI64::new(0),
            removed: RemovedRows::default(),
            is_read_only: !write,
        })
    }
}

/// A random number, not 0. It is no secret.
fn random_id() -> u64 {
    // Each process seeds its hashers from the system's randomness.
    RandomState::new().build_hasher().finish().max(1)
}

/// The column families, which share a block cache.
fn families() -> [ColumnFamilyDescriptor; Family::ALL.len()] {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(&Cache::new_lru_cache(BLOCK_CACHE));
    blocks.set_cache_index_and_filter_blocks(true);
    let mut family_options = Options::default();
    family_options.set_block_based_table_factory(&blocks);
    let mut statistics_options = family_options.clone();
    set_sums(&mut statistics_options);
    Family::ALL.map(|family| {
        let options = match family {
            Family::Statistics => &statistics_options,
            _ => &family_options,
        };
        ColumnFamilyDescriptor::new(family.name(), options.clone())
    })
}

/// Number of tables that RocksDB keeps open: half of the files that the process may open. To read
/// beside a run, it opens all at once if it can (-1), since the run may remove one later.
fn max_open_files(store: &Path, write: bool) -> i32 {
    let half = open_files() / 2;
    let tables = || std::fs::read_dir(store).map_or(0, |entries| entries.count() as u64);
    if !write && tables() < half {
        return -1;
    }
    i32::try_from(half).unwrap_or(i32::MAX)
}

/// Refuses a store of another format. This comes before the store is opened as a whole, since it
/// may lack column families.
fn check_format(path: &Path, store: &Path) -> Result<(), KnowledgeError> {
    let meta = Family::Meta.name();
    let families = DB::list_cf(&Options::default(), store).map_err(|error| named(path, &error))?;
    // A process was killed while it created the store.
    if !families.iter().any(|family| family == meta) {
        return Ok(());
    }
    let mut options = Options::default();
    options.set_max_open_files(max_open_files(store, false));
    let db = DB::open_cf_for_read_only(&options, store, [meta], false)
        .map_err(|error| named(path, &error))?;
    let kb = KnowledgeBase {
        db: Arc::new(db),
        path: path.into(),
        run: String::new(),
        since: 0,
        incarnation: 0,
        revised: AtomicI64::new(0),
        removed: RemovedRows::default(),
        is_read_only: true,
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

/// Creates the state folder and that of the store, and refuses a state folder with other content.
fn prepare_folder(path: &Path, store: &Path) -> Result<(), KnowledgeError> {
    let folder_error = |reason| KnowledgeError::Folder {
        path: path.into(),
        reason,
    };
    create_private_folder(path).map_err(folder_error)?;
    for entry in std::fs::read_dir(path).map_err(folder_error)? {
        let entry = entry.map_err(folder_error)?;
        if entry.file_name() != "knowledge" || !is_just_begun(&entry.path()) {
            return Err(KnowledgeError::Foreign(path.into()));
        }
    }
    create_private_folder(store).map_err(folder_error)
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

/// The error that RocksDB's is. Damage is only what no later attempt can read.
pub(super) fn named(path: &Path, error: &rocksdb::Error) -> KnowledgeError {
    let detail = error.to_string();
    let mut refusals = REFUSALS.iter();
    if let Some((_, problem)) = refusals.find(|(words, _)| detail.contains(words)) {
        return KnowledgeError::System {
            path: path.into(),
            problem,
            detail,
        };
    }
    let path = path.to_path_buf();
    let is_denied = detail.contains("ermission") || detail.contains("Read-only");
    let is_locked = detail.contains("lock") && detail.contains("LOCK");
    match error.kind() {
        ErrorKind::IOError if is_denied => KnowledgeError::Folder {
            path,
            reason: std::io::Error::new(std::io::ErrorKind::PermissionDenied, detail),
        },
        ErrorKind::IOError if is_locked => KnowledgeError::Locked(path),
        // A file of the store is missing.
        ErrorKind::IOError if detail.contains("No such file") => {
            KnowledgeError::Damaged { path, detail }
        }
        ErrorKind::Corruption | ErrorKind::InvalidArgument | ErrorKind::NotSupported => {
            KnowledgeError::Damaged { path, detail }
        }
        _ => KnowledgeError::Storage { path, detail },
    }
}

/// The error of a reader: what looks like damage is none while another process writes the store.
pub(super) fn damaged_or_busy(error: KnowledgeError) -> KnowledgeError {
    match error {
        KnowledgeError::Damaged { path, detail } if is_written(&path.join("knowledge")) => {
            KnowledgeError::Busy { path, detail }
        }
        error => error,
    }
}

/// Whether another process has the store open to write it: RocksDB locks a file then.
fn is_written(store: &Path) -> bool {
    let mut lock = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    let asked = File::open(store.join("LOCK"))
        .is_ok_and(|file| fcntl(&file, FcntlArg::F_GETLK(&mut lock)).is_ok());
    asked && lock.l_type != libc::F_UNLCK as libc::c_short
}
