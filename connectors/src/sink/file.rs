//! An append-only text file that is cut to its committed length on open, and rolls.
//!
//! The current file always has the name in the config; a finished one gets a number. A commit names
//! the file by its content, see [`OutputFile`], so that others may move or remove it, and nobody
//! else's file is ever cut or appended to.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::SinkError;
use super::roll::{Roll, now};
use crate::files::{OutputFile, mark_of, sync_folder_of};

/// How an append-only file is made.
#[derive(Clone, Debug, Default)]
pub struct AppendOptions {
    /// First bytes of each file, written with its first lines.
    pub header: Vec<u8>,
    /// When it rolls.
    pub roll: Roll,
    /// Whether its owner alone may read it.
    pub is_private: bool,
}

impl AppendOptions {
    /// Mode of a new file, of which the process's umask is taken.
    pub(super) fn mode(&self) -> u32 {
        if self.is_private { 0o600 } else { 0o666 }
    }
}

/// A file that is appended to.
pub struct AppendFile {
    path: PathBuf,
    options: AppendOptions,
    writer: BufWriter<File>,
    /// The file as of the last flush.
    file: OutputFile,
    length: u64,
    /// Whether bytes were written since the last flush.
    dirty: bool,
}

impl AppendFile {
    /// Opens the file that was committed and cuts it to its committed length, or begins a new one
    /// where none is.
    ///
    /// # Errors
    /// The file is not the committed one, or cannot be written.
    pub fn open(
        path: &Path,
        options: AppendOptions,
        committed: Option<&OutputFile>,
    ) -> Result<Self, SinkError> {
        let failed = |reason| write_error(path, reason);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        let mut file = committed.cloned().unwrap_or_default();
        undo_roll(path, &file).map_err(failed)?;
        let opened = open(path, &options).map_err(failed)?;
        let found = opened.metadata().map_err(failed)?.len();
        let is_same_path = Path::new(&file.path) == path;
        if found > 0 {
            if !file.is(&opened).map_err(failed)? {
                return Err(not_committed(path, found, is_same_path, file.length));
            }
            opened.set_len(file.length).map_err(failed)?;
            // It may be a copy of the committed file.
            file.inode = opened.metadata().map_err(failed)?.ino();
        } else {
            if is_same_path && file.length > 0 {
                let bytes = file.length;
                tracing::warn!(?path, bytes, "an output file is missing; begun anew");
            }
            if !is_same_path {
                // The finished files at another path are not these.
                (file.number, file.oldest) = (0, 0);
            }
            begin(&mut file, path, &opened).map_err(failed)?;
        }
        file.path = path.to_string_lossy().into_owned();
        Ok(AppendFile {
            path: path.into(),
            options,
            writer: writer(opened),
            length: file.length,
            file,
            dirty: false,
        })
    }

    /// The file as it was last flushed.
    pub fn file(&self) -> &OutputFile {
        &self.file
    }

    /// Appends whole lines. They need not be durable yet.
    pub fn append(&mut self, lines: &[u8]) -> Result<(), SinkError> {
        if lines.is_empty() {
            return Ok(());
        }
        let header = &self.options.header[..];
        for bytes in [if self.length == 0 { header } else { b"" }, lines] {
            let written = self.writer.write_all(bytes);
            written.map_err(|reason| write_error(&self.path, reason))?;
            self.length += bytes.len() as u64;
        }
        self.dirty = true;
        Ok(())
    }

    /// Whether the file is to roll for its age, though nothing may have been appended.
    pub fn is_due(&self) -> bool {
        self.length > 0 && self.options.roll.is_old(self.file.begun)
    }

    /// Makes all bytes durable and returns the file to commit: this one, or the next if this one is
    /// finished or was moved by somebody else.
    pub fn flush(&mut self) -> Result<OutputFile, SinkError> {
        if self.dirty || self.is_due() {
            let rolled = self.roll();
            rolled.map_err(|reason| write_error(&self.path, reason))?;
        }
        Ok(self.file.clone())
    }

