//! Candidates for label requests: the samples of a batch whose predictions are least certain.

use crate::algorithms::recognize::entropy;
use crate::algorithms::unseen::{Candidate, LabelRequest, MOST_CANDIDATES};
use crate::data::{LabelKind, TaskId};
use crate::flow::Predicted;

/// How unsure the answer to a row is, 0 to 1: its entropy by the most that there could be, or for a number how much those
/// who were asked disagree.
pub(super) fn uncertainty(scored: &Predicted, row: usize, kind: LabelKind) -> f32 {
    let (answer, answers) = (scored.probabilities.row(row), scored.outputs.row(row));
    let (Some(answer), Some(answers)) = (answer.as_slice(), answers.as_slice()) else {
        return 0.0;
    };
    match kind {
        LabelKind::Classes(classes) => entropy(answer) / (classes.max(2) as f32).ln(),
        LabelKind::Number => {
            let pool = &scored.pools[scored.allocated.group_of[row] as usize];
            let apart = pool.disagreement(answers, answer);
            apart / (1.0 + apart)
        }
    }
}

impl Candidate {
    /// The row of a batch, of which this task would learn.
    pub(super) fn new(
        scored: &Predicted,
        row: usize,
        task: (TaskId, bool),
        uncertainty: f32,
    ) -> Self {
        let allocated = &scored.allocated;
        let batch = &allocated.batch;
        let leaf = allocated.groups[allocated.group_of[row] as usize]
            .path
            .leaf();
        let recognized = scored.recognized.as_ref();
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
                site: batch.attribute(crate::data::SITE, row).to_string(),
                task: leaf.name.to_string(),
                unseen: recognized.is_some_and(|recognized| recognized.unseen[row]),
                uncertainty,
                answer: scored.probabilities.row(row).to_vec(),
                features: batch.features.row(row).to_vec(),
            },
        }
    }
}

/// Those of a worker's candidates that can be among the least sure of all.
#[derive(Default)]
pub(super) struct LeastSure {
    rows: Vec<(f32, u64, usize, (TaskId, bool))>,
}

impl LeastSure {
    /// Adds a row, by how unsure its answer is.
    pub(super) fn add(
        &mut self,
        uncertainty: f32,
        sequence: u64,
        row: usize,
        task: (TaskId, bool),
    ) {
        self.rows.push((uncertainty, sequence, row, task));
        if self.rows.len() >= 2 * MOST_CANDIDATES {
            self.keep();
        }
    }

    fn keep(&mut self) {
        self.rows.sort_unstable_by(|one, other| {
            let least_sure = other.0.total_cmp(&one.0);
            least_sure.then(one.1.cmp(&other.1))
        });
        self.rows.truncate(MOST_CANDIDATES);
    }

    /// The candidates of a batch.
    pub(super) fn of(mut self, scored: &Predicted) -> Vec<Candidate> {
        self.keep();
        let rows = self.rows.into_iter();
        rows.map(|(uncertainty, _, row, task)| Candidate::new(scored, row, task, uncertainty))
            .collect()
    }
}
