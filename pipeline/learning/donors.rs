//! Donors: models that were trained elsewhere, on samples that never came here.

use std::collections::BTreeMap;
use std::sync::Arc;

use perennial_connectors::knowledge_base::{DonatedRecord, KnowledgeError};
use perennial_connectors::trainer::{ExamineError, Origin};
use perennial_operators::TaskId;
use perennial_operators::flow::{DeployedModel, ModelDonated};

use super::fit::{MOST_RELATIVES, latest_samples};
use super::losses::{foreign_outputs, losses_of};
use super::round::TrainingRound;
use super::split::Split;

impl TrainingRound<'_> {
    /// The donated model with the least loss on the task's samples, if it loses less than the
    /// incumbent.
    pub(super) fn best_donor(
        &self,
        task: TaskId,
        incumbent: &DeployedModel,
        split: &Split,
    ) -> Result<Option<DeployedModel>, KnowledgeError> {
        let samples = latest_samples(split);
        let Some(mut least) = self.loss_to_beat(incumbent, samples) else {
            return Ok(None);
        };
        let mut best = None;
        for record in self.donations(task)? {
            let onnx = self.view.donated_onnx(&record.donated)?;
            let trained = record.donated.trained;
            let named = format!("a model of {}", record.donated.donor);
            let model = DeployedModel {
                model: trained.model,
                onnx: Arc::new(onnx),
                hash: trained.hash,
                evidence: 0.0,
                scale: None,
            };
            // The donor's own evaluation is not trusted: only the loss on samples here counts.
            if self.context.refused_donors.has(&model.hash) {
                continue;
            }
            let origin = match &*record.donated.donor {
                ModelDonated::CLOUD => Origin::Cloud,
                _ => Origin::Edge,
            };
            match foreign_outputs(self.context, &model.onnx, origin, samples) {
                Ok(outputs) => {
                    let losses = losses_of(self.context, &outputs, samples, self.scale());
                    if let Some(loss) = losses.mean().filter(|loss| *loss < least) {
                        least = loss;
                        best = Some(model);
                    }
                }
                Err(reason) => {
                    let on_any = matches!(
                        reason,
                        ExamineError::Forbidden(_) | ExamineError::Process(_)
                    );
                    if self.context.refused_donors.refuse(&model.hash, on_any) {
                        tracing::warn!(task = %model.model.task, "refused {named}: {reason}");
                    }
                }
            }
        }
        Ok(best)
    }

    /// Donated models that a task may take, at most [`MOST_RELATIVES`]: first those of the same
    /// task, then those whose nearest ancestor in common is nearer.
    fn donations(&self, task: TaskId) -> Result<Vec<DonatedRecord>, KnowledgeError> {
        let distance: BTreeMap<TaskId, usize> = self.path(task).into_iter().zip(0..).collect();
        let mut donations = Vec::new();
        for (subject, record) in self.view.donated()? {
            if !may_donate(&record.donated, task) {
                continue;
            }
            let mut path = record.donated.path.iter().rev();
            let nearest = path.find_map(|above| distance.get(&above.task));
            if let Some(nearest) = nearest {
                donations.push((*nearest, subject, record));
            }
        }
        donations.sort_by_key(|(nearest, subject, _)| (*nearest, *subject));
        donations.truncate(MOST_RELATIVES);
        Ok(donations.into_iter().map(|(.., record)| record).collect())
    }
}

/// Whether a donated model may become a candidate for a task. An edge does not give the base task
/// a model: that one answers for all sites, and the edge knows its own alone. The cloud may, at an
/// edge that trains.
fn may_donate(donated: &ModelDonated, task: TaskId) -> bool {
    task != TaskId::BASE || &*donated.donor == ModelDonated::CLOUD
}
