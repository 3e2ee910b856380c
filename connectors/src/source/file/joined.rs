//! Samples joined with the labels of another file.

use std::collections::HashMap;

use perennial_operators::Batch;
use perennial_operators::flow::DeadLetter;

use super::labels::{LabelColumns, LabelSource};
use super::{FileConfig, open};
use crate::schema::Schema;
use crate::source::{Read, Source, SourceError};

/// Samples among which some label is expected to find its sample.
const EXPECTED: u64 = 100;

/// Records of labels, or of skipped samples, that are read at a time.
const CHUNK: usize = 8192;

/// A file of samples with the labels of another file. All labels are in memory until their samples
/// are read.
struct Joined {
    samples: Box<dyn Source>,
    label_file: String,
    /// By sample id: the label and the label's record number.
    labels: HashMap<String, (f32, u64)>,
    /// An id of the label file, until a label has found its sample.
    unmatched_id: Option<String>,
    /// Samples read so far.
    count: u64,
    /// Dead letters to return with the next read.
    dead_letters: Vec<DeadLetter>,
    position: u64,
}

/// Opens a file of samples and reads all labels of another file. A label without a sample becomes a
/// dead letter at the end of the stream; the label of a sample without one is NaN.
pub fn open_joined(
    config: &FileConfig,
    schema: &Schema,
    label_config: &FileConfig,
    columns: &LabelColumns,
) -> Result<Box<dyn Source>, SourceError> {
    let samples = open(config, schema, false)?;
    let mut source = LabelSource::open(label_config, columns)?;
    let mut labels = HashMap::new();
    let (mut dead_letters, mut unmatched_id) = (Vec::new(), None);
    loop {
        let read = source.read(CHUNK)?;
        let is_empty = read.batch.labels.is_empty() && read.dead_letters.is_empty();
        // With bad records between good ones the numbers count back from the end of the chunk.
        let first = read.position - read.batch.labels.len() as u64;
        for (row, label) in read.batch.labels.iter().enumerate() {
            let id = read.batch.ids.get(row).to_string();
            unmatched_id.get_or_insert_with(|| id.clone());
            labels.insert(id, (*label, first + row as u64 + 1));
        }
        dead_letters.extend(read.dead_letters);
        if is_empty {
            break;
        }
    }
    Ok(Box::new(Joined {
        samples,
        label_file: label_config.path.display().to_string(),
        labels,
        unmatched_id,
        count: 0,
        dead_letters,
        position: 0,
    }))
}

impl Joined {
    fn add_labels(&mut self, batch: &mut Batch) {
        let before = self.labels.len();
        batch.labels = (0..batch.len())
            .map(|row| match self.labels.remove(batch.ids.get(row)) {
                Some((label, _)) => label,
                None => f32::NAN,
            })
            .collect();
        if self.labels.len() < before {
            self.unmatched_id = None;
        }
        let few = self.count < EXPECTED;
        self.count += batch.len() as u64;
        if few && self.count >= EXPECTED {
            self.warn_of_ids(batch);
        }
    }

    /// Warns if no label has found its sample: most likely the ids are written in two ways.
    fn warn_of_ids(&mut self, batch: &Batch) {
        if let Some(label) = self.unmatched_id.take() {
            let sample = batch.ids.get(batch.len() - 1);
            tracing::warn!(
                file = self.label_file,
                sample,
                label,
                "none of the first {} samples has a label: ids are compared as texts, so write those of \
                 samples and labels alike (101 and 101.0 are two ids)",
                self.count
            );
        }
    }

    /// Dead letters of the labels without a sample, in the order of their file.
    fn unmatched(&mut self) -> Vec<DeadLetter> {
        let mut left: Vec<(String, (f32, u64))> = self.labels.drain().collect();
        left.sort_by_key(|(_, (_, record))| *record);
        left.into_iter()
            .map(|(id, (_, record))| DeadLetter {
                source: self.label_file.clone(),
                record,
                reason: format!("no sample has the id {id:?} of this label"),
                content: id,
                message: None,
            })
            .collect()
    }
}

impl Source for Joined {
    fn read(&mut self, records: usize) -> Result<Read, SourceError> {
        let mut read = self.samples.read(records)?;
        self.add_labels(&mut read.batch);
        let nothing_left = records > 0 && read.position == self.position;
        self.position = read.position;
        read.dead_letters.append(&mut self.dead_letters);
        if nothing_left {
            read.dead_letters.extend(self.unmatched());
        }
        Ok(read)
    }

    fn count(&mut self) -> Result<Option<u64>, SourceError> {
        self.samples.count()
    }

    fn skip_to(&mut self, position: u64) -> Result<(), SourceError> {
        // Samples are read and not skipped, so that their labels are removed.
        while self.position < position {
            let start = self.position;
            self.read((position - start).min(CHUNK as u64) as usize)?;
            if self.position == start {
                // The source of samples reports that it has fewer.
                return self.samples.skip_to(position);
            }
        }
        Ok(())
    }
}
