//! Held samples: storing a labelled sample with its group, and releasing it.

use crate::Failure;
use crate::algorithms::unseen::HeldSample;
use crate::flow::{Labelled, Predicted, Stored};

impl HeldSample {
    /// A row of a batch and its label.
    pub(crate) fn new(scored: &Predicted, row: u32, label: f32) -> Result<Self, Failure> {
        Ok(HeldSample {
            sequence: scored.allocated.batch.sequence(row as usize),
            label,
            stored: postcard::to_stdvec(&Stored::of_row(scored, row))?,
        })
    }

    /// The label as operators take it: of a sample of all tasks on its path, or of the first so many.
    pub(crate) fn release(&self, nodes: Option<usize>) -> Result<Labelled, Failure> {
        let stored: Stored = postcard::from_bytes(&self.stored)?;
        let (mut scored, rows) = stored.restore();
        if let Some(nodes) = nodes {
            scored.cut(nodes);
        }
        Ok(Labelled {
            predicted: scored.into(),
            rows,
            labels: vec![self.label],
        })
    }
}
