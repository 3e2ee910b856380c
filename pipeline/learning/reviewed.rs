//! Results of reviewing the deployed models when a pipeline starts.

use perennial_operators::ModelId;
use perennial_operators::flow::{DeployedModel, Deployment, KnowledgeChange};

/// What a review found of a task's model.
pub struct Reviewed {
    /// The model that answers after it.
    pub answers: Option<ModelId>,
    /// The earlier model, if that answers again.
    pub restored: Option<DeployedModel>,
    /// The model that did worse.
    pub dropped: Option<ModelId>,
    /// Whether there was enough to compare on.
    pub is_judged: bool,
}

impl Reviewed {
    /// Nothing is found against what answers.
    pub(crate) fn unchanged(answers: Option<ModelId>) -> Reviewed {
        Reviewed {
            answers,
            restored: None,
            dropped: None,
            is_judged: false,
        }
    }

    /// What is to be known of it.
    pub fn change(&self) -> Option<KnowledgeChange> {
        let to = self.answers.map(|model| model.version);
        self.dropped
            .map(|model| KnowledgeChange::ModelRolledBack { model, to })
    }

    /// What it changes, if no other model takes over.
    pub fn deployment(&self) -> Option<Deployment> {
        let (from, to) = (self.dropped?, self.restored.clone()?);
        Some(Deployment::Restore { from, to })
    }
}
