//! Recalling: where a task has drifted to how it was before, its model of then answers again, and nothing is trained.

use std::collections::{BTreeMap, BTreeSet};

use perennial_connectors::knowledge_base::KnowledgeError;
use perennial_connectors::trainer::Trained;
use perennial_operators::RetainedSample;
use perennial_operators::flow::{DeployedModel, TrainOrder};

use super::candidate::{Candidate, Recipe};
use super::comparison::{effective_sample_size, mean_and_error};
use super::judge::LEAST_SAMPLES;
use super::losses::{Losses, losses};
use super::reviewed::Reviewed;
use super::round::TrainingRound;
use super::snapshot::load;
use crate::config::CandidateConfig;

/// Earlier models that are tried, the latest.
const MOST_MODELS: usize = 10;
/// By how many standard errors an earlier model may lose more than when it was judged, and must lose less than what answers
/// now.
const ERRORS: f64 = 2.0;

impl TrainingRound<'_> {
    /// The earlier model of the task that loses least on what came since the drift, if it loses as little as when it was
    /// judged, and less than the model that answers now and the `rival`.
    pub(super) fn recall(
        &self,
        order: &TrainOrder,
        reviewed: &Reviewed,
        rival: Option<&DeployedModel>,
        recent: &[RetainedSample],
    ) -> Result<Option<Candidate>, KnowledgeError> {
        let is_allowed = self.workshop.candidates.contains(&CandidateConfig::Recall);
        if !is_allowed || recent.len() < LEAST_SAMPLES {
            return Ok(None);
        }
        let answering = match reviewed.answers {
            Some(model) => Some(load(&self.view, model)?),
            None => None,
        };
        let rivals: Vec<DeployedModel> = answering.into_iter().chain(rival.cloned()).collect();
        let loses =
            |model: &DeployedModel| losses(self.workshop, &model.onnx, recent, self.scale()).ok();
        let others: Vec<Losses> = rivals.iter().filter_map(loses).collect();
        let mut best: Option<(f64, DeployedModel)> = None;
        for (model, expected) in self.former(order, &rivals)? {
            let Some(own) = loses(&model) else {
                continue;
            };
            let Some(loss) = own.mean() else {
                continue;
            };
            let as_then = loss <= expected + ERRORS * own.error();
            let better = others.iter().all(|other| {
                let gains = own.gains(other);
                let (gain, error) = mean_and_error(&gains);
                effective_sample_size(&gains) >= LEAST_SAMPLES as f64 && gain > ERRORS * error
            });
            if as_then && better && best.as_ref().is_none_or(|(least, _)| loss < *least) {
                best = Some((loss, model));
            }
        }
        Ok(best.map(|(_, former)| Candidate {
            way: Recipe::Recalled(former.model),
            trained: Trained {
                onnx: former.onnx.to_vec(),
                hash: former.hash,
                deviation: 0.0,
                metrics: BTreeMap::new(),
            },
        }))
    }

    /// The models that answered for the task before, the latest first, each with what it lost when it was judged.
    fn former(
        &self,
        order: &TrainOrder,
        rivals: &[DeployedModel],
    ) -> Result<Vec<(DeployedModel, f64)>, KnowledgeError> {
        let mut met: BTreeSet<String> = rivals.iter().map(|rival| rival.hash.clone()).collect();
        let mut former = Vec::new();
        let task = order.model.task;
        for record in self.view.models_of(task)?.into_iter().rev() {
            let model = record.trained.model;
            if former.len() == MOST_MODELS {
                break;
            }
            if let (Some(_), Some(evaluated)) = (record.deployed, record.evaluated)
                && evaluated.samples >= LEAST_SAMPLES as u64
                && met.insert(record.trained.hash)
            {
                former.push((load(&self.view, model)?, evaluated.log_loss));
            }
        }
        Ok(former)
    }
}