    fn roll(&mut self) -> std::io::Result<()> {
        self.writer.flush()?;
        self.writer.get_ref().sync_data()?;
        self.dirty = false;
        let is_mine = std::fs::metadata(&self.path).is_ok_and(|at| at.ino() == self.file.inode);
        if !is_mine {
            tracing::info!(path = ?self.path, "an output file was moved; begun anew");
            return self.begin();
        }
        let found = self.writer.get_ref().metadata()?.len();
        if found != self.length {
            let written = self.length;
            tracing::warn!(path = ?self.path, written, found, "somebody else changed an output file");
            self.length = found;
        }
        let is_large = |limit: u64| self.length >= limit;
        let is_full = self.options.roll.bytes.is_some_and(is_large) || self.is_due();
        if is_full {
            return self.finish();
        }
        self.file.length = self.length;
        self.file.mark = mark_of(self.writer.get_ref(), self.length)?;
        Ok(())
    }

    /// Gives the file its number, and begins the next one.
    fn finish(&mut self) -> std::io::Result<()> {
        let mut number = self.file.number;
        while numbered(&self.path, number).exists() {
            number += 1;
        }
        if number != self.file.number {
            // Somebody else's files lie between: those before them are left alone.
            self.file.oldest = number;
        }
        std::fs::rename(&self.path, numbered(&self.path, number))?;
        self.file.number = number + 1;
        let path = |number| numbered(&self.path, number);
        let roll = &self.options.roll;
        self.file.oldest = roll.prune(self.file.oldest, number + 1, path)?;
        self.begin()
    }

    /// Begins a new file at the path, where none may be, or an empty one.
    fn begin(&mut self) -> std::io::Result<()> {
        let opened = open(&self.path, &self.options)?;
        if opened.metadata()?.len() > 0 {
            let message = "another file was put in the place of this output: move it away";
            return Err(std::io::Error::new(
                std::io::ErrorKind::AlreadyExists,
                message,
            ));
        }
        begin(&mut self.file, &self.path, &opened)?;
        self.writer = writer(opened);
        self.length = 0;
        Ok(())
    }
}

pub(super) fn write_error(path: &Path, reason: std::io::Error) -> SinkError {
    SinkError::Write {
        path: path.into(),
        reason,
    }
}

/// The error about a file that is not the committed one.
fn not_committed(path: &Path, found: u64, is_same_path: bool, committed: u64) -> SinkError {
    let path = path.into();
    if is_same_path && found < committed {
        return SinkError::Shortened {
            path,
            found,
            committed,
        };
    }
    SinkError::Foreign(path)
}

fn open(path: &Path, options: &AppendOptions) -> std::io::Result<File> {
    // Appended to by the system: if somebody empties the file, no hole is left in it.
    let mut opened = File::options();
    opened.create(true).read(true).append(true);
    opened.mode(options.mode()).open(path)
}

fn writer(file: File) -> BufWriter<File> {
    BufWriter::with_capacity(1 << 16, file)
}

/// Sets what is known of a file that is still empty, and makes its name durable.
fn begin(file: &mut OutputFile, path: &Path, opened: &File) -> std::io::Result<()> {
    file.inode = opened.metadata()?.ino();
    (file.length, file.mark) = (0, 0);
    file.begun = now();
    sync_folder_of(path)
}

/// Gives a finished file its old name back if a crash came before the commit of its roll. The file
/// that was begun after it is still empty.
fn undo_roll(path: &Path, committed: &OutputFile) -> std::io::Result<()> {
    if std::fs::metadata(path).is_ok_and(|found| found.len() > 0) {
        return Ok(());
    }
    let numbers = committed.number..;
    let finished = numbers.map(|number| numbered(path, number));
    for finished in finished.take_while(|finished| finished.exists()) {
        if committed.is(&File::open(&finished)?)? {
            std::fs::rename(&finished, path)?;
            return sync_folder_of(path);
        }
    }
    Ok(())
}

/// Path of a finished file: `predictions.jsonl` becomes `predictions-00000000.jsonl`.
fn numbered(path: &Path, number: u64) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let name = match path.extension() {
        Some(ending) => format!("{stem}-{number:08}.{}", ending.to_string_lossy()),
        None => format!("{stem}-{number:08}"),
    };
    path.with_file_name(name)
}
