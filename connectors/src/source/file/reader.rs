//! Batches from the records of a file, with positions, dead letters and resuming, for samples and
//! labels.

use perennial_operators::Batch;
use perennial_operators::flow::DeadLetter;

use super::{FileConfig, Next, Records, records};
use crate::format::Row;
use crate::source::decode::Decoder;
use crate::source::error::SourceError;
use crate::source::{Read, Source};

/// Records that a skip reads at a time.
const SKIPPED: u64 = 8192;

/// A decoder of rows to columns.
pub(super) trait Decode {
    /// The columns.
    type Batch;

    /// The columns of a row, in the order of its cells.
    fn columns(&self) -> &[String];

    /// Appends a row.
    ///
    /// # Errors
    /// The record is bad: the reason.
    fn push(&mut self, row: &Row, record: u64) -> Result<(), String>;

    /// Takes the rows since the last call.
    fn take(&mut self) -> Self::Batch;
}

impl Decode for Decoder {
    type Batch = Batch;

    fn columns(&self) -> &[String] {
        Decoder::columns(self)
    }

    fn push(&mut self, row: &Row, record: u64) -> Result<(), String> {
        Decoder::push(self, row, record)
    }

    fn take(&mut self) -> Batch {
        Decoder::take(self)
    }
}

/// An open file.
pub(super) struct Reader<D> {
    config: FileConfig,
    path: String,
    records: Box<dyn Records>,
    row: Row,
    decoder: D,
    position: u64,
    total: Option<u64>,
    /// Why the file cannot be read any further, to be returned after all records before it.
    failure: Option<SourceError>,
}

impl<D: Decode> Reader<D> {
    pub(super) fn open(config: &FileConfig, decoder: D) -> Result<Reader<D>, SourceError> {
        Ok(Reader {
            config: config.clone(),
            path: config.path.display().to_string(),
            records: records(config, decoder.columns())?,
            row: Row::new(decoder.columns().len()),
            decoder,
            position: 0,
            total: None,
            failure: None,
        })
    }

    pub(super) fn read(&mut self, records: usize) -> Result<Read<D::Batch>, SourceError> {
        let mut dead_letters = Vec::new();
        let mut ended = false;
        let start = self.position;
        for _ in 0..records {
            if let Some(failure) = &self.failure {
                if self.position == start {
                    return Err(failure.clone());
                }
                break;
            }
            let reason = match self.records.next(&mut self.row) {
                Ok(Next::Record) => self.decoder.push(&self.row, self.records.number()).err(),
                Ok(Next::Bad(reason)) => Some(reason),
                Ok(Next::End) => {
                    ended = true;
                    break;
                }
                Err(reason) => {
                    self.failure = Some(self.broken(self.position, reason));
                    continue;
                }
            };
            self.position += 1;
            dead_letters.extend(reason.map(|reason| self.dead_letter(reason)));
        }
        Ok(Read {
            batch: self.decoder.take(),
            dead_letters,
            position: self.position,
            ended,
        })
    }

    pub(super) fn skip_to(&mut self, position: u64) -> Result<(), SourceError> {
        if position < self.position {
            let source_name = format!("the file {}", self.path);
            return Err(SourceError::Backwards {
                source_name,
                at: self.position,
                position,
            });
        }
        while self.position < position {
            let step = (position - self.position).min(SKIPPED) as usize;
            if self.read(step)?.ended {
                break;
            }
        }
        if self.position < position {
            let source_name = format!("the file {}", self.path);
            return Err(SourceError::Shorter {
                source_name,
                position,
                count: self.position,
            });
        }
        Ok(())
    }

    pub(super) fn count(&mut self) -> Result<u64, SourceError> {
        if let Some(total) = self.total {
            return Ok(total);
        }
        // A second handle, so that the position of this one stays.
        let mut all = records(&self.config, self.decoder.columns())?;
        let total = all
            .count()
            .map_err(|reason| self.broken(all.number(), reason))?;
        self.total = Some(total);
        Ok(total)
    }

    fn broken(&self, record: u64, reason: String) -> SourceError {
        SourceError::Broken {
            path: self.path.clone(),
            record,
            reason,
        }
    }

    fn dead_letter(&self, reason: String) -> DeadLetter {
        DeadLetter {
            source: self.path.clone(),
            record: self.records.number(),
            reason,
            content: self.records.content(&self.row),
            message: None,
        }
    }
}

impl Source for Reader<Decoder> {
    fn read(&mut self, records: usize) -> Result<Read, SourceError> {
        Reader::read(self, records)
    }

    fn count(&mut self) -> Result<Option<u64>, SourceError> {
        Reader::count(self).map(Some)
    }

    fn skip_to(&mut self, position: u64) -> Result<(), SourceError> {
        Reader::skip_to(self, position)
    }
}
