//! Reviewing: compares a deployed model with its predecessor, the version that it replaced, on
//! samples that came since its training. Neither of them was fitted on those.

use std::collections::BTreeMap;

use perennial_connectors::knowledge_base::KnowledgeError;
use perennial_operators::flow::DeployedModel;
use perennial_operators::{ModelId, RetainedSample, TaskId};

use super::context::TrainingContext;
use super::deployed::load;
use super::losses::losses;
use super::paired_gain::{LEAST_SAMPLES, effective_sample_size, mean_and_error};
use super::review_result::ReviewResult;
use super::round::TrainingRound;

/// Standard errors by which a model must do worse than its predecessor to be rolled back.
const ERRORS: f64 = 3.0;

/// Compares the model of a task with the version `predecessor`.
pub fn review(
    context: &TrainingContext,
    model: ModelId,
    predecessor: u32,
) -> Result<ReviewResult, KnowledgeError> {
    let round = TrainingRound::new(context, BTreeMap::new())?;
    let training = round.training_samples(model.task, false)?;
    round.compare(model, predecessor, &training.samples)
}

impl TrainingRound<'_> {
    /// Compares the deployed model of a task with the version that it replaced, if it has replaced
    /// one.
    pub(super) fn review(
        &self,
        task: TaskId,
        samples: &[RetainedSample],
    ) -> Result<ReviewResult, KnowledgeError> {
        let version = self.tasks.get(&task).and_then(|record| record.deployed);
        let deployed = version.map(|version| ModelId { task, version });
        let Some(model) = deployed else {
            return Ok(ReviewResult::unchanged(deployed));
        };
        match self.view.model(model)?.and_then(|record| record.replaced) {
            Some(predecessor) => self.compare(model, predecessor, samples),
            None => Ok(ReviewResult::unchanged(deployed)),
        }
    }

    /// Compares a model with its predecessor on the `samples` after its training. The model is
    /// rolled back if it does worse.
    fn compare(
        &self,
        model: ModelId,
        predecessor: u32,
        samples: &[RetainedSample],
    ) -> Result<ReviewResult, KnowledgeError> {
        let mut reviewed = ReviewResult::unchanged(Some(model));
        let Some(record) = self.view.model(model)? else {
            return Ok(reviewed);
        };
        let known = samples.partition_point(|sample| sample.sequence <= record.trained.latest);
        let fresh = &samples[known..];
        if fresh.len() < LEAST_SAMPLES {
            return Ok(reviewed);
        }
        reviewed.is_judged = true;
        let predecessor = ModelId {
            task: model.task,
            version: predecessor,
        };
        let predecessor = load(&self.view, predecessor)?;
        if self.does_worse(&load(&self.view, model)?, &predecessor, fresh) {
            reviewed.deployed = Some(predecessor.model);
            reviewed.restored = Some(predecessor);
            reviewed.dropped = Some(model);
        }
        Ok(reviewed)
    }

    /// Whether the mean loss of `model` is higher by more than [`ERRORS`] standard errors of the
    /// paired differences.
    fn does_worse(
        &self,
        model: &DeployedModel,
        predecessor: &DeployedModel,
        fresh: &[RetainedSample],
    ) -> bool {
        let losses = |model: &DeployedModel| losses(self.context, &model.onnx, fresh, self.scale());
        let (own, other) = match (losses(model), losses(predecessor)) {
            (Ok(own), Ok(other)) => (own, other),
            // One that does not run on these samples loses to one that does.
            (own, other) => return own.is_err() && other.is_ok(),
        };
        let gains = own.gains(&other);
        let (gain, error) = mean_and_error(&gains);
        // With few effective samples the standard error itself is uncertain.
        effective_sample_size(&gains) >= LEAST_SAMPLES as f64 && gain < -ERRORS * error
    }
}
