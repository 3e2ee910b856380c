//! Samples whose labels are in a file of their own.

use std::collections::HashMap;

use perennial_operators::Batch;
use perennial_operators::flow::DeadLetter;

use super::labels::{LabelColumns, LabelSource};
use super::{FileConfig, open};
use crate::schema::Schema;
use crate::source::{Read, Source, SourceError};

/// Records that are read at a time where nobody waits for them.
const CHUNK: usize = 8192;

/// A file of samples, and the labels of another file, all of them in memory until their samples come.
struct Joined {
    samples: Box<dyn Source>,
    label_file: String,
    /// By sample id: the label and the label's record number.
    labels: HashMap<String, (f32, u64)>,
    /// Dead letters that the next read gives out.
    dead_letters: Vec<DeadLetter>,
    position: u64,
}

/// Opens a file of samples and reads the whole file of their labels. A label that no sample asks for is
/// a dead letter at the end of the stream; a sample without a label has none.
pub fn open_joined(
    config: &FileConfig,
    schema: &Schema,
    label_config: &FileConfig,
    columns: &LabelColumns,
) -> Result<Box<dyn Source>, SourceError> {
    let samples = open(config, schema, false)?;
    let mut source = LabelSource::open(label_config, columns)?;
    let mut labels = HashMap::new();
    let mut dead_letters = Vec::new();
    loop {
        let read = source.read(CHUNK)?;
        let is_empty = read.batch.labels.is_empty() && read.dead_letters.is_empty();
        // Where bad records stand between good ones, the number is that of the chunk's end.
        let first = read.position - read.batch.labels.len() as u64;
        for (row, label) in read.batch.labels.iter().enumerate() {
            let id = read.batch.ids.get(row).to_string();
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
        dead_letters,
        position: 0,
    }))
}

impl Joined {
    fn add_labels(&mut self, batch: &mut Batch) {
        batch.labels = (0..batch.len())
            .map(|row| match self.labels.remove(batch.ids.get(row)) {
                Some((label, _)) => label,
                None => f32::NAN,
            })
            .collect();
    }

    /// The labels that no sample asked for, in the order of their file.
    fn unasked(&mut self) -> Vec<DeadLetter> {
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
            read.dead_letters.extend(self.unasked());
        }
        Ok(read)
    }

    fn count(&mut self) -> Result<Option<u64>, SourceError> {
        self.samples.count()
    }

    fn skip_to(&mut self, position: u64) -> Result<(), SourceError> {
        // Read, not skipped: the labels of what was read must be gone.
        while self.position < position {
            let before = self.position;
            self.read((position - before).min(CHUNK as u64) as usize)?;
            if self.position == before {
                // The samples say that there are fewer than that.
                return self.samples.skip_to(position);
            }
        }
        Ok(())
    }
}
