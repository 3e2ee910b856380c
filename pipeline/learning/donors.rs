//! Donors: models that were trained elsewhere, on samples that never came here.

use std::collections::BTreeMap;
use std::sync::Arc;

use perennial_connectors::knowledge_base::{DonatedRecord, KnowledgeError};
use perennial_operators::TaskId;
use perennial_operators::flow::DeployedModel;

use super::losses::losses;
use super::remodel::{MOST_RELATIVES, MOST_SAMPLES};
use super::round::TrainingRound;
use super::split::Split;

impl TrainingRound<'_> {
    /// The donor whose model does best on the task's samples, if it does better than the `rival`.
    pub(super) fn best_donor(
        &self,
        task: TaskId,
        rival: &DeployedModel,
        split: &Split,
    ) -> Result<Option<DeployedModel>, KnowledgeError> {
        let latest = split.fitted.len().saturating_sub(MOST_SAMPLES);
        let samples = &split.fitted[latest..];
        let loss = |model: &DeployedModel| {
            losses(self.workshop, &model.onnx, samples, self.scale())
                .ok()?
                .mean()
        };
        let Some(mut least) = loss(rival) else {
            return Ok(None);
        };
        let mut best = None;
        for record in self.donors(task)? {
            let trained = record.donated.trained;
            let named = format!("a model of {}", record.donated.donor);
            let model = DeployedModel {
                model: trained.model,
                onnx: Arc::new(self.view.onnx_under(&trained.hash, &named)?),
                hash: trained.hash,
                evidence: 0.0,
                scale: None,
            };
            // What its site says of it counts for nothing: what counts is how it does here.
            if let Some(own) = loss(&model).filter(|own| *own < least) {
                least = own;
                best = Some(model);
            }
        }
        Ok(best)
    }

    /// Models of donors, those of the same task first, then those with the nearest ancestor in common.
    fn donors(&self, task: TaskId) -> Result<Vec<DonatedRecord>, KnowledgeError> {
        let distance: BTreeMap<TaskId, usize> = self.path(task).into_iter().zip(0..).collect();
        let mut donors = Vec::new();
        for (subject, record) in self.view.donated()? {
            let path = record.donated.path.iter().rev();
            let common = path.clone().find_map(|above| distance.get(&above.task));
            if let Some(common) = common {
                donors.push((*common, subject, record));
            }
        }
        donors.sort_by_key(|(common, subject, _)| (*common, *subject));
        donors.truncate(MOST_RELATIVES);
        Ok(donors.into_iter().map(|(.., record)| record).collect())
    }
}
