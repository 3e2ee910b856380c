//! Where predictions and dead letters go: files whose committed length is known, so that what a
//! crashed run left beyond it is dropped.

mod avro;
mod file;
pub mod kafka;
mod layout;
mod parquet;
mod render;
mod requests;
mod samples;
mod table;

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use avro::{AvroEncoder, AvroPredictions, PredictedValue, PredictionRow, Probabilities};
pub use file::AppendFile;
pub use layout::Layout;
pub use parquet::ParquetFolder;
pub use render::Renderer;
pub use requests::RequestRenderer;

/// The formats of predictions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One JSON object a line.
    Jsonl,
    /// Comma-separated values with a header.
    Csv,
    /// A folder of Parquet files, one a commit.
    Parquet,
}

impl Format {
    /// What a path's ending says; JSON Lines when it says nothing.
    pub fn of(path: &Path) -> Format {
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("csv") => Format::Csv,
            Some("parquet") => Format::Parquet,
            _ => Format::Jsonl,
        }
    }
}

/// What can go wrong with an output.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The file system says no.
    #[error("{path} cannot be written: {source}")]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Somebody shortened or removed a committed output.
    #[error(
        "{path} has {found} bytes, but {committed} were committed: it was changed after the run that wrote it; restore it, or start anew with another --state folder"
    )]
    Shortened {
        /// Which file.
        path: PathBuf,
        /// Its length.
        found: u64,
        /// What it should at least be.
        committed: u64,
    },
    /// Predictions could not be put into Parquet.
    #[error("{path} cannot be written as Parquet: {detail}")]
    Parquet {
        /// Which file.
        path: PathBuf,
        /// Why.
        detail: String,
    },
    /// A prediction could not be put into Avro.
    #[error("a prediction cannot be written as Avro: {0}")]
    Avro(String),
}

/// An output of predictions.
pub enum Output {
    /// Text that is appended.
    File(AppendFile),
    /// A folder of tables.
    Parquet(ParquetFolder),
}

impl Output {
    /// Opens an output that has `committed` bytes (files: tables), dropping what is beyond.
    pub fn open(
        path: &Path,
        format: Format,
        header: &[u8],
        committed: u64,
    ) -> Result<Self, SinkError> {
        Ok(match format {
            Format::Parquet => Output::Parquet(ParquetFolder::open(path, committed)?),
            Format::Jsonl | Format::Csv => Output::File(AppendFile::open(path, header, committed)?),
        })
    }

    /// Adds rendered predictions. They need not be durable yet.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        match self {
            Output::File(file) => file.append(bytes),
            Output::Parquet(folder) => folder.append(bytes),
        }
    }

    /// Makes everything durable and returns what is to be committed as the output's length.
    pub fn flush(&mut self) -> Result<u64, SinkError> {
        match self {
            Output::File(file) => file.flush(),
            Output::Parquet(folder) => folder.flush(),
        }
    }
}
