//! Reviewing: whether the model that answers does better than the one that it replaced, now that there are samples that
//! neither of them knew.

use perennial_connectors::knowledge_base::KnowledgeError;
use perennial_operators::flow::DeployedModel;
use perennial_operators::{ModelId, RetainedSample, TaskId};

use super::comparison::{effective_sample_size, mean_and_error};
use super::context::TrainingContext;
use super::judge::LEAST_SAMPLES;
use super::losses::losses;
use super::reviewed::Reviewed;
use super::round::TrainingRound;
use super::snapshot::load;

/// Compares the model of a task with an earlier version on what came after its training.
pub fn review(
    workshop: &TrainingContext,
    model: ModelId,
    before: u32,
) -> Result<Reviewed, KnowledgeError> {
    let round = TrainingRound::new(workshop)?;
    let material = round.material(model.task)?;
    round.compare(model, before, &material.samples)
}

impl TrainingRound<'_> {
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
    /// standard errors of the mean_and_error differences.
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
        let (gain, error) = mean_and_error(&gains);
        // Of a few that weigh much, the error is not known.
        effective_sample_size(&gains) >= LEAST_SAMPLES as f64 && gain < -3.0 * error
    }
}
