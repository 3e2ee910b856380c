//! Predictions as a folder of Parquet files, one for each commit. A Parquet file ends with a footer
//! and cannot be appended to, so each commit writes a file of its own.

use std::fs::File;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::SinkError;

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

/// A folder of numbered Parquet files.
pub struct ParquetFolder {
    path: PathBuf,
    /// Number of files, committed or about to be.
    files: u64,
    tables: Vec<RecordBatch>,
}

impl ParquetFolder {
    /// Opens a folder with `committed` files, and drops further ones, which a crashed run wrote.
    pub fn open(path: &Path, committed: u64) -> Result<Self, SinkError> {
        let folder = ParquetFolder {
            path: path.into(),
            files: committed,
            tables: Vec::new(),
        };
        std::fs::create_dir_all(path).map_err(|reason| folder.failed(reason))?;
        for number in 0..committed {
            if !folder.file(number).exists() {
                return Err(SinkError::Shortened {
                    path: path.into(),
                    found: number,
                    committed,
                });
            }
        }
        folder.drop_from(committed)?;
        Ok(folder)
    }

    fn file(&self, number: u64) -> PathBuf {
        self.path.join(format!("part-{number:08}.parquet"))
    }

    fn drop_from(&self, first: u64) -> Result<(), SinkError> {
        let entries = std::fs::read_dir(&self.path).map_err(|reason| self.failed(reason))?;
        for entry in entries {
            let path = entry.map_err(|reason| self.failed(reason))?.path();
            let number = path
                .file_stem()
                .and_then(|stem| stem.to_str()?.strip_prefix("part-")?.parse::<u64>().ok());
            if number.is_some_and(|number| number >= first) {
                std::fs::remove_file(&path).map_err(|reason| self.failed(reason))?;
            }
        }
        Ok(())
    }

    /// Adds packed tables to the next file.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        let reader = StreamReader::try_new(Cursor::new(bytes), None);
        let tables = reader.and_then(Iterator::collect::<Result<Vec<_>, _>>);
        self.tables.extend(tables.map_err(|e| self.refused(&e))?);
        Ok(())
    }

    /// Writes the added tables as one file, and returns the number of files.
    pub fn flush(&mut self) -> Result<u64, SinkError> {
        let Some(first) = self.tables.first() else {
            return Ok(self.files);
        };
        let path = self.file(self.files);
        let file = File::create(&path).map_err(|reason| self.failed(reason))?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .build();
        let written = ArrowWriter::try_new(file, first.schema(), Some(properties))
            .and_then(|mut writer| {
                for table in &self.tables {
                    writer.write(table)?;
                }
                writer.into_inner()
            })
            .map_err(|error| self.refused(&error))?;
        written.sync_all().map_err(|reason| self.failed(reason))?;
        self.tables.clear();
        self.files += 1;
        Ok(self.files)
    }

    fn failed(&self, reason: std::io::Error) -> SinkError {
        SinkError::Write {
            path: self.path.clone(),
            reason,
        }
    }

    fn refused(&self, error: &dyn std::fmt::Display) -> SinkError {
        SinkError::Parquet {
            path: self.path.clone(),
            detail: error.to_string(),
        }
    }
}
