//! First state of the readers: where reading resumes, and what waits there.

use std::collections::BTreeMap;

use perennial_connectors::knowledge_base::{KnowledgeError, View};
use perennial_connectors::source::edges::{DonatedModels, EdgesResume};
use perennial_connectors::source::kafka::Resume;
use perennial_operators::Failure;
use perennial_operators::flow::waiting_samples;

use super::Restored;

impl Restored {
    /// Where reading resumes in topics, with the samples and labels that wait for each other.
    pub fn resume(&self) -> Result<Resume, Failure> {
        let mut waiting = waiting_samples(&self.pending, &self.released)?;
        let mut early_labels = self.early_labels.clone();
        // A clock that was ahead for a moment must not hold what came then until it is that late.
        if let Some(last) = &self.progress.header {
            let clocks = waiting.iter_mut().map(|sample| &mut sample.clock);
            let clocks = clocks.chain(early_labels.iter_mut().map(|label| &mut label.clock));
            clocks.for_each(|clock| *clock = last.clock.min(*clock));
        }
        Ok(Resume {
            records: self.progress.records,
            samples: self.progress.samples,
            seen: self.seen.clone(),
            tasks: self.tasks.clone(),
            offsets: self.progress.offsets.clone(),
            topics: self.topics.clone(),
            waiting,
            early_labels,
        })
    }

    /// Where reading resumes in the changes of edges.
    pub fn resume_edges(&self) -> EdgesResume {
        EdgesResume {
            records: self.progress.records,
            samples: self.progress.samples,
            seen: self.seen.clone(),
            tasks: self.tasks.clone(),
            offsets: self.progress.offsets.clone(),
            topics: self.topics.clone(),
            refused: self.refused.clone(),
            edges: self.edges.clone(),
            histories: self.histories.clone(),
            donated: self.donated.clone(),
        }
    }
}

/// The models that each edge has donated.
pub(super) fn donated(view: &View<'_>) -> Result<BTreeMap<String, DonatedModels>, KnowledgeError> {
    let mut donated: BTreeMap<String, DonatedModels> = BTreeMap::new();
    for ((task, _), record) in view.donated()? {
        let edge = record.donated.donor.to_string();
        let models = donated.entry(edge).or_default();
        models.add(task, record.donated.trained.bytes);
    }
    Ok(donated)
}
