//! Recount and checks of models and stages.

use std::collections::BTreeMap;

use perennial_operators::ModelId;
use perennial_operators::flow::{StageKind, StageState};

use super::{Finding, Findings, Recount};
use crate::knowledge_base::{KnowledgeError, View};

impl Recount {
    /// Removes a deployed model from its task. Version 0 stands for any version.
    pub(super) fn retire_model(&mut self, model: ModelId) {
        let is_deployed = self.deployed.get(&model.task) == Some(&model.version);
        if model.version == 0 || is_deployed {
            self.deployed.remove(&model.task);
        }
    }

    /// Replaces a model by the version `to`, unless another one was deployed meanwhile.
    pub(super) fn roll_back_model(&mut self, model: ModelId, to: Option<u32>) {
        if self.deployed.get(&model.task) != Some(&model.version) {
            return;
        }
        match to {
            Some(version) => self.deployed.insert(model.task, version),
            None => self.deployed.remove(&model.task),
        };
    }
}

impl View<'_> {
    pub(super) fn verify_models(
        &self,
        recount: &Recount,
        findings: &mut Findings,
    ) -> Result<(), KnowledgeError> {
        let models = self.models()?;
        findings.unless(
            models.keys().eq(recount.trained.iter()),
            "models",
            "the models differ from the trained models of the changes",
        );
        for (model, record) in &models {
            if record.deployed.is_none() {
                continue;
            }
            match self.onnx(*model) {
                Ok(bytes) => findings.unless(
                    bytes.len() as u64 == record.trained.bytes,
                    format!("model {} of task {}", model.version, model.task),
                    "its size differs from its record",
                ),
                Err(KnowledgeError::Damaged { detail, .. }) => findings.0.push(Finding {
                    subject: format!("model {} of task {}", model.version, model.task),
                    problem: detail,
                }),
                Err(error) => return Err(error),
            }
        }
        let stages: BTreeMap<(ModelId, StageKind), StageState> = self
            .stages()?
            .into_iter()
            .map(|(stage, record)| (stage, record.state()))
            .collect();
        findings.unless(
            stages == recount.stages,
            "stages",
            "the stages differ from a recount of the changes",
        );
        Ok(())
    }
}
