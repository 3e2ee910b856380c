//! Results of reviewing a deployed model.

use perennial_operators::ModelId;
use perennial_operators::flow::{DeployedModel, Deployment, KnowledgeChange};

/// What a review of a task's model found.
pub struct ReviewResult {
    /// The deployed model after the review.
    pub deployed: Option<ModelId>,
    /// The predecessor, if it is deployed again.
    pub restored: Option<DeployedModel>,
    /// The model that did worse than its predecessor.
    pub dropped: Option<ModelId>,
    /// Whether there were enough samples to compare the two.
    pub is_judged: bool,
}

impl ReviewResult {
    /// A review that finds nothing against the deployed model.
    pub(crate) fn unchanged(deployed: Option<ModelId>) -> ReviewResult {
        ReviewResult {
            deployed,
            restored: None,
            dropped: None,
            is_judged: false,
        }
    }

    /// The rollback as a knowledge change, if there is one.
    pub fn change(&self) -> Option<KnowledgeChange> {
        let to = self.deployed.map(|model| model.version);
        self.dropped
            .map(|model| KnowledgeChange::ModelRolledBack { model, to })
    }

    /// The rollback as a deployment, if there is one; for when no candidate is deployed.
    pub fn deployment(&self) -> Option<Deployment> {
        let (from, to) = (self.dropped?, self.restored.clone()?);
        Some(Deployment::Restore { from, to })
    }
}
