//! Labels from a file of their own, to be joined with samples by id.

use perennial_operators::Texts;

use super::FileConfig;
use super::reader::{Decode, Reader};
use crate::format::Row;
use crate::format::fields::{LabelParser, Seen};
use crate::schema::Label;
use crate::source::Read;
use crate::source::decode::new_id;
use crate::source::error::SourceError;

/// Which columns of a label file mean what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelColumns {
    /// The column with the sample's id.
    pub id: String,
    /// The column with the label, and its classes or kind.
    pub label: Label,
}

/// Labels in columns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LabelBatch {
    /// Sample ids.
    pub ids: Texts,
    /// Numbers of classes, or numbers; never NaN.
    pub labels: Vec<f32>,
}

/// An open label file, with the guarantees of a [`Source`](crate::source::Source).
pub struct LabelSource(Reader<LabelDecoder>);

impl LabelSource {
    /// Opens a label file.
    pub fn open(config: &FileConfig, columns: &LabelColumns) -> Result<LabelSource, SourceError> {
        Reader::open(config, LabelDecoder::new(columns, config.duplicates_within)).map(LabelSource)
    }

    /// Reads the next `records` records, good or bad, as
    /// [`Source::read`](crate::source::Source::read) does.
    pub fn read(&mut self, records: usize) -> Result<Read<LabelBatch>, SourceError> {
        self.0.read(records)
    }

    /// Number of records of the file, good and bad.
    pub fn count(&mut self) -> Result<u64, SourceError> {
        self.0.count()
    }

    /// Resumes after the first `position` records as if they had been read.
    pub fn skip_to(&mut self, position: u64) -> Result<(), SourceError> {
        self.0.skip_to(position)
    }
}

/// A decoder that appends rows to a label batch.
struct LabelDecoder {
    /// The id and the label.
    columns: Vec<String>,
    labels: LabelParser,
    seen: Seen,
    batch: LabelBatch,
    scratch: String,
}

const ID: usize = 0;
const LABEL: usize = 1;

impl LabelDecoder {
    fn new(columns: &LabelColumns, duplicates_within: usize) -> LabelDecoder {
        LabelDecoder {
            columns: vec![columns.id.clone(), columns.label.column.clone()],
            labels: LabelParser::new(&columns.label),
            seen: Seen::new(duplicates_within),
            batch: LabelBatch::default(),
            scratch: String::new(),
        }
    }
}

impl Decode for LabelDecoder {
    type Batch = LabelBatch;

    fn columns(&self) -> &[String] {
        &self.columns
    }

    fn push(&mut self, row: &Row, record: u64) -> Result<(), String> {
        let label = self.labels.known(&self.columns[LABEL], row.get(LABEL))?;
        let id = new_id(
            row.get(ID),
            &self.columns[ID],
            &mut self.scratch,
            &mut self.seen,
            record,
        )?;
        self.batch.ids.push(id);
        self.batch.labels.push(label);
        Ok(())
    }

    fn take(&mut self) -> LabelBatch {
        std::mem::take(&mut self.batch)
    }
}
