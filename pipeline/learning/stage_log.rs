//! What a training order goes through, as knowledge changes.

use perennial_operators::flow::{
    Deployment, KnowledgeChange, ModelTrained, StageKind, StageMoved, StageState, TrainOrder,
    TrainOutcome,
};

use super::candidate::Candidate;

/// The changes of an order's stages, in the making.
pub struct StageLog<'a> {
    order: &'a TrainOrder,
    /// The changes so far.
    pub changes: Vec<KnowledgeChange>,
}

impl<'a> StageLog<'a> {
    /// A log without any change yet.
    pub fn new(order: &'a TrainOrder) -> Self {
        StageLog {
            order,
            changes: Vec::new(),
        }
    }

    /// A stage is in a state now.
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

    /// A model was trained on so many samples, when the latest known was the one with this number.
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

    /// What the order ended with.
    pub fn outcome(self, deployment: Option<Deployment>) -> TrainOutcome {
        TrainOutcome {
            model: self.order.model,
            changes: self.changes,
            deployment,
            models: Vec::new(),
        }
    }
}
