//! Samples and labels from files: CSV, JSON Lines (both also with gzip) and Parquet.

mod columns;
mod csv;
mod guarded;
mod joined;
mod jsonl;
mod labels;
mod parquet;
mod reader;
mod rows;
#[cfg(test)]
mod tests;
mod text;

use std::fs::File;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::columns::columns;
pub use self::guarded::catches_panics;
pub use self::joined::open_joined;
pub use self::labels::{LabelBatch, LabelColumns, LabelSource};
use self::reader::Reader;
pub use self::rows::open_rows;
use super::Source;
use super::decode::Decoder;
use super::error::SourceError;
use super::rows::Next;
use crate::format::Row;
use crate::schema::{Problem, Schema};

/// Bytes of a bad record that its dead letter keeps.
const CONTENT: usize = 4096;

/// A file of records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileConfig {
    /// The file. A relative path starts at the working directory.
    pub path: PathBuf,
    /// The format. Default: by the file's name, which ends with .csv, .jsonl, .ndjson or .parquet,
    /// the first three also followed by .gz.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<FileFormat>,
    /// The longest record of a text file in bytes. A longer one becomes a dead letter.
    #[serde(default = "max_record_bytes")]
    pub max_record_bytes: usize,
    /// Number of earlier good records whose ids are known. A record with a known id is a duplicate
    /// and becomes a dead letter. 0 accepts all; each id takes about 50 bytes of memory.
    #[serde(default = "duplicates_within")]
    pub duplicates_within: usize,
}

/// The format of a file of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FileFormat {
    /// Comma-separated values with a header.
    Csv,
    /// One JSON object a line.
    Jsonl,
    /// Apache Parquet.
    Parquet,
}

fn max_record_bytes() -> usize {
    1 << 20
}

fn duplicates_within() -> usize {
    1_000_000
}

impl FileConfig {
    /// The default settings of a file.
    pub fn new(path: impl Into<PathBuf>) -> FileConfig {
        FileConfig {
            path: path.into(),
            format: None,
            max_record_bytes: max_record_bytes(),
            duplicates_within: duplicates_within(),
        }
    }

    /// Every reason why the settings cannot be used, whatever the file; `key` is their key path.
    pub fn problems(&self, key: &str) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.max_record_bytes == 0 {
            problems.push((
                format!("{key}.max_record_bytes"),
                "must be at least 1".into(),
            ));
        }
        if self.format.or_else(|| format_of(&self.path)).is_none() {
            let message =
                "has no extension that tells the format: set `format` to csv, jsonl or parquet";
            problems.push((format!("{key}.path"), message.into()));
        }
        problems
    }
}

/// Opens a file of samples. Without `labelled` the label column need not exist, and batches have no
/// labels.
pub fn open(
    config: &FileConfig,
    schema: &Schema,
    labelled: bool,
) -> Result<Box<dyn Source>, SourceError> {
    let decoder = Decoder::new(schema, labelled, config.duplicates_within);
    Ok(Box::new(Reader::open(config, decoder)?))
}

/// The records of one file in their order.
trait Records: Send {
    /// Reads the next record into the row. After an error the file cannot be read any further.
    fn next(&mut self, row: &mut Row) -> Result<Next, String>;

    /// The number of the latest record: its line in a text file, its row in a table, from 1.
    fn number(&self) -> u64;

    /// The latest record as it is in the file, cut after [`CONTENT`] bytes.
    fn content(&self, row: &Row) -> String;

    /// Number of records that follow. It may read them.
    fn count(&mut self) -> Result<u64, String>;
}

/// A file that is open, and its format.
enum OpenFile {
    Parquet(File),
    Csv(text::TextInput),
    Jsonl(text::TextInput),
}

/// Opens a file whose records have `columns`, which become the cells of the row.
fn records(config: &FileConfig, columns: &[String]) -> Result<Box<dyn Records>, SourceError> {
    let path = config.path.display().to_string();
    Ok(match open_file(config)? {
        OpenFile::Parquet(file) => Box::new(parquet::ParquetRecords::open(file, &path, columns)?),
        OpenFile::Csv(input) => Box::new(csv::CsvRecords::open(input, &path, columns)?),
        OpenFile::Jsonl(input) => Box::new(jsonl::JsonRecords::new(input, columns)),
    })
}

/// Opens a file that has content.
fn open_file(config: &FileConfig) -> Result<OpenFile, SourceError> {
    let path = config.path.display().to_string();
    let open = |reason: String| SourceError::Open {
        path: path.clone(),
        reason,
    };
    let file = File::open(&config.path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => SourceError::not_found(&config.path),
        _ => open(error.to_string()),
    })?;
    let metadata = file.metadata().map_err(|error| open(error.to_string()))?;
    if metadata.is_dir() {
        return Err(open("it is a folder".into()));
    }
    let format = config.format.or_else(|| format_of(&config.path));
    let format = format.ok_or_else(|| SourceError::Format { path: path.clone() })?;
    if metadata.is_file() && metadata.len() == 0 {
        return Err(empty(&path, format));
    }
    if format == FileFormat::Parquet {
        return Ok(OpenFile::Parquet(file));
    }
    let input = text::TextInput::new(file, is_gzip(&config.path), config.max_record_bytes);
    let mut input = input.map_err(|error| open(text::explain(&error)))?;
    if input
        .is_empty()
        .map_err(|error| open(text::explain(&error)))?
    {
        return Err(empty(&path, format));
    }
    Ok(match format {
        FileFormat::Csv => OpenFile::Csv(input),
        _ => OpenFile::Jsonl(input),
    })
}

fn empty(path: &str, format: FileFormat) -> SourceError {
    let hint = match format {
        FileFormat::Csv => "it must begin with a header that names its columns",
        FileFormat::Jsonl => "it must have one JSON object a line",
        FileFormat::Parquet => "perhaps the program that wrote it did not finish",
    };
    SourceError::Empty {
        path: path.into(),
        hint: hint.into(),
    }
}

/// The format by the file name's extension, in lower case and without `.gz`.
fn format_of(path: &Path) -> Option<FileFormat> {
    let name = path.file_name()?.to_string_lossy().to_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    match name.rsplit_once('.')?.1 {
        "csv" => Some(FileFormat::Csv),
        "jsonl" | "ndjson" => Some(FileFormat::Jsonl),
        "parquet" => Some(FileFormat::Parquet),
        _ => None,
    }
}

fn is_gzip(path: &Path) -> bool {
    path.extension()
        .is_some_and(|e| e.eq_ignore_ascii_case("gz"))
}

/// The bytes of a record as its dead letter shows them.
fn excerpt(bytes: &[u8]) -> String {
    let cut = &bytes[..bytes.len().min(CONTENT)];
    String::from_utf8_lossy(cut)
        .trim_end_matches(['\r', '\n'])
        .to_owned()
}
