//! Comma-separated values, with quotes, newlines in quotes, and records of bounded size.
//!
//! A quote that is never closed would make all that follows one record. So a record of several
//! lines must be quoted as it should be and have as many columns as the header. Otherwise its first
//! line is bad alone, and the lines after it are read again as records of their own.

use std::io;

use csv_core::{ReadRecordResult, Reader};
use memchr::memchr2;

use super::text::TextInput;
use super::{Next, Records, excerpt, text};
use crate::format::Row;
use crate::source::error::SourceError;

/// Reason why the first line of a record is bad.
const QUOTE: &str = "a quote is not closed, or not before a comma or the end of a line; the lines after it are read \
                     on their own";

/// The records of a CSV file.
pub(super) struct CsvRecords {
    input: TextInput,
    parser: Reader,
    /// The unquoted fields of the latest record, one behind the other.
    fields: Vec<u8>,
    /// The end of each field in `fields`.
    ends: Vec<usize>,
    /// Number of fields of the latest record.
    width: usize,
    /// The latest record as it is in the file.
    raw: Vec<u8>,
    line: u64,
    header: Vec<String>,
    /// The field of each cell of a row.
    wanted: Vec<usize>,
}

/// Result of [`CsvRecords::advance`].
#[derive(PartialEq, Eq)]
enum Found {
    Record,
    /// A line with a quote that is not closed.
    Unclosed,
    TooLong,
    End,
}

impl CsvRecords {
    /// Reads the header and looks up `columns` in it.
    pub(super) fn open(
        input: TextInput,
        path: &str,
        columns: &[String],
    ) -> Result<CsvRecords, SourceError> {
        let mut records = CsvRecords {
            input,
            parser: Reader::new(),
            fields: vec![0; 4096],
            ends: vec![0; 64],
            width: 0,
            raw: Vec::new(),
            line: 1,
            header: Vec::new(),
            wanted: Vec::new(),
        };
        let open = |reason: String| SourceError::Open {
            path: path.into(),
            reason,
        };
        match records
            .advance()
            .map_err(|error| open(text::explain(&error)))?
        {
            Found::Record => {}
            Found::Unclosed => return Err(open(format!("its header is bad: {QUOTE}"))),
            Found::TooLong => {
                return Err(open(format!(
                    "its header is bad: {}",
                    records.input.too_long()
                )));
            }
            Found::End => return Err(super::empty(path, super::FileFormat::Csv)),
        }
        let name = |field| {
            String::from_utf8_lossy(records.field(field))
                .trim()
                .to_owned()
        };
        records.header = (0..records.width).map(name).collect();
        records.wanted = find(path, columns, &records.header)?;
        Ok(records)
    }

    /// The names of all columns.
    pub(super) fn header(&self) -> &[String] {
        &self.header
    }

    fn field(&self, field: usize) -> &[u8] {
        let start = if field == 0 { 0 } else { self.ends[field - 1] };
        &self.fields[start..self.ends[field]]
    }

    /// Parses the next record into `fields` and `ends`.
    fn advance(&mut self) -> io::Result<Found> {
        self.input.skip_line_ends()?;
        self.line = self.input.line;
        self.raw.clear();
        self.width = 0;
        let (mut read, mut written) = (0, 0);
        loop {
            let limit = self.input.limit;
            let buffer = self.input.fill()?;
            if !buffer.is_empty() && read == limit {
                return self.give_up();
            }
            let at_end = buffer.is_empty();
            let input = &buffer[..buffer.len().min(limit - read)];
            let (fields, ends) = (&mut self.fields[written..], &mut self.ends[self.width..]);
            let (result, taken, put, ended) = self.parser.read_record(input, fields, ends);
            self.raw.extend_from_slice(&input[..taken]);
            let lines = text::count_lines(&input[..taken]);
            self.input.line += lines;
            self.input.consume(taken);
            read += taken;
            written += put;
            self.width += ended;
            match result {
                ReadRecordResult::InputEmpty => {}
                // Both are bounded by the bytes of a record, and so by the limit.
                ReadRecordResult::OutputFull => self.fields.resize(self.fields.len() * 2, 0),
                ReadRecordResult::OutputEndsFull => self.ends.resize(self.ends.len() * 2, 0),
                ReadRecordResult::Record => return Ok(self.check(at_end)),
                ReadRecordResult::End => return Ok(Found::End),
            }
        }
    }

    /// Checks a record that may hold others within quotes: one of several lines, or the last one.
    fn check(&mut self, at_end: bool) -> Found {
        let line = self.first_line();
        let has_width = self.header.is_empty() || self.width == self.header.len();
        match line {
            None if !at_end => Found::Record,
            None if is_well_quoted(&self.raw) => Found::Record,
            Some(_) if has_width && is_well_quoted(&self.raw) => Found::Record,
            Some(line) => self.take_back(line),
            None => Found::Unclosed,
        }
    }

