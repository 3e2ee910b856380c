//! Stage log: what a training order goes through, as knowledge changes.

use std::time::{Duration, Instant};

use perennial_operators::flow::{
    Deployment, KnowledgeChange, ModelTrained, StageKind, StageMoved, StageState, TrainOrder,
    TrainOutcome,
};

use super::candidate::Candidate;

/// Collects the changes of an order's stages.
pub struct StageLog<'a> {
    order: &'a TrainOrder,
    /// The end of the order's time limit.
    pub deadline: Instant,
    /// The changes so far.
    pub changes: Vec<KnowledgeChange>,
}

impl<'a> StageLog<'a> {
    /// An empty log of an order that starts now and may take `limit`.
    pub fn new(order: &'a TrainOrder, limit: Duration) -> Self {
        StageLog {
            order,
            deadline: Instant::now() + limit,
            changes: Vec::new(),
        }
    }

    /// Logs that a stage went into a state.
    pub fn moved(&mut self, stage: StageKind, state: StageState, detail: &str) {
        tracing::debug!(model = ?self.order.model, ?stage, ?state, detail, "stage");
        self.changes.push(KnowledgeChange::StageMoved(StageMoved {
            model: self.order.model,
            stage,
            state,
            labelled: self.order.labelled,
            clock: self.order.clock,
            initial: self.order.initial,
            recent: self.order.recent,
            detail: detail.to_string(),
        }));
    }

    /// Logs that a model was trained on `samples` samples. `latest` is the sequence number of the
    /// latest one known then.
    pub fn trained(&mut self, candidate: &Candidate, samples: usize, latest: u64) {
        let trained = &candidate.trained;
        self.changes
            .push(KnowledgeChange::ModelTrained(ModelTrained {
                model: self.order.model,
                hash: trained.hash.clone(),
                bytes: trained.onnx.len() as u64,
                samples: samples as u64,
                latest,
                remodeling: candidate.remodeling(),
            }));
    }

    /// Ends the log with the deployment that the order results in, if any.
    pub fn outcome(self, deployment: Option<Deployment>) -> TrainOutcome {
        TrainOutcome {
            model: self.order.model,
            changes: self.changes,
            deployment,
            models: Vec::new(),
        }
    }
}
