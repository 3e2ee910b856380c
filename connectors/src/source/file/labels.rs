//! Labels from a file of their own, to be joined with samples by id.

use perennial_operators::Texts;

use super::FileConfig;
use super::reader::{Decode, Reader};
use crate::format::Row;
use crate::format::fields::{Labels, Seen};
use crate::schema::Label;
use crate::source::Read;
use crate::source::decode::new_id;
use crate::source::error::SourceError;

/// Which columns of a label file mean what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelColumns {
    /// The column with the sample's id.
    pub id: String,
    /// The column with the label, and what it is.
    pub label: Label,
}

/// Labels, column by column.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LabelBatch {
    /// Sample ids.
    pub ids: Texts,
    /// Class numbers, or numbers, never NaN.
    pub labels: Vec<f32>,
}

/// A label file being read, with the same promises as a [`Source`](crate::source::Source).
pub struct LabelSource(Reader<LabelDecoder>);

impl LabelSource {
    /// Opens a label file.
    pub fn open(config: &FileConfig, columns: &LabelColumns) -> Result<LabelSource, SourceError> {
        Reader::open(config, LabelDecoder::new(columns, config.duplicates_within)).map(LabelSource)
    }

    /// Consumes the next `records` records, good or bad; see [`Source::read`](crate::source::Source::read).
    pub fn read(&mut self, records: usize) -> Result<Read<LabelBatch>, SourceError> {
        self.0.read(records)
    }

    /// How many records, good and bad, the file has.
    pub fn count(&mut self) -> Result<u64, SourceError> {
        self.0.count()
    }

    /// Continues after so many records as if they had been read.
    pub fn skip_to(&mut self, position: u64) -> Result<(), SourceError> {
        self.0.skip_to(position)
    }
}

/// Appends rows to the columns of a label batch.
struct LabelDecoder {
    /// The id and the label.
    columns: Vec<String>,
    labels: Labels,
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
            labels: Labels::new(&columns.label),
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
