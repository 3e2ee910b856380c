//! First state of the readers: where reading resumes, and what waits there.

use perennial_connectors::source::edges::EdgesResume;
use perennial_connectors::source::kafka::Resume;
use perennial_operators::Failure;
use perennial_operators::flow::waiting_samples;

use super::Restored;

impl Restored {
    /// Where reading resumes in topics, with the samples and labels that wait for each other.
    pub fn resume(&self) -> Result<Resume, Failure> {
        Ok(Resume {
            records: self.progress.records,
            samples: self.progress.samples,
            offsets: self.progress.offsets.clone(),
            topics: self.topics.clone(),
            waiting: waiting_samples(&self.pending, &self.released)?,
            early_labels: self.early_labels.clone(),
        })
    }

    /// Where reading resumes in the changes of edges.
    pub fn resume_edges(&self) -> EdgesResume {
        EdgesResume {
            records: self.progress.records,
            samples: self.progress.samples,
            offsets: self.progress.offsets.clone(),
            topics: self.topics.clone(),
            edges: self.edges.clone(),
            histories: self.histories.clone(),
        }
    }
}
