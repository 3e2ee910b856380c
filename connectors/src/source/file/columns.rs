//! The columns that a file has.

use super::text::{Line, TextInput};
use super::{FileConfig, OpenFile, csv, open_file, parquet, text};
use crate::format::KeyList;
use crate::source::error::SourceError;

/// Number of objects of a JSON Lines file whose keys are its columns.
const OBJECTS: usize = 1_000;

/// The names of a file's columns, in order: those of the header (CSV), of the schema (Parquet), or
/// of its first 1,000 objects (JSON Lines). A column of lists or objects is left out.
///
/// # Errors
/// The file cannot be opened or understood.
pub fn columns(config: &FileConfig) -> Result<Vec<String>, SourceError> {
    let path = config.path.display().to_string();
    let open = |reason: String| SourceError::Open {
        path: path.clone(),
        reason,
    };
    match open_file(config)? {
        OpenFile::Parquet(file) => parquet::columns(&file).map_err(open),
        OpenFile::Csv(input) => {
            let records = csv::CsvRecords::open(input, &path, &[])?;
            Ok(records.header().to_vec())
        }
        OpenFile::Jsonl(input) => keys(input).map_err(open),
    }
}

fn keys(mut input: TextInput) -> Result<Vec<String>, String> {
    let mut keys = KeyList::default();
    let mut line = Vec::new();
    for _ in 0..OBJECTS {
        let read = input.read_line(&mut line);
        match read.map_err(|error| text::explain(&error))? {
            Line::End => break,
            Line::TooLong => {}
            Line::Whole => keys.add(&line),
        }
    }
    Ok(keys.into_columns())
}
