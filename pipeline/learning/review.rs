//! Reviewing: whether the model that answers does better than the one that it replaced, now that there are samples that
//! neither of them knew.

use perennial_connectors::knowledge_base::KnowledgeError;
use perennial_operators::flow::{DeployedModel, Deployment, KnowledgeChange};
use perennial_operators::{ModelId, RetainedSample, TaskId};

use super::judge::{LEAST_SAMPLES, effective, losses, paired};
use super::learner::Workshop;
use super::round::{Round, load};

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
    fn unchanged(answers: Option<ModelId>) -> Reviewed {
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

/// Compares the model of a task with an earlier version on what came after its training.
pub fn review(
    workshop: &Workshop,
    model: ModelId,
    before: u32,
) -> Result<Reviewed, KnowledgeError> {
    let round = Round::new(workshop)?;
    let material = round.material(model.task)?;
    round.compare(model, before, &material.samples)
}

impl Round<'_> {
    /// Compares the model of a task with the version before on what came after its training.
    pub(super) fn review(
        &self,
        task: TaskId,
        samples: &[RetainedSample],
    ) -> Result<Reviewed, KnowledgeError> {
        let version = self.tasks.get(&task).and_then(|record| record.deployed);
        let answers = version.map(|version| ModelId { task, version });
        let Some(model) = answers else {
            return Ok(Reviewed::unchanged(answers));
        };
        match self.view.model(model)?.and_then(|record| record.replaced) {
            Some(before) => self.compare(model, before, samples),
            None => Ok(Reviewed::unchanged(answers)),
        }
    }

    /// Compares the model of a task with an earlier version. It is rolled back if its mean loss is higher by more than three
    /// standard errors of the paired differences.
    fn compare(
        &self,
        model: ModelId,
        before: u32,
        samples: &[RetainedSample],
    ) -> Result<Reviewed, KnowledgeError> {
        let mut reviewed = Reviewed::unchanged(Some(model));
        let Some(record) = self.view.model(model)? else {
            return Ok(reviewed);
        };
        let known = samples.partition_point(|sample| sample.sequence <= record.trained.latest);
        let fresh = &samples[known..];
        if fresh.len() < LEAST_SAMPLES {
            return Ok(reviewed);
        }
        reviewed.is_judged = true;
        let before = ModelId {
            task: model.task,
            version: before,
        };
        let before = load(&self.view, before)?;
        if self.does_worse(&load(&self.view, model)?, &before, fresh) {
            reviewed.answers = Some(before.model);
            reviewed.restored = Some(before);
            reviewed.dropped = Some(model);
        }
        Ok(reviewed)
    }

    fn does_worse(
        &self,
        model: &DeployedModel,
        before: &DeployedModel,
        fresh: &[RetainedSample],
    ) -> bool {
        let losses =
            |model: &DeployedModel| losses(self.workshop, &model.onnx, fresh, self.scale());
        let (Ok(own), Ok(other)) = (losses(model), losses(before)) else {
            return false;
        };
        let gains = own.gains(&other);
        let (gain, error) = paired(&gains);
        // Of a few that weigh much, the error is not known.
        effective(&gains) >= LEAST_SAMPLES as f64 && gain < -3.0 * error
    }
}
