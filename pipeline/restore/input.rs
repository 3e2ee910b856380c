//! First state of the input: where reading resumes and what waits.

use perennial_connectors::source::edges::EdgesResume;
use perennial_connectors::source::kafka::Resume;
use perennial_operators::Failure;
use perennial_operators::flow::waiting_samples;

use super::Restored;

impl Restored {
    /// Where to go on in topics.
    pub fn resume(&self) -> Result<Resume, Failure> {
        Ok(Resume {
            records: self.progress.records,
            samples: self.progress.samples,
            offsets: self.progress.offsets.clone(),
            waiting: waiting_samples(&self.pending, &self.released)?,
            early_labels: self.early_labels.clone(),
        })
    }

    /// Where to go on in what edges share.
    pub fn resume_edges(&self) -> EdgesResume {
        EdgesResume {
            records: self.progress.records,
            samples: self.progress.samples,
            offsets: self.progress.offsets.clone(),
            edges: self.edges.clone(),
        }
    }
}
