//! Held samples: labelled samples that are stored with their group, and released when it settles.

use crate::algorithms::unseen::HeldSample;
use crate::error::OperatorError;
use crate::flow::{Labelled, Predicted, Stored};

impl HeldSample {
    /// Stores a row of a batch with its label.
    pub(crate) fn new(predicted: &Predicted, row: u32, label: f32) -> Result<Self, OperatorError> {
        Ok(HeldSample {
            sequence: predicted.allocated.batch.sequence(row as usize),
            label,
            stored: Stored::of_row(predicted, row).encode()?,
        })
    }

    /// Restores the labelled sample, for all tasks of its path or only the first `nodes` of them.
    pub(crate) fn release(&self, nodes: Option<usize>) -> Result<Labelled, OperatorError> {
        let (mut predicted, rows) = Stored::decode(&self.stored)?.restore();
        if let Some(nodes) = nodes {
            predicted.cut(nodes);
        }
        Ok(Labelled {
            predicted: predicted.into(),
            rows,
            labels: vec![self.label],
        })
    }
}
