//! Predictions as a folder of Parquet files, the parts.
//!
//! A Parquet file ends with a footer and cannot be appended to. So the rows of each commit are
//! appended to the open tail, a file of Arrow tables, whose length is committed as that of a text
//! file is. Once the tail has enough rows, or is old enough, a part is written from it. What
//! becomes of a part after its commit is its readers' business.

use std::fs::File;
use std::io::{BufReader, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::SinkError;
use super::file::{AppendFile, AppendOptions, write_error};
use super::roll::{Roll, remove};
use crate::files::{OutputFile, sync_folder_of};

/// Packs a table into bytes, so that workers can exchange it. No table gives no bytes.
pub(super) fn pack(table: &Option<RecordBatch>, bytes: &mut Vec<u8>) {
    let Some(table) = table else { return };
    let packed = StreamWriter::try_new(&mut *bytes, &table.schema()).and_then(|mut writer| {
        writer.write(table)?;
        writer.finish()
    });
    // A table in memory can always be packed; otherwise unpacking fails with a reason.
    if packed.is_err() {
        bytes.clear();
    }
}

/// A folder of numbered parts, and the open tail.
pub struct ParquetFolder {
    path: PathBuf,
    options: AppendOptions,
    /// Number of the part that the tail becomes.
    number: u64,
    /// Number of the oldest part that is not removed yet.
    oldest: u64,
    tail: AppendFile,
    /// Rows in the tail.
    rows: u64,
    /// Tails that are done with once the flush is committed.
    done: Vec<PathBuf>,
}

impl ParquetFolder {
    /// Opens a folder at its committed tail, and drops the part that a crashed run wrote from it.
    ///
    /// # Errors
    /// The folder has parts of others, or its tail is not the committed one.
    pub fn open(
        path: &Path,
        options: AppendOptions,
        committed: Option<&OutputFile>,
    ) -> Result<Self, SinkError> {
        let failed = |reason| write_error(path, reason);
        std::fs::create_dir_all(path).map_err(failed)?;
        sync_folder_of(path).map_err(failed)?;
        let known = committed.cloned().unwrap_or_default();
        let mut number = known.number;
        let mut tail = OutputFile {
            path: tail_path(path, number).to_string_lossy().into_owned(),
            ..known.clone()
        };
        let found = std::fs::metadata(tail_path(path, number));
        let has_rows = found.is_ok_and(|tail| tail.len() > 0);
        if Path::new(&known.path) != path && !has_rows {
            if has_parts(path).map_err(failed)? {
                return Err(SinkError::Foreign(path.into()));
            }
            (number, tail) = (0, OutputFile::default());
        }
        let tail = open_tail(path, number, &options, Some(&tail))?;
        // The tail is this state's, so the part was written from it.
        remove(&part_path(path, number)).map_err(failed)?;
        if let Some(last) = number.checked_sub(1) {
            remove(&tail_path(path, last)).map_err(failed)?;
        }
        let mut folder = ParquetFolder {
            path: path.into(),
            options,
            number,
            oldest: known.oldest.min(number),
            tail,
            rows: 0,
            done: Vec::new(),
        };
        let counted = folder.each_table(|table| Ok(table.num_rows() as u64));
        folder.rows = counted.map_err(|error| folder.refused(&error))?;
        Ok(folder)
    }

    /// The tail as it was last flushed.
    pub fn file(&self) -> OutputFile {
        OutputFile {
            path: self.path.to_string_lossy().into_owned(),
            number: self.number,
            oldest: self.oldest,
            ..self.tail.file().clone()
        }
    }

    /// Adds packed tables to the tail.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        let rows = each_packed(bytes, bytes.len() as u64, |table| {
            Ok(table.num_rows() as u64)
        });
        self.rows += rows.map_err(|error| self.refused(&error))?;
        self.tail.append(bytes)
    }

    /// Whether a part is to be written though nothing was added: the tail is old enough, or the
    /// stream or the run ends (`ends`).
    pub fn is_due(&self, ends: bool) -> bool {
        self.rows > 0 && (ends || self.options.roll.is_old(self.tail.file().begun))
    }

    /// Makes the tail durable and returns it. Before that, if it is large or old enough or the
    /// stream ends here, a part is written from it and the next tail begins.
    pub fn flush(&mut self, ends: bool) -> Result<OutputFile, SinkError> {
        if self.tail.flush()?.length == 0 && self.rows > 0 {
            let (path, rows) = (&self.path, std::mem::take(&mut self.rows));
            tracing::warn!(?path, rows, "somebody removed the tail; its rows are lost");
        }
        let is_full = self
            .options
            .roll
            .rows
            .is_some_and(|limit| self.rows >= limit.max(1));
        if is_full || self.is_due(ends) {
            self.write_part()?;
            self.begin_tail()?;
        }
        if ends {
            self.done.push(tail_path(&self.path, self.number));
        }
        Ok(self.file())
    }

    /// Removes the tails that the committed flush was done with.
    pub fn committed(&mut self) -> Result<(), SinkError> {
        let removed = self.done.drain(..).try_for_each(|tail| remove(&tail));
        removed.map_err(|reason| write_error(&self.path, reason))
    }

    fn write_part(&self) -> Result<(), SinkError> {
        let (open, part) = (self.open_part(), part_path(&self.path, self.number));
        let mut options = File::options();
        options.create(true).truncate(true).write(true);
        let file = options.mode(self.options.mode()).open(&open);
        let file = file.map_err(|reason| write_error(&open, reason))?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .build();
        let mut writer: Option<ArrowWriter<&File>> = None;
        let written = self.each_table(|table| {
            if writer.is_none() {
                let properties = Some(properties.clone());
                writer = Some(ArrowWriter::try_new(&file, table.schema(), properties)?);
            }
            writer
                .iter_mut()
                .try_for_each(|writer| writer.write(table))?;
            Ok(0)
        });
        let closed = written.and_then(|_| match writer {
            Some(writer) => Ok(writer.close().map(|_| ())?),
            None => Ok(()),
        });
        closed.map_err(|error| self.refused(&error))?;
        // Readers never see a part that is not whole.
        file.sync_all()
            .and_then(|()| std::fs::rename(&open, &part))
            .and_then(|()| sync_folder_of(&part))
            .map_err(|reason| write_error(&part, reason))
    }

    fn begin_tail(&mut self) -> Result<(), SinkError> {
        let last = self.number;
        self.number += 1;
        while part_path(&self.path, self.number).exists() {
            // Somebody else's part: those before it are left alone.
            self.number += 1;
            self.oldest = self.number;
        }
        let part = |number| part_path(&self.path, number);
        let pruned = self.options.roll.prune(self.oldest, self.number, part);
        self.oldest = pruned.map_err(|reason| write_error(&self.path, reason))?;
        self.tail = open_tail(&self.path, self.number, &self.options, None)?;
        self.done.push(tail_path(&self.path, last));
        self.rows = 0;
        Ok(())
    }

    /// Calls `each` with the tables of the tail, and adds up what it returns.
    fn each_table(
        &self,
        each: impl FnMut(&RecordBatch) -> Result<u64, ArrowError>,
    ) -> Result<u64, ArrowError> {
        let file = File::open(tail_path(&self.path, self.number))?;
        each_packed(BufReader::new(file), self.tail.file().length, each)
    }

    /// Path of a part that is being written; readers of a folder skip names that begin so.
    fn open_part(&self) -> PathBuf {
        self.path.join(format!("_part-{:08}.open", self.number))
    }

    fn refused(&self, error: &dyn std::fmt::Display) -> SinkError {
        SinkError::Parquet {
            path: self.path.clone(),
            detail: error.to_string(),
        }
    }
}

