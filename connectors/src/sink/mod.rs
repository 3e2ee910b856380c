//! Sinks of predictions, dead letters and label requests: files, whose committed length is known,
//! so that what a crashed run wrote beyond it is dropped, and topics, with transactions or at least
//! once.

mod avro;
mod dead_letters;
mod file;
pub mod kafka;
mod layout;
mod parquet;
mod render;
mod requests;
mod roll;
mod samples;
mod table;

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use avro::{AvroEncoder, AvroPredictions, PredictedValue, PredictionRow, Probabilities};
pub use dead_letters::dead_letter_line;
pub use file::{AppendFile, AppendOptions};
pub use layout::Layout;
pub use parquet::ParquetFolder;
pub use render::Renderer;
pub use requests::RequestRenderer;
pub use roll::Roll;

use crate::files::OutputFile;

/// The format of a file of predictions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One JSON object a line.
    Jsonl,
    /// Comma-separated values with a header.
    Csv,
    /// A folder of Parquet files.
    Parquet,
}

impl Format {
    /// The format by a path's extension; JSON Lines for any other.
    pub fn of(path: &Path) -> Format {
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("csv") => Format::Csv,
            Some("parquet") => Format::Parquet,
            _ => Format::Jsonl,
        }
    }
}

/// Failures of an output.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The file system refuses.
    #[error("{path} cannot be written: {reason}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: std::io::Error,
    },
    /// A committed output was shortened.
    #[error(
        "{path} has {found} bytes, but {committed} were committed: it was changed after the run that wrote it; restore it, or move it away to begin another"
    )]
    Shortened {
        /// The file.
        path: PathBuf,
        /// Its length.
        found: u64,
        /// Its committed length.
        committed: u64,
    },
    /// Something else lies where an output is to be written.
    #[error("{0} was not written with this --state folder: move it away, or give another path")]
    Foreign(PathBuf),
    /// Predictions cannot be written as Parquet.
    #[error("{path} cannot be written as Parquet: {detail}")]
    Parquet {
        /// The file.
        path: PathBuf,
        /// The message of the Parquet library.
        detail: String,
    },
    /// A prediction cannot be written as Avro.
    #[error("a prediction cannot be written as Avro: {0}")]
    Avro(String),
}

/// An output of predictions.
pub enum Output {
    /// A text file.
    File(AppendFile),
    /// A folder of Parquet files.
    Parquet(ParquetFolder),
}

impl Output {
    /// Opens an output as it was committed, and drops what a crashed run wrote after that; or
    /// begins a new one.
    pub fn open(
        path: &Path,
        format: Format,
        options: AppendOptions,
        committed: Option<&OutputFile>,
    ) -> Result<Self, SinkError> {
        Ok(match format {
            Format::Parquet => Output::Parquet(ParquetFolder::open(path, options, committed)?),
            Format::Jsonl | Format::Csv => {
                Output::File(AppendFile::open(path, options, committed)?)
            }
        })
    }

    /// Appends rendered predictions. They need not be durable yet.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        match self {
            Output::File(file) => file.append(bytes),
            Output::Parquet(folder) => folder.append(bytes),
        }
    }

    /// The file as it was last flushed.
    pub fn file(&self) -> OutputFile {
        match self {
            Output::File(file) => file.file().clone(),
            Output::Parquet(folder) => folder.file(),
        }
    }

    /// Whether there is something to flush though nothing was appended: a file is old enough to
    /// roll, or its rows are still to reach readers and the run ends (`ends`).
    pub fn is_due(&self, ends: bool) -> bool {
        match self {
            Output::File(file) => file.is_due(),
            Output::Parquet(folder) => folder.is_due(ends),
        }
    }

    /// Makes everything durable, and returns the file to commit. At the end of the stream or of the
    /// run (`ends`), readers get all of it.
    pub fn flush(&mut self, ends: bool) -> Result<OutputFile, SinkError> {
        match self {
            Output::File(file) => file.flush(),
            Output::Parquet(folder) => folder.flush(ends),
        }
    }

    /// Drops what the committed flush was done with.
    pub fn committed(&mut self) -> Result<(), SinkError> {
        match self {
            Output::File(_) => Ok(()),
            Output::Parquet(folder) => folder.committed(),
        }
    }
}