    /// Gives up a record above the limit: its first line, or if it is one line, all of it.
    fn give_up(&mut self) -> io::Result<Found> {
        if let Some(line) = self.first_line() {
            return Ok(self.take_back(line));
        }
        self.parser.reset();
        self.input.skip_line()?;
        Ok(Found::TooLong)
    }

    /// Length of the first line of the latest record, if more lines follow.
    fn first_line(&self) -> Option<usize> {
        let inside = self.raw.len().saturating_sub(1);
        memchr2(b'\n', b'\r', &self.raw[..inside])
    }

    /// Keeps the first line of the latest record as a bad one, and has the others read again.
    fn take_back(&mut self, line: usize) -> Found {
        self.input.put_back(&self.raw[line + 1..]);
        self.raw.truncate(line);
        self.parser.reset();
        Found::Unclosed
    }

    /// Copies the wanted fields of the latest record to the row.
    fn fill(&self, row: &mut Row) -> Result<(), String> {
        if self.width != self.header.len() {
            return Err(format!(
                "the record has {} columns, the header {}",
                self.width,
                self.header.len()
            ));
        }
        let end = self.ends.get(self.width - 1).copied().unwrap_or(0);
        if let Ok(text) = std::str::from_utf8(&self.fields[..end])
            && self.ends[..self.width]
                .iter()
                .all(|end| text.is_char_boundary(*end))
        {
            row.load(text);
            for (cell, field) in self.wanted.iter().enumerate() {
                let start = if *field == 0 { 0 } else { self.ends[field - 1] };
                row.set_range(cell, start, self.ends[*field]);
            }
            return Ok(());
        }
        // Some field is not UTF-8, which only matters in a wanted one.
        row.clear();
        for (cell, field) in self.wanted.iter().enumerate() {
            let text = std::str::from_utf8(self.field(*field))
                .map_err(|_| format!("column {:?} is not valid UTF-8", self.header[*field]))?;
            row.set_text(cell, text);
        }
        Ok(())
    }
}

impl Records for CsvRecords {
    fn next(&mut self, row: &mut Row) -> Result<Next, String> {
        match self.advance().map_err(|error| text::explain(&error))? {
            Found::End => Ok(Next::End),
            Found::Unclosed => Ok(Next::Bad(QUOTE.into())),
            Found::TooLong => Ok(Next::Bad(self.input.too_long())),
            Found::Record => Ok(self.fill(row).map_or_else(Next::Bad, |()| Next::Record)),
        }
    }

    fn number(&self) -> u64 {
        self.line
    }

    fn content(&self, _: &Row) -> String {
        excerpt(&self.raw)
    }

    fn count(&mut self) -> Result<u64, String> {
        let mut records = 0;
        while self.advance().map_err(|error| text::explain(&error))? != Found::End {
            records += 1;
        }
        Ok(records)
    }
}

/// Whether every quote that opens a field is closed before a comma or the end of a line.
fn is_well_quoted(record: &[u8]) -> bool {
    enum At {
        Begin,
        Unquoted,
        Quoted,
        /// Behind a quote within quotes, which closes them or is one half of a quote.
        Closed,
    }
    let mut at = At::Begin;
    for byte in record {
        at = match (at, byte) {
            (At::Quoted, b'"') => At::Closed,
            (At::Quoted, _) | (At::Begin | At::Closed, b'"') => At::Quoted,
            (_, b',' | b'\n' | b'\r') => At::Begin,
            (At::Closed, b' ' | b'\t') => At::Closed,
            (At::Closed, _) => return false,
            (At::Begin | At::Unquoted, _) => At::Unquoted,
        };
    }
    !matches!(at, At::Quoted)
}

/// The place of each wanted column in the header.
fn find(path: &str, columns: &[String], header: &[String]) -> Result<Vec<usize>, SourceError> {
    let mut wanted = Vec::new();
    let mut missing = Vec::new();
    for column in columns {
        let mut places = header
            .iter()
            .enumerate()
            .filter(|(_, name)| *name == column);
        match (places.next(), places.next()) {
            (Some((place, _)), None) => wanted.push(place),
            (None, _) => missing.push(column.as_str()),
            (Some(_), Some(_)) => {
                let reason = format!("its header names the column {column:?} twice");
                return Err(SourceError::Open {
                    path: path.into(),
                    reason,
                });
            }
        }
    }
    if missing.is_empty() {
        Ok(wanted)
    } else {
        Err(SourceError::columns(path, &missing, header))
    }
}
