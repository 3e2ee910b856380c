//! Candidates for label requests: the samples of a batch whose predictions are least certain.

use crate::algorithms::recognize::entropy;
use crate::algorithms::unseen::{Candidate, LabelRequest, MOST_CANDIDATES};
use crate::data::{LabelKind, SITE, TaskId};
use crate::flow::Predicted;

/// Uncertainty of the prediction of a row, 0 to 1: its entropy over the highest possible entropy,
/// or, for a number, a bounded measure of how much the experts disagree.
pub(super) fn uncertainty(predicted: &Predicted, row: usize, kind: LabelKind) -> f32 {
    let (prediction, outputs) = (predicted.probabilities.row(row), predicted.outputs.row(row));
    let (Some(prediction), Some(outputs)) = (prediction.as_slice(), outputs.as_slice()) else {
        return 0.0;
    };
    match kind {
        LabelKind::Classes(classes) => entropy(prediction) / (classes.max(2) as f32).ln(),
        LabelKind::Number => {
            let pool = &predicted.pools[predicted.allocated.group_of[row] as usize];
            let disagreement = pool.disagreement(outputs, prediction);
            disagreement / (1.0 + disagreement)
        }
    }
}

impl Candidate {
    /// Makes a row of a batch a candidate of `task`, which comes with whether it is new.
    pub(super) fn new(
        predicted: &Predicted,
        row: usize,
        task: (TaskId, bool),
        uncertainty: f32,
    ) -> Self {
        let allocated = &predicted.allocated;
        let batch = &allocated.batch;
        let leaf = allocated.groups[allocated.group_of[row] as usize]
            .path
            .leaf();
        let recognized = predicted.recognized.as_ref();
        Candidate {
            task: task.0,
            is_new: task.1,
            request: LabelRequest {
                sequence: batch.sequence(row),
                id: batch.ids.get(row).to_string(),
                key: batch.metadata.as_ref().and_then(|metadata| {
                    let key = metadata.keys.get(row)?;
                    Some(key.to_vec())
                }),
                time: batch.times[row],
                site: batch.attribute(SITE, row).to_string(),
                task: leaf.name.to_string(),
                unseen: recognized.is_some_and(|recognized| recognized.unseen[row]),
                uncertainty,
                answer: predicted.probabilities.row(row).to_vec(),
                features: batch.features.row(row).to_vec(),
            },
        }
    }
}

/// Rows of a batch with the highest uncertainty, at most [`MOST_CANDIDATES`].
#[derive(Default)]
pub(super) struct LeastSure {
    /// Uncertainty, sequence number, row, and the task with whether it is new.
    rows: Vec<(f32, u64, usize, (TaskId, bool))>,
}

impl LeastSure {
    /// Adds a row.
    pub(super) fn add(
        &mut self,
        uncertainty: f32,
        sequence: u64,
        row: usize,
        task: (TaskId, bool),
    ) {
        self.rows.push((uncertainty, sequence, row, task));
        if self.rows.len() >= 2 * MOST_CANDIDATES {
            self.shrink();
        }
    }

    fn shrink(&mut self) {
        self.rows.sort_unstable_by(|one, other| {
            let by_uncertainty = other.0.total_cmp(&one.0);
            by_uncertainty.then(one.1.cmp(&other.1))
        });
        self.rows.truncate(MOST_CANDIDATES);
    }

    /// Makes the rows candidates, the least sure first.
    pub(super) fn into_candidates(mut self, predicted: &Predicted) -> Vec<Candidate> {
        self.shrink();
        self.rows
            .into_iter()
            .map(|(uncertainty, _, row, task)| Candidate::new(predicted, row, task, uncertainty))
            .collect()
    }
}