fn part_path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("part-{number:08}.parquet"))
}

/// Path of a tail; readers of a folder skip names that begin so.
fn tail_path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("_tail-{number:08}.arrow"))
}

/// Opens the tail of a folder. It does not roll by itself: its end is that of its part.
fn open_tail(
    folder: &Path,
    number: u64,
    options: &AppendOptions,
    committed: Option<&OutputFile>,
) -> Result<AppendFile, SinkError> {
    let options = AppendOptions {
        roll: Roll::default(),
        ..options.clone()
    };
    AppendFile::open(&tail_path(folder, number), options, committed)
}

/// Whether a folder has parts or tails.
fn has_parts(folder: &Path) -> std::io::Result<bool> {
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("part-") || name.starts_with("_tail-") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Calls `each` with the tables that were packed one after the other into the next `length` bytes,
/// and adds up what it returns.
fn each_packed(
    reader: impl Read,
    length: u64,
    mut each: impl FnMut(&RecordBatch) -> Result<u64, ArrowError>,
) -> Result<u64, ArrowError> {
    let mut reader = reader.take(length);
    let mut sum = 0;
    while reader.limit() > 0 {
        for table in StreamReader::try_new(&mut reader, None)? {
            sum += each(&table?)?;
        }
    }
    Ok(sum)
}
