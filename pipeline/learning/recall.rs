//! Recalling: if a task has drifted back to how it was before, an earlier model of it is deployed
//! again, and nothing is trained.

use std::collections::{BTreeMap, BTreeSet};

use perennial_connectors::knowledge_base::KnowledgeError;
use perennial_connectors::trainer::Trained;
use perennial_operators::RetainedSample;
use perennial_operators::flow::{DeployedModel, TrainOrder};

use super::candidate::{Candidate, Recipe};
use super::deployed::load;
use super::losses::{Losses, losses};
use super::paired_gain::{LEAST_SAMPLES, effective_sample_size, mean_and_error};
use super::review_result::ReviewResult;
use super::round::TrainingRound;
use crate::config::CandidateConfig;

/// Limit on the earlier models that are tried, the latest first.
const MOST_MODELS: usize = 10;

/// Standard errors by which an earlier model may lose more than when it was judged, and by which it
/// must lose less than the deployed model and the incumbent.
const ERRORS: f64 = 2.0;

impl TrainingRound<'_> {
    /// The earlier model of the task with the least loss on samples since the drift, if it loses as
    /// little as when it was judged, and less than the deployed model and the incumbent.
    pub(super) fn recall(
        &self,
        order: &TrainOrder,
        reviewed: &ReviewResult,
        incumbent: Option<&DeployedModel>,
        recent: &[RetainedSample],
    ) -> Result<Option<Candidate>, KnowledgeError> {
        let is_allowed = self.context.candidates.contains(&CandidateConfig::Recall);
        if !is_allowed || recent.len() < LEAST_SAMPLES {
            return Ok(None);
        }
        let deployed = match reviewed.deployed {
            Some(model) => Some(load(&self.view, model)?),
            None => None,
        };
        let current: Vec<DeployedModel> = deployed.into_iter().chain(incumbent.cloned()).collect();
        let losses_of =
            |model: &DeployedModel| losses(self.context, &model.onnx, recent, self.scale()).ok();
        let others: Vec<Losses> = current.iter().filter_map(losses_of).collect();
        let mut best: Option<(f64, DeployedModel)> = None;
        for (model, expected) in self.earlier_models(order, &current)? {
            let Some(own) = losses_of(&model) else {
                continue;
            };
            let Some(loss) = own.mean() else {
                continue;
            };
            let as_judged = loss <= expected + ERRORS * own.error();
            let is_better = others.iter().all(|other| {
                let gains = own.gains(other);
                let (gain, error) = mean_and_error(&gains);
                effective_sample_size(&gains) >= LEAST_SAMPLES as f64 && gain > ERRORS * error
            });
            if as_judged && is_better && best.as_ref().is_none_or(|(least, _)| loss < *least) {
                best = Some((loss, model));
            }
        }
        Ok(best.map(|(_, earlier)| Candidate {
            recipe: Recipe::Recalled(earlier.model),
            trained: Trained {
                onnx: earlier.onnx.to_vec(),
                hash: earlier.hash,
                deviation: 0.0,
                metrics: BTreeMap::new(),
            },
        }))
    }

    /// Models that were deployed for the task and are not `current`, the latest first, each with
    /// its loss when it was judged.
    fn earlier_models(
        &self,
        order: &TrainOrder,
        current: &[DeployedModel],
    ) -> Result<Vec<(DeployedModel, f64)>, KnowledgeError> {
        let mut seen: BTreeSet<String> = current.iter().map(|model| model.hash.clone()).collect();
        let mut earlier = Vec::new();
        let task = order.model.task;
        for record in self.view.models_of(task)?.into_iter().rev() {
            let model = record.trained.model;
            if earlier.len() == MOST_MODELS {
                break;
            }
            if let (Some(_), Some(evaluated)) = (record.deployed, record.evaluated)
                && evaluated.samples >= LEAST_SAMPLES as u64
                && seen.insert(record.trained.hash)
            {
                earlier.push((load(&self.view, model)?, evaluated.log_loss));
            }
        }
        Ok(earlier)
    }
}
